"""Jobs of another release: what can be read goes on, the rest fails once, in words, and no worker dies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import video_work
from backend.jobs import JobFunction, JobOptions, JobStatus, JSONDict, MemoryJob
from backend.queue import JobQueue
from backend.tracking import track_job
from backend.video_work import TrackRequest, read_parts
from backend.worker import Worker
from edgetam_model import CheckpointError, InputError, checkpoint
from edgetam_model.demo_clip import BALL, DemoClip
from tests.backend.queue_fixtures import add, state
from tests.backend.tracking_fixtures import drawn, prepared, region, settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("upgrading")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Iterator[DemoClip]:
    with prepared(folder) as made:
        yield made


@pytest.fixture(scope="module")
def track(folder: Path, clip: DemoClip) -> JobFunction:
    return track_job(settings(folder))


@pytest.fixture
def sent(clip: DemoClip) -> JSONDict:
    """A job's payload as this release writes it."""
    return TrackRequest(
        task=7,
        media="clip.mp4",
        hostname=None,
        from_name="box",
        to_name="video",
        command="cmd",
        rate="25",
        data={},
        regions=[region([drawn(clip, BALL)])],
    ).to_json()


def ended(queue: JobQueue, job_id: str) -> JobStatus:
    status = queue.status(job_id)
    assert status is not None
    assert status.is_over
    return status


def do(queue: JobQueue, track: JobFunction, kind: str, payload: JSONDict) -> JobStatus:
    """Have a worker do a job of this payload, and a good one after it."""
    job = queue.enqueue(kind, payload, JobOptions(max_attempts=2)).id
    after = queue.enqueue("after", {}).id
    Worker(queue, {"track": track, "after": lambda _job: None}).work(burst=True)
    assert state(queue, after) == "done", "the worker went on"
    return ended(queue, job)


def begun(track: JobFunction, sent: JSONDict) -> MemoryJob:
    """A job that was stopped in the middle, with its checkpoint."""
    job = MemoryJob(json.loads(json.dumps(sent)), stop_after=5)
    track(job)
    assert job.saved is not None
    return MemoryJob(job.payload, saved=job.saved, parts=job.parts, attempt=2)


def test_a_job_from_before_projects_had_versions_is_done(
    queue: JobQueue, track: JobFunction, sent: JSONDict
) -> None:
    older = {name: value for name, value in sent.items() if name not in ("project", "version", "buttons")}
    assert len(older) < len(sent)
    assert do(queue, track, video_work.KIND, older).state == "done"


@pytest.mark.parametrize(
    "change",
    [{"mood": "new"}, {"task": "seven"}, {"regions": {"1": []}}, {"media": None}],
    ids=lambda change: next(iter(change)),
)
def test_a_payload_of_another_release_fails_at_once_in_words(
    queue: JobQueue, track: JobFunction, sent: JSONDict, change: dict[str, Any]
) -> None:
    status = do(queue, track, video_work.KIND, {**sent, **change})
    assert (status.state, status.attempt) == ("failed", 1)
    assert next(iter(change)) in status.error
    assert "another release" in status.error


def test_a_kind_that_this_release_does_not_know_fails_in_words(queue: JobQueue, track: JobFunction) -> None:
    status = do(queue, track, "paint", {})
    assert (status.state, status.attempt) == ("failed", 1)
    assert "'paint'" in status.error
    assert "older than the server" in status.error


@pytest.mark.parametrize(
    ("field", "value"), [("payload", "{"), ("payload", ""), ("timeout", "soon"), ("queue", "urgent")]
)
def test_a_record_that_cannot_be_read_fails_and_the_worker_lives(
    queue: JobQueue, field: str, value: str
) -> None:
    job, after = add(queue), add(queue)
    queue.store.redis.hset(queue.store.key("job", job), field, value)
    Worker(queue, {"k": lambda _job: None}).work(burst=True)
    status = ended(queue, job)
    assert (status.state, "another release" in status.error) == ("failed", True)
    assert state(queue, after) == "done"


def test_a_track_that_was_begun_goes_on(track: JobFunction, sent: JSONDict) -> None:
    result = track(begun(track, sent))
    assert isinstance(result, dict)
    assert result["complete"] is True


@pytest.mark.parametrize("head", [b'{"leg": 0, "frames": []}', b"[]", b"", b"\xff"])
def test_a_checkpoint_of_another_release_fails_in_words(
    track: JobFunction, sent: JSONDict, head: bytes
) -> None:
    job = begun(track, sent)
    assert job.saved is not None
    job.saved = head + b"\n" + job.saved.partition(b"\n")[2]
    with pytest.raises(CheckpointError, match="another release began this track"):
        track(job)


def test_a_session_of_another_release_fails_in_words(
    track: JobFunction, sent: JSONDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begun(track, sent)
    monkeypatch.setattr(checkpoint, "VERSION", checkpoint.VERSION + 1)
    with pytest.raises(CheckpointError, match="expected a checkpoint of version"):
        track(job)


@pytest.mark.parametrize("part", [7, {"video": {"width": 3}}, {"frames": {"a": [[1, None]]}}, {"notes": []}])
def test_parts_of_another_release_are_refused_in_words(part: Any) -> None:
    with pytest.raises(InputError, match="another release"):
        read_parts([part])
