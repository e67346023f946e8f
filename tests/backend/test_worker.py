"""Workers as processes against a real Redis: killed, stopped, frozen, and with Redis taken away."""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path

import pytest

from backend.embedded_redis import EmbeddedRedis
from backend.jobs import JSON, JobHandle, JobOptions, JobState, JobStatus, TryAgain
from backend.queue import JobQueue
from backend.worker import Worker
from edgetam_model import EdgeTAMError, InputError
from tests.backend.queue_fixtures import deaf, frames_done, new_queue, track, until, work, worker_process

FRAMES, STEP = 150, 0.02  # three seconds of work


def status(queue: JobQueue, job_id: str) -> JobStatus:
    found = queue.status(job_id)
    assert found is not None
    return found


def start(queue: JobQueue, frames: int = FRAMES, step: float = STEP) -> str:
    return queue.enqueue("track", {"frames": frames, "step": step}).id


def frames_of(queue: JobQueue, job_id: str) -> list[JSON]:
    """All frames of the parts, in the order in which a reader gets them."""
    return [frame for part in queue.partials(job_id) if isinstance(part, list) for frame in part]


def end(queue: JobQueue, function: object, options: JobOptions | None = None) -> JobStatus:
    """Run one job with this function here, and say how it ended."""
    job_id = queue.enqueue("k", {"frames": 5, "step": 0.0, "seconds": 9}, options).id
    work(queue, function)  # type: ignore[arg-type]
    return status(queue, job_id)


def test_a_killed_workers_job_is_finished_by_another(queue: JobQueue, url: str) -> None:
    with worker_process(queue, url) as first:
        job_id = start(queue)
        until(lambda: status(queue, job_id).parts >= 1)
        time.sleep(0.5)  # half-way between two checkpoints
        with worker_process(queue, url):
            first.kill()
            before = len(frames_done(queue, job_id))
            resumed = until(lambda: status(queue, job_id).attempt == 2, 10)
            assert until(lambda: len(frames_done(queue, job_id)) > before, 2) + resumed < 10
            until(lambda: status(queue, job_id).is_over)
            assert queue.stats().running == 0
    done = frames_done(queue, job_id)
    assert 0 < (len(done) - FRAMES) * STEP <= 2  # seconds of frames done twice
    assert sorted(set(done)) == list(range(FRAMES))
    assert frames_of(queue, job_id) == list(range(FRAMES))  # each once
    assert queue.result(job_id) == {"frames": FRAMES}
    assert queue.stats().ended == {("track", "done"): 1}
    assert status(queue, job_id).failures == 1


def test_a_frozen_worker_that_comes_back_changes_nothing(queue: JobQueue, url: str) -> None:
    with worker_process(queue, url) as frozen:
        job_id = start(queue)
        until(lambda: status(queue, job_id).parts >= 1)
        frozen.send_signal(signal.SIGSTOP)
        with worker_process(queue, url):
            until(lambda: status(queue, job_id).attempt == 2, 10)
            frozen.send_signal(signal.SIGCONT)
            until(lambda: status(queue, job_id).is_over)
            assert status(queue, job_id).attempt == 2
            assert frames_of(queue, job_id) == list(range(FRAMES))
            until(lambda: len(queue.workers()) == 2)  # it lives on and takes other work
            assert queue.stats().ended == {("track", "done"): 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_worker_hands_its_job_on_within_seconds(
    queue: JobQueue, url: str, number: signal.Signals
) -> None:
    with worker_process(queue, url) as worker:
        job_id = start(queue)
        until(lambda: len(frames_done(queue, job_id)) > 5)
        worker.send_signal(number)
        assert worker.wait(3) == 0
    found = status(queue, job_id)
    assert (found.state, found.failures) == ("queued", 0)
    assert queue.workers() == []
    finished = len(frames_done(queue, job_id))
    Worker(queue, {"track": track(queue)}).work(burst=True)
    assert status(queue, job_id).state == "done"
    assert frames_done(queue, job_id) == list(range(FRAMES))  # not one twice
    assert 5 < finished < FRAMES


def test_a_job_that_does_not_listen_is_interrupted(queue: JobQueue, url: str) -> None:
    with worker_process(queue, url) as worker:
        job_id = queue.enqueue("deaf", {"seconds": 60}).id
        until(lambda: status(queue, job_id).state == "running")
        worker.terminate()
        assert worker.wait(4) == 0  # these workers drain for one second
    assert (status(queue, job_id).state, status(queue, job_id).failures) == ("queued", 0)


def test_redis_restarts_and_nothing_is_lost(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as redis:
        queue = new_queue(redis.url)
        ended = start(queue, 3, 0)
        with worker_process(queue, redis.url):
            until(lambda: status(queue, ended).is_over)
            ids = [start(queue), start(queue, 3, 0)]
            until(lambda: status(queue, ids[0]).parts >= 1)
            redis.stop()
            time.sleep(1)
            with EmbeddedRedis(tmp_path):
                until(lambda: all(found.is_over for found in queue.statuses(ids).values()))
                for job_id, frames in zip([ended, *ids], (3, FRAMES, 3), strict=True):
                    assert status(queue, job_id).state == "done"
                    assert queue.result(job_id) == {"frames": frames}
                    assert frames_of(queue, job_id) == list(range(frames))
                assert frames_done(queue, ids[0]) == list(range(FRAMES))  # it went on, and did none twice
                assert status(queue, ids[0]).attempt == 1


def test_a_cancelled_job_keeps_what_is_finished(queue: JobQueue, url: str) -> None:
    with worker_process(queue, url):
        job_id = start(queue)
        until(lambda: len(frames_done(queue, job_id)) > 5)
        assert queue.cancel(job_id)
        assert until(lambda: status(queue, job_id).is_over) < 2
    found = status(queue, job_id)
    assert (found.state, found.error) == ("cancelled", "cancelled")
    done = frames_done(queue, job_id)
    assert 5 < len(done) < FRAMES
    assert frames_of(queue, job_id) == done == list(range(len(done)))
    assert queue.result(job_id) == {"frames": len(done)}


def test_ten_posts_at_once_run_once(queue: JobQueue, url: str) -> None:
    options = JobOptions(key="the same")
    with worker_process(queue, url), worker_process(queue, url):
        ids = {queue.enqueue("track", {"frames": 20, "step": 0.01}, options).id for _ in range(10)}
        (job_id,) = ids
        until(lambda: status(queue, job_id).is_over)
    assert frames_done(queue, job_id) == list(range(20))
    assert status(queue, job_id).attempt == 1


def test_the_status_page_sees_workers_and_frames_per_second(queue: JobQueue, url: str) -> None:
    with worker_process(queue, url) as process:
        job_id = start(queue)
        until(lambda: any(worker.rate > 10 for worker in queue.workers()))
        (worker,) = queue.workers()
        assert (worker.job, worker.pid, worker.queues) == (
            job_id,
            process.pid,
            ("interactive", "batch", "fit"),
        )
        assert worker.rate < 1 / STEP + 5
        found = status(queue, job_id)
        assert found.note == "tracking"
        assert found.remaining is not None
        assert 0 < found.remaining < 10


def raises(error: Exception) -> object:
    def run(job: JobHandle) -> JSON:
        raise error

    return run


def not_json(job: JobHandle) -> JSON:
    return {"a": {1, 2}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("function", "state", "words"),
    [
        (raises(InputError("video", "expected frames")), "failed", "video: expected frames"),
        (raises(EdgeTAMError("no such weights")), "failed", "no such weights"),
        (raises(TryAgain("Label Studio does not answer")), "queued", "Label Studio does not answer"),
        (raises(RuntimeError("secret at line 3")), "queued", "unexpected RuntimeError; the log of "),
        (not_json, "failed", "result: expected what JSON can hold"),
        (deaf, "failed", "it took longer than the 1 s that it may"),
    ],
)
def test_every_end_has_its_reason_in_plain_words(
    queue: JobQueue, function: object, state: JobState, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = end(queue, function, JobOptions(timeout=1))
    assert (found.state, found.failures) == (state, int(state == "queued"))
    assert found.error.startswith(words)
    assert "secret" not in found.error
    if "RuntimeError" in words:
        assert "secret at line 3" in caplog.text  # the traceback is in the log, with the job's id
        assert found.id in caplog.text


def test_a_kind_that_nobody_knows_is_no_workers_death(queue: JobQueue) -> None:
    job_id = queue.enqueue("unheard", {}).id
    work(queue, deaf)
    assert status(queue, job_id).state == "failed"
    assert "no function for the kind 'unheard'" in status(queue, job_id).error
    assert [dead.id for dead in queue.dead()] == [job_id]


def test_no_payload_and_no_result_is_logged(queue: JobQueue, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    job_id = queue.enqueue("k", {"token": "s3cret"}).id
    work(queue, lambda job: {"answer": str(job.payload["token"])})
    assert queue.result(job_id) == {"answer": "s3cret"}
    assert "s3cret" not in "".join(
        line.getMessage() for line in caplog.records if line.name.startswith("backend")
    )
