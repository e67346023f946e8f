"""What follows from which event, and that a storm of them is one job, answered at once."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from backend import events
from backend.app import create_app
from backend.fit_schedule import KIND, FitSchedule
from backend.protocol import WebhookRequest, read_body
from backend.queue import JobQueue
from backend.worker_job import RunningJob
from edgetam_model import InputError
from tests.backend.queue_fixtures import sweep, take
from tests.backend.server_fixtures import MemoryQueue, services_in

PROJECT = {"id": 7, "title": "secret"}
DRAWN = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "ANNOTATION_DELETED")


def event(action: str, *annotations: int, project: Any = PROJECT) -> dict[str, Any]:
    """As Label Studio sends it."""
    body = {"action": action, "project": project, "task": {"id": 3, "data": {}}}
    if action == "START_TRAINING":
        return {"action": action, "project": project}
    if action == "ANNOTATIONS_DELETED":
        return {**body, "annotations": [{"id": number} for number in annotations]}
    return {**body, "annotation": {"id": annotations[0], "result": []} if annotations else None}


def told(queue: MemoryQueue, body: dict[str, Any], **schedule: Any) -> str | None:
    return events.record(WebhookRequest.model_validate(body), queue, FitSchedule(**schedule))


@pytest.mark.parametrize("action", DRAWN)
def test_annotations_are_gathered_by_project(action: str) -> None:
    queue = MemoryQueue()
    assert told(queue, event(action, 5), after=3, seconds=60) == "job-1"
    ((kind, payload, gathering, things),) = queue.calls
    assert (kind, payload, things) == (KIND, {"project": 7}, ("5",))
    assert (gathering.lane, gathering.count, gathering.seconds) == ("fit:7", 3, 60)


def test_a_deletion_of_many_counts_each() -> None:
    queue = MemoryQueue()
    told(queue, event("ANNOTATIONS_DELETED", 5, 6, 7))
    assert queue.calls[0][3] == ("5", "6", "7")


def test_an_event_that_names_no_annotation_counts_by_its_task() -> None:
    queue = MemoryQueue()
    told(queue, event("ANNOTATION_CREATED"))
    assert queue.calls[0][3] == ("task 3",)


def test_a_request_waits_for_nothing() -> None:
    queue = MemoryQueue()
    told(queue, event("START_TRAINING"), after=0)
    ((_, _, gathering, things),) = queue.calls
    assert (gathering.lane, gathering.count, things) == ("fit:7", 0, ())


def test_without_a_number_of_annotations_only_a_request_trains() -> None:
    queue = MemoryQueue()
    assert told(queue, event("ANNOTATION_CREATED", 5), after=0) is None
    assert not queue.calls


@pytest.mark.parametrize("action", ["PROJECT_UPDATED", "TASKS_CREATED", ""])
def test_other_events_train_nothing(action: str) -> None:
    queue = MemoryQueue()
    assert told(queue, {"action": action, "project": PROJECT}) is None
    assert not queue.calls


@pytest.mark.parametrize(("project", "number"), [({"id": 7}, 7), (7, 7), ("7", 7), ("7.1700000000", 7)])
def test_projects_are_named_in_several_ways(project: Any, number: int) -> None:
    queue = MemoryQueue()
    told(queue, event("START_TRAINING", project=project))
    assert queue.calls[0][1] == {"project": number}


@pytest.mark.parametrize(
    ("project", "field"),
    [
        ({}, "project.id"),
        ({"id": None}, "project.id"),
        ({"id": "x"}, "project.id"),
        ({"id": 0}, "project.id"),
        ({"id": True}, "project.id"),
        (None, "project"),
        (-1, "project"),
        ("../7", "project"),
        ([7], "project"),
    ],
)
def test_an_event_about_no_project_is_named(tmp_path: Path, project: Any, field: str) -> None:
    queue = MemoryQueue()
    client = create_app(services_in(tmp_path, queue=queue)).test_client()
    for action in ("ANNOTATION_CREATED", "START_TRAINING"):
        answer = client.post("/webhook", json=event(action, 5, project=project))
        assert answer.status_code == 400
        assert answer.get_json()["error"]["field"] == field
    assert not queue.calls


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        (b"{}", "action"),
        (b'{"action": null}', "action"),
        (b'{"action": ["START_TRAINING"]}', "action"),
        (b'{"action": "' + b"x" * 101 + b'"}', "action"),
        (b'{"action": "START_TRAINING", "project": NaN}', "body"),
    ],
)
def test_a_malformed_event_names_the_field(tmp_path: Path, body: bytes, field: str) -> None:
    client = create_app(services_in(tmp_path)).test_client()
    answer = client.post("/webhook", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.get_json()["error"]["field"] == field


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "x"]), inner),
)


@given(st.sampled_from([*DRAWN, "START_TRAINING"]), JSONS, JSONS, JSONS, JSONS)
def test_any_event_is_kept_or_its_project_named(
    action: str, project: Any, task: Any, one: Any, many: Any
) -> None:
    queue = MemoryQueue()
    body = {"action": action, "project": project, "task": task, "annotation": one, "annotations": many}
    fields = []
    try:
        events.record(read_body(WebhookRequest, json.dumps(body).encode()), queue, FitSchedule())
    except InputError as error:
        fields = [error.field]
    assert len(queue.calls) + len(fields) == 1
    assert set(fields) <= {"project", "project.id"}
    assert all(isinstance(thing, str) for *_, things in queue.calls for thing in things)


@pytest.fixture
def client(queue: JobQueue, tmp_path: Path) -> FlaskClient:
    """A server over a real queue."""
    return create_app(replace(services_in(tmp_path), queue=queue)).test_client()


def post(client: FlaskClient, body: dict[str, Any]) -> str:
    answer = client.post("/webhook", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.get_json()["job_id"])


def begin(queue: JobQueue) -> RunningJob | None:
    sweep(queue)
    return take(queue)


def test_a_storm_of_events_is_one_job_and_each_is_answered_at_once(
    queue: JobQueue, client: FlaskClient
) -> None:
    slowest, guard = [0.0], threading.Lock()

    def annotate(number: int) -> str:
        begun = time.monotonic()
        job_id = post(client.application.test_client(), event(DRAWN[number % 2], number // 2))
        with guard:
            slowest[0] = max(slowest[0], time.monotonic() - begun)
        return job_id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(annotate, range(200)))
    assert len(ids) == 1
    assert slowest[0] < 1  # the time that Label Studio waits
    assert [job.id for job in queue.recent()] == list(ids)
    job = begin(queue)
    assert job is not None
    assert (job.kind, job.payload) == (KIND, {"project": 7})
    job.settle("done", "null")
    assert begin(queue) is None


def test_a_job_waits_for_more_and_a_request_begins_it(queue: JobQueue, client: FlaskClient) -> None:
    job_id = post(client, event("ANNOTATION_CREATED", 5))
    assert begin(queue) is None
    status = queue.status(job_id)
    assert status is not None
    assert status.note.startswith("waits for 19 more annotations or until ")
    assert (status.title, status.queue) == ("training of project 7", "fit")
    assert post(client, event("START_TRAINING")) == job_id
    assert begin(queue) is not None


def test_events_during_a_training_make_one_more(queue: JobQueue, client: FlaskClient) -> None:
    first = post(client, event("START_TRAINING"))
    job = begin(queue)
    assert job is not None
    others = {post(client, event("ANNOTATION_CREATED", number)) for number in range(50)}
    assert len(others) == 1
    assert first not in others
    assert begin(queue) is None
    job.settle("done", "null")
    second = begin(queue)
    assert second is not None
    assert {second.id} == others


def test_the_queue_outlives_the_server(queue: JobQueue, tmp_path: Path) -> None:
    """Several servers, and one that was started again, count together."""
    for number in range(20):
        server = create_app(
            replace(services_in(tmp_path), queue=JobQueue(queue.store.redis, namespace=queue.store.namespace))
        )
        post(server.test_client(), event("ANNOTATION_CREATED", number))
    assert begin(queue) is not None
