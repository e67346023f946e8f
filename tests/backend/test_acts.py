"""The record of who did what: one line for each act, with ids alone."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend import acts
from backend.app import create_app
from backend.gate import Client
from backend.jobs import JobOptions
from backend.loading import BackgroundModel
from backend.logs import Problems
from backend.queue import JobQueue
from backend.status_page import StatusPages
from backend.video_requests import VideoRequests
from edgetam_model.demo_clip import DemoClip
from tests.backend.server_fixtures import services_in, tiny
from tests.backend.tracking_fixtures import Marked, both, config, prepare, settings, task

BASIC = {"Authorization": "Basic " + base64.b64encode(b"ls:p4ss").decode()}
LS = {"who": "ls", "address": "127.0.0.1"}


@pytest.fixture(autouse=True)
def recorded(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO, "backend.acts")
    yield
    acts.set_client(acts.NOBODY)


def records(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.name == "backend.acts"]  # type: ignore[attr-defined]


def client_over(folder: Path, queue: JobQueue) -> FlaskClient:
    services = services_in(folder, BASIC_AUTH_USER="ls", BASIC_AUTH_PASS="p4ss")
    pages = StatusPages(queue, BackgroundModel(tiny), Problems())
    return create_app(replace(services, pages=pages)).test_client()


def test_buttons_of_the_status_page(
    tmp_path: Path, queue: JobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_over(tmp_path, queue)
    job = queue.enqueue("k", {"secret": "b0dy"}, JobOptions()).id
    for what, status in (("cancel", 200), ("cancel", 409), ("retry", 200)):
        answer = client.post(f"/api/jobs/{job}/{what}", json={}, headers=BASIC)
        assert answer.status_code == status
    assert client.get(f"/api/jobs/{job}", headers=BASIC).status_code == 200
    assert client.post("/api/jobs/nobody/cancel", json={}, headers=BASIC).status_code == 404
    assert records(caplog) == [{"act": what, **LS, "job": job} for what in ("cancel", "retry")]
    assert f"ls at 127.0.0.1: cancel job {job}" in caplog.text
    assert "b0dy" not in caplog.text
    assert "p4ss" not in caplog.text


def test_events_that_lead_to_a_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    client = create_app(services_in(tmp_path)).test_client()
    client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 7, "title": "b0dy"}})
    client.post("/webhook", json={"action": "ANNOTATION_CREATED", "project": 7, "annotation": {"id": 5}})
    client.post("/webhook", json={"action": "TASKS_CREATED", "project": 7})
    nobody = {"who": "", "address": "127.0.0.1", "project": "7"}
    assert records(caplog) == [
        {"act": "train", "job": "job-1", **nobody},
        {"act": "annotate", "job": "job-2", **nobody},
    ]
    assert "b0dy" not in caplog.text


def test_a_press_is_one_act_and_its_repetition_none(
    queue: JobQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip: DemoClip = prepare(tmp_path)
    requests = VideoRequests(settings(tmp_path, "sees", answer_seconds=0), queue)
    acts.set_client(Client("ls", "10.0.0.9"))
    for _ in range(2):
        requests.answer(task(), both(clip), config(), Marked(), hostname=None, interactive=True)
    (job,) = queue.recent()
    (record,) = records(caplog)
    assert (record["act"], record["who"], record["address"]) == ("track", "ls", "10.0.0.9")
    assert record["job"] == job.id
