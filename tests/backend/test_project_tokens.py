"""Tokens of single projects: how they are written, whom they let in, and that they open nothing else."""

from __future__ import annotations

import base64
import logging
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from backend import acts
from backend.access import Access, Unauthorized, Visitor, basic_header
from backend.app import create_app
from backend.jobs import JSON, JobHandle, JobOptions
from backend.logs import Problems
from backend.queue import JobQueue
from backend.settings import Settings
from backend.status_page import StatusPages
from backend.video_requests import VideoRequests
from edgetam_model import InputError
from edgetam_model.demo_clip import DemoClip
from tests.backend.queue_fixtures import running, state, work
from tests.backend.server_fixtures import click, image_task, picture, predict_body, services_in
from tests.backend.tracking_fixtures import Marked, both, config, prepare, settings, task
from tests.backend.version_fixtures import line_of
from tests.backend.video_json import command

NAME = "EDGETAM_PROJECT_TOKENS"
TOKENS: dict[str, Any] = {"EDGETAM_TOKEN": "s3cret-of-all", NAME: "7=s3cret-of-7, 9=s3cret-of-9"}
ALL, SEVEN, NINE = (
    {"Authorization": f"Bearer {token}"} for token in ("s3cret-of-all", "s3cret-of-7", "s3cret-of-9")
)
VISIBLE = st.text(string.ascii_letters + string.digits + string.punctuation.replace(",", ""), min_size=1)


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    yield
    acts.set_client(acts.NOBODY)


@pytest.fixture
def client(tmp_path: Path, queue: JobQueue) -> FlaskClient:
    """Two projects with a version each, and a video job of each in the queue."""
    services = services_in(tmp_path, **TOKENS)
    for project in ("project-7", "project-9"):
        line_of(services.models.store, 1, project=project)
    pages: Any = StatusPages.from_settings(services.settings, queue, services.models, Problems())
    return create_app(replace(services, pages=pages)).test_client()


def read(text: str) -> dict[str, str]:
    found = Settings.from_env({"EDGETAM_TOKEN": "of all", NAME: text}).project_tokens
    return {project: token.get_secret_value() for project, token in found.items()}


def add(queue: JobQueue, project: str) -> str:
    return queue.enqueue("k", {}, JobOptions(project=project, title=f"of {project}")).id


@given(st.dictionaries(st.integers(1, 10**18 - 1).map(str), VISIBLE, max_size=5))
def test_tokens_are_read_as_they_are_written(tokens: dict[str, str]) -> None:
    if len(set(tokens.values())) == len(tokens):
        assert read(" , ".join(f"{number}={token}" for number, token in tokens.items())) == tokens


def test_tokens_may_lie_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("7=one\n\n9=tw=o\n")
    assert read(f"@{file}") == {"7": "one", "9": "tw=o"}


@pytest.mark.parametrize(
    "text",
    [
        *("s3cret", "7:s3cret", "x=s3cret", "0=s3cret", "07=s3cret", "7=", "7=s3 cret", "7=s3crét"),
        *("7=s3cret,7=other", "7=s3cret,9=s3cret", "7=of-all", "@/nowhere/s3cret", "@/dev"),
    ],
)
def test_other_forms_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InputError) as refused:
        Settings.from_env({"EDGETAM_TOKEN": "of-all", NAME: text})
    assert refused.value.field == NAME
    assert "s3cr" not in str(refused.value)


def test_a_server_of_projects_has_an_operator() -> None:
    with pytest.raises(InputError, match="EDGETAM_TOKEN or BASIC_AUTH_USER") as refused:
        Settings.from_env({NAME: "7=s3cret"})
    assert refused.value.field == NAME
    known = Settings.from_env(TOKENS)
    assert "s3cret" not in repr(known) + str(known.model_dump())


def test_who_is_let_in() -> None:
    access = Access.from_settings(
        Settings.from_env({"BASIC_AUTH_USER": "ls", "BASIC_AUTH_PASS": "p", **TOKENS})
    )
    whole = [basic_header("ls", SecretStr("p")), basic_header("token", SecretStr("s3cret-of-all"))]
    assert [access.check(header.get_secret_value()) for header in whole] == [Visitor("ls"), Visitor("token")]
    seven = Visitor("project-7", "7")
    own = basic_header("project-7", SecretStr("s3cret-of-7")).get_secret_value()
    assert access.check(own) == access.check("Bearer s3cret-of-7") == seven
    for user in ("project-9", "token", "ls", "", "7"):
        with pytest.raises(Unauthorized):
            access.check(basic_header(user, SecretStr("s3cret-of-7")).get_secret_value())
    assert access.pair(8) == access.pair() == ("ls", SecretStr("p"))
    assert access.pair(7) == ("project-7", SecretStr("s3cret-of-7"))


def test_label_studio_labels_its_project_with_it_and_no_other(tmp_path: Path, client: FlaskClient) -> None:
    image = image_task(picture(tmp_path / "a.png"))
    body = predict_body(image, context={"result": [click(50, 50)]})
    seven = base64.b64encode(b"project-7:s3cret-of-7").decode()  # as Label Studio sends it
    answer = client.post("/predict", json=body, headers={"Authorization": f"Basic {seven}"})
    assert (answer.status_code, len(answer.get_json()["results"])) == (200, 1)
    assert client.post("/predict", json=body, headers=ALL).status_code == 200
    refused = client.post("/predict", json=body, headers=NINE)
    assert refused.status_code == 403
    assert refused.get_json()["error"]["problem"] == "this token is for project 9 alone"
    for wrong in (
        {**body, "tasks": [{**image, "project": 9}]},
        {**body, "tasks": [{**image, "project": 7}, {**image, "project": {"id": 9}}]},
        {**body, "project": None},
        {**body, "project": "9.1700000000", "tasks": [{**image, "project": 7}]},
    ):
        assert client.post("/predict", json=wrong, headers=SEVEN).status_code == 403


def test_a_project_introduces_itself_and_learns_alone(client: FlaskClient) -> None:
    def asked(path: str, project: object, **more: Any) -> int:
        return client.post(path, json={"project": project, **more}, headers=SEVEN).status_code

    assert [asked("/setup", project) for project in ("7.17", "9.17", "", "x")] == [200, 403, 403, 403]
    events = [asked("/webhook", project, action="START_TRAINING") for project in (7, {"id": 9}, None)]
    assert events == [201, 403, 403]
    mine = client.get("/versions", headers=SEVEN).get_json()["versions"]
    assert mine == client.get("/versions?project=7", headers=ALL).get_json()["versions"]
    assert len(client.get("/versions", headers=ALL).get_json()["versions"]) == len(mine) + 1
    assert client.get("/versions?project=9", headers=SEVEN).status_code == 403


def test_jobs_of_other_projects_are_unknown(client: FlaskClient, queue: JobQueue) -> None:
    own, other, nobodys = add(queue, "7"), add(queue, "9"), add(queue, "")
    facts = client.get("/api/jobs", headers=SEVEN).get_json()
    assert [job["id"] for job in facts["jobs"]] == [own]
    assert {job["id"] for job in client.get("/api/jobs", headers=ALL).get_json()["jobs"]} == {
        own,
        other,
        nobodys,
    }
    for job in (other, nobodys):
        for path in (f"/api/jobs/{job}", f"/api/jobs/{job}/thumbnail"):
            assert client.get(path, headers=SEVEN).status_code == 404
        for what in ("cancel", "retry"):
            assert client.post(f"/api/jobs/{job}/{what}", json={}, headers=SEVEN).status_code == 404
        assert state(queue, job) == "queued"
    assert client.post(f"/api/jobs/{own}/cancel", json={}, headers=SEVEN).status_code == 200
    assert client.post(f"/api/jobs/{other}/cancel", json={}, headers=ALL).status_code == 200


def test_failures_and_workers_of_others_are_not_told(client: FlaskClient, queue: JobQueue) -> None:
    def fail(job: JobHandle) -> JSON:
        raise InputError("video", "is broken")

    for project in ("7", "9"):
        queue.enqueue("k", {}, JobOptions(project=project, title=f"of {project}"))
    work(queue, fail)
    held = running(queue, JobOptions(project="9"))
    client.post("/predict", json={}, headers=ALL)  # a problem of a request
    for path in ("/api/failures", "/api/jobs"):
        found = client.get(path, headers=SEVEN).get_json()["failures"]
        assert [failure["title"] for failure in found] == ["of 7"]
    assert held.id not in client.get("/api/jobs", headers=SEVEN).text
    assert client.get("/api/workers", headers=SEVEN).status_code == 403
    assert client.get("/metrics", headers=SEVEN).status_code == 403
    assert client.get("/api/workers", headers=ALL).status_code == 200


def test_versions_of_others_are_neither_told_nor_switched(client: FlaskClient) -> None:
    found = client.get("/api/versions", headers=SEVEN).get_json()["projects"]
    assert [one["project"] for one in found] == ["project-7"]
    for path in ("project-9", "project-9/v0001", "project-9/v0001/report/index.html", "project-70"):
        assert client.get(f"/api/versions/{path}", headers=SEVEN).status_code == 404, path
    for act in ("v0001/promote", "rollback", "v0001/delete"):
        other = client.post(f"/api/versions/project-9/{act}", json={}, headers=SEVEN)
        assert other.status_code == 404, act
    assert client.get("/api/versions/project-7/v0001/report/index.html", headers=SEVEN).status_code == 200
    assert client.post("/api/versions/project-7/rollback", json={}, headers=SEVEN).status_code == 200


def test_the_record_names_the_token_and_nothing_holds_it(
    client: FlaskClient, queue: JobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    job = add(queue, "7")
    client.post(f"/api/jobs/{job}/cancel", json={}, headers=SEVEN)
    client.post(f"/api/jobs/{job}/cancel", json={}, headers={"Authorization": "Bearer wr0ng"})
    assert f"project-7 at 127.0.0.1: cancel job {job}" in caplog.text
    everything = caplog.text + str([record.__dict__ for record in caplog.records])
    assert "s3cret" not in everything
    assert "wr0ng" not in everything


def test_a_press_never_touches_another_project_s_job(queue: JobQueue, tmp_path: Path) -> None:
    """A request may name any task: the same numbers of another project are other tasks."""
    clip: DemoClip = prepare(tmp_path)
    requests = VideoRequests(settings(tmp_path, "sees", answer_seconds=0), queue)

    def press(project: str, *more: dict[str, Any]) -> None:
        drawn = {"result": [*both(clip)["result"], *more]}
        requests.answer(task(), drawn, config(), Marked(project=project), hostname=None, interactive=True)

    for project in ("7", "9", "9", "7"):
        press(project)
    (of_nine, of_seven) = queue.recent()
    assert [of_seven.project, of_nine.project] == ["7", "9"]
    press("9", command("stop"), command("stop", name="b"))
    assert state(queue, of_nine.id) == "cancelled"
    assert state(queue, of_seven.id) == "queued"
