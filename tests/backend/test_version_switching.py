"""Versions as Label Studio meets them: in every answer, through promotions and rollbacks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.app import create_app
from backend.images import ImageLimits
from backend.loading import version_of
from backend.services import Services
from edgetam_model import VersionStore
from tests.backend.server_fixtures import (
    IMAGE_CONFIG,
    VIDEO_CONFIG,
    MemoryVideo,
    box,
    click,
    image_task,
    picture,
    predict_body,
    services_in,
    tiny,
)
from tests.backend.version_fixtures import P, damage, fine_tuned, line_of, v

TASKS = 2  # of a batch, so that a switch may fall between


@pytest.fixture
def services(tmp_path: Path) -> Services:
    picture(tmp_path / "a.png", seed=1)
    picture(tmp_path / "b.png", seed=2)
    return services_in(tmp_path)


@pytest.fixture
def store(services: Services) -> VersionStore:
    return services.models.store


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()


def setup(client: FlaskClient, project: str = "7.1700000000") -> str:
    answer = client.post("/setup", json={"project": project, "schema": IMAGE_CONFIG})
    return str(answer.get_json()["model_version"])


def clicked(client: FlaskClient, **more: Any) -> dict[str, Any]:
    body = predict_body(image_task("a.png"), context={"result": [click(50, 50)]}) | more
    answer: dict[str, Any] = client.post("/predict", json=body).get_json()["results"][0]
    return answer


def batch(client: FlaskClient) -> list[dict[str, Any]]:
    """One answer about several tasks."""
    tasks = [image_task(name, box(10, 10, 60, 60)) for name in ("a.png", "b.png")]
    results: list[dict[str, Any]] = client.post("/predict", json=predict_body(*tasks)).get_json()["results"]
    assert len(results) == TASKS
    return results


def shapes(answer: Any) -> str:
    """The masks of an answer, without the marks of who made them."""
    return json.dumps([entry["value"] for entry in answer["result"]])


def test_every_answer_carries_the_version_that_made_it(client: FlaskClient, store: VersionStore) -> None:
    base = version_of(tiny())
    assert setup(client) == clicked(client)["model_version"] == base
    line_of(store, 1)
    own = setup(client)
    assert own.startswith("edgetam-project-7/v0001-")
    assert clicked(client)["model_version"] == own
    assert {entry["model_version"] for entry in batch(client)} == {own}
    assert setup(client, "8.1700000000") == clicked(client, project="8.17")["model_version"] == base
    store.rollback(P)
    assert setup(client) == clicked(client)["model_version"] == base


def test_a_project_is_known_however_it_is_written(client: FlaskClient, store: VersionStore) -> None:
    line_of(store, 1)
    for known in ("7", "7.", "7.1", "007.1700000000", 7, 7.25):
        assert clicked(client, project=known)["model_version"].startswith("edgetam-project-7/v0001-"), known
    for unknown in ("", None, "x", "7x", "-7", "7/../8", "7.1.2", "٧", "1" * 30):
        assert clicked(client, project=unknown)["model_version"] == version_of(tiny()), unknown


def test_a_task_tells_its_project_where_the_request_does_not(
    client: FlaskClient, store: VersionStore
) -> None:
    line_of(store, 1)
    task = image_task("a.png") | {"project": 7}
    assert clicked(client, project=None, tasks=[task])["model_version"].startswith("edgetam-project-7/")
    assert clicked(client, project="8.1", tasks=[task])["model_version"] == version_of(tiny())


def test_versions_are_listed(client: FlaskClient, store: VersionStore) -> None:
    base = version_of(tiny())
    assert client.get("/versions").get_json() == {"versions": [base]}
    line_of(store, 1, 2)
    line_of(store, 3, project="project-8")
    mine = client.get("/versions?project=7.1700000000").get_json()["versions"]
    assert mine[0] == base
    assert [text.rpartition("-")[0] for text in mine[1:]] == [f"edgetam-{v(1)}", f"edgetam-{v(2)}"]
    assert client.get("/versions?project=9").get_json() == {"versions": [base]}
    everything = client.get("/versions").get_json()["versions"]  # as Label Studio asks
    assert (everything[:3], len(everything)) == (mine, 4)


def test_a_rollback_brings_back_the_old_masks_bit_for_bit(
    client: FlaskClient, store: VersionStore, tmp_path: Path
) -> None:
    line_of(store, 1)
    before = clicked(client)
    line = [before, batch(client)]
    line_of(store, 2)
    after = clicked(client)
    assert after["model_version"] != before["model_version"]
    assert shapes(after) != shapes(before)
    store.rollback(P, "v0001")
    assert [clicked(client), batch(client)] == line
    fresh = create_app(services_in(tmp_path)).test_client()  # never served the other
    assert [clicked(fresh), batch(fresh)] == line


def test_a_damaged_version_breaks_nothing_and_is_told(client: FlaskClient, store: VersionStore) -> None:
    base = clicked(client)
    assert "unusable_versions" not in client.get("/health").get_json()
    line_of(store, 1)
    damage(store, v(1))
    assert clicked(client) == base
    assert setup(client) == base["model_version"]
    health = client.get("/health").get_json()
    assert (health["status"], health["model"]["state"]) == ("UP", "ready")
    assert "damaged" in health["unusable_versions"][f"{P}/v0001"]


def test_videos_are_asked_for_with_what_serves(tmp_path: Path) -> None:
    video = MemoryVideo(results=[])
    services = services_in(tmp_path, video=video)
    client = create_app(services).test_client()
    line_of(services.models.store, 1)
    body = predict_body({"id": 3, "data": {"video": "v.mp4"}}, config=VIDEO_CONFIG, context={"result": []})
    for project in ("7.1", "8.1"):
        client.post("/predict", json=body | {"project": project})
    assert [(one.project, one.label) for one in video.served] == [("7", "v0001"), ("8", "base")]


@contextmanager
def switching(store: VersionStore) -> Iterator[None]:
    """Somebody who promotes and rolls back all the time."""
    done = threading.Event()

    def switch() -> None:
        while not done.is_set():
            store.promote(v(2))
            store.rollback(P, "base")
            store.promote(v(1))

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_ten_people_ask_while_versions_are_switched(services: Services, store: VersionStore) -> None:
    """Every answer is entirely of one version, whatever happens between its tasks."""
    app = create_app(services)
    line_of(store, 1, 2)
    expected = {}
    for target in ("v0002", "v0001", "base"):
        store.rollback(P, target)
        found = batch(app.test_client())
        expected[found[0]["model_version"]] = found
    assert len({shapes(found[0]) for found in expected.values()}) == 3
    answers: list[list[dict[str, Any]]] = []

    def ask() -> None:
        client = app.test_client()
        answers.extend(batch(client) for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(10)]
    with switching(store):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 100
    for answer in answers:
        assert answer == expected[answer[0]["model_version"]]
    assert len({answer[0]["model_version"] for answer in answers}) > 1


def test_images_of_models_that_went_are_forgotten(tmp_path: Path) -> None:
    """An image keeps its model in memory, whatever else let go of it."""
    picture(tmp_path / "a.png")
    services = services_in(tmp_path, limits=ImageLimits(cache_models=2))
    client, cache = create_app(services).test_client(), services.images.cache
    for seed in (1, 2, 3):
        line_of(services.models.store, seed, project=f"project-{seed}")
        clicked(client, project=str(seed))
    assert {model for model, _ in cache._images} == {fine_tuned(seed).fingerprint() for seed in (2, 3)}
    for project in ("3", "2"):
        clicked(client, project=project)
    assert (cache.hits, cache.misses) == (2, 3)
