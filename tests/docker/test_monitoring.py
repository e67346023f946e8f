"""Dashboard, alerts and autoscaling ask for metrics, labels and values that /metrics really has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend.app import create_app
from backend.embedded_redis import EmbeddedRedis
from backend.jobs import JobOptions
from backend.queue import JobQueue
from backend.queue_store import connect
from backend.worker import Worker
from edgetam_model import EdgeTAMError
from tests.backend.queue_fixtures import running, work
from tests.backend.server_fixtures import click, image_task, picture, predict_body, services_in
from tests.docker.recipes import alerts, dashboard, manifest

Metrics = dict[str, dict[str, set[str]]]  # name → label → values seen
SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? \S+$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
WORDS = {"by", "max", "min", "sum", "rate", "increase", "count", "absent", "histogram_quantile"}
FROM_SCRAPING = {"job", "instance"}  # Prometheus puts them on


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    """What a server with a real queue tells after a job done, one failed, one waiting and one running."""
    folder = tmp_path_factory.mktemp("server")
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        queue = JobQueue(connect(redis.url, patience=5))
        fill(queue)
        services = replace(services_in(folder), queue=queue)
        client = create_app(services).test_client()
        task = image_task(picture(folder / "a.png"))
        for _ in range(2):
            assert (
                client.post(
                    "/predict", json=predict_body(task, context={"result": [click(5, 5)]})
                ).status_code
                == 200
            )
        client.post("/predict", json={"tasks": 7})
        client.get("/health")
        Worker(queue, {})._tick()  # a worker's sign of life, which lasts 5 s
        text = client.get("/metrics").text
        queue.store.redis.close()
    return parsed(text)


def fill(queue: JobQueue) -> None:
    def refuse(_job: object) -> None:
        raise EdgeTAMError("refused")

    queue.enqueue("k", {})
    work(queue, lambda _job: None)
    queue.enqueue("k", {})
    work(queue, refuse)
    running(queue)
    queue.enqueue("k", {}, JobOptions(queue="batch"))


def parsed(text: str) -> Metrics:
    found: Metrics = {}
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match:
            labels = found.setdefault(match[1], {})
            for name, value in LABEL.findall(match[2] or ""):
                labels.setdefault(name, set()).add(value)
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Where it stands, and the query."""
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield f"panel-{panel['title']}", target["expr"]
    for rule in alerts():
        yield f"alert-{rule['alert']}", rule["expr"]
    for trigger in manifest("ScaledObject", "edgetam-worker")["spec"]["triggers"]:
        yield f"keda-{trigger['name']}", trigger["metadata"]["query"]


@pytest.mark.parametrize(("place", "query"), list(queries()), ids=lambda text: text[:40])
def test_a_query_asks_for_what_is_there(place: str, query: str, exported: Metrics) -> None:
    bare = re.sub(r"\[[^]]*\]", "", query)
    assert bare.count("(") == bare.count(")")
    names = re.findall(r"\b(?:edgetam|process)_[a-z_]+", bare)
    assert names, place
    labels: dict[str, set[str]] = {}
    for name in names:
        assert name in exported, f"{place}: nothing tells {name}"
        for label, values in exported[name].items():
            labels.setdefault(label, set()).update(values)
    for group in re.findall(r"by \(([^)]*)\)", bare):
        for label in group.split(", "):
            assert label in labels or label in FROM_SCRAPING, f"{place}: {label}"
    for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', bare):
        if label in FROM_SCRAPING:
            continue
        wanted = value.split("|") if operator == "=~" else [value]
        known = labels[label] | ({"/setup", "/webhook"} if label == "route" else set())
        assert set(wanted) <= known, f"{place}: {label}"
    rest = re.sub(r'\{[^}]*\}|by \([^)]*\)|"[^"]*"', "", bare)
    unknown = {word for word in re.findall(r"[a-z_]{2,}", rest) if word not in names} - WORDS
    assert not unknown, unknown


def test_every_metric_is_shown(exported: Metrics) -> None:
    shown = " ".join(query for place, query in queries() if place.startswith("panel"))
    hidden = {
        name for name in exported if name.removesuffix("_sum").removesuffix("_count") + "_bucket" not in shown
    }
    assert {name for name in hidden if name not in shown} == set()


def test_legends_name_labels_of_their_query() -> None:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
                assert (label in FROM_SCRAPING) or any(label in group for group in grouped), panel["title"]


def test_panels_have_a_place_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for number, panel in enumerate(dashboard()["panels"], 1):
        place = panel["gridPos"]
        assert panel["id"] == number
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_alerts_say_what_is_wrong_and_are_explained() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")
        assert f"`{rule['alert']}`" in text, rule["alert"]
