"""The job in a worker's hands: every write fenced, repeated steps done once, room for the urgent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend import queue_scripts as scripts
from backend import worker_job
from backend.jobs import JobHandle, JobLost, JobOptions, MemoryJob
from backend.queue import JobQueue
from backend.worker_job import claim
from edgetam_model import InputError
from tests.backend.queue_fixtures import add, lose, new_queue, running, state, sweep, take


def test_a_worker_that_lost_its_job_writes_nothing(queue: JobQueue) -> None:
    zombie = running(queue)
    zombie.partial("zombie 0")
    zombie.checkpoint(b"zombie")
    lose(queue, zombie)
    heir = take(queue)
    assert heir is not None
    assert (heir.id, heir.attempt) == (zombie.id, 2)
    assert heir.last_checkpoint() == b"zombie"
    heir.partial("heir 1")

    with pytest.raises(JobLost):
        zombie.partial("zombie 1")
    with pytest.raises(JobLost):
        zombie.checkpoint(b"zombie again")
    zombie.progress(99, 100, "zombie")
    zombie.beat()
    assert zombie.cancelled()
    assert zombie.stop_reason == "lost"
    assert not zombie.settle("done", '"zombie"')

    status = queue.status(heir.id)
    assert status is not None
    assert (status.state, status.attempt, status.done, status.note) == ("running", 2, 0, "")
    assert heir.last_checkpoint() == b"zombie"
    assert queue.partials(heir.id) == ["zombie 0", "heir 1"]
    assert heir.settle("done", '"heir"')
    assert queue.result(heir.id) == "heir"
    assert not heir.settle("failed", "twice")
    assert state(queue, heir.id) == "done"


def test_parts_after_the_last_checkpoint_are_done_again(queue: JobQueue) -> None:
    job = running(queue)
    job.partial([0, 1])
    job.checkpoint(b"2")
    job.partial([2])
    lose(queue, job)
    heir = take(queue)
    assert heir is not None
    assert heir.partials() == [[0, 1]]
    heir.partial([2, 3])
    assert queue.partials(heir.id) == [[0, 1], [2, 3]]
    assert queue.partials(heir.id, start=1) == [[2, 3]]


def test_a_step_asked_for_twice_is_done_once(queue: JobQueue) -> None:
    """The client repeats a command whose reply was lost."""
    job_id = add(queue)
    first, again = (queue.store.run(scripts.CLAIM, job_id, "w", "same call") for _ in range(2))
    assert first == again
    assert queue.store.run(scripts.CLAIM, job_id, "w", "another call") is None
    for _ in range(2):
        assert queue.store.run(scripts.APPEND, job_id, 1, 0, '"part"') == 1
        assert queue.store.run(scripts.CHECKPOINT, job_id, 1, "1-1", 1) == 1
    assert queue.partials(job_id) == ["part"]
    arguments = ("mine", "k", "batch", "{}", "", "", "", 60, 3, 60, 5, 0, "", 5)
    assert [queue.store.run(scripts.ENQUEUE, *arguments)[:2] for _ in range(2)] == [[b"new", b"mine"]] * 2
    assert queue.stats().waiting["batch"] == 1


def test_a_batch_job_makes_room_for_an_interactive_one(queue: JobQueue) -> None:
    batch = running(queue, JobOptions(queue="batch"))
    interactive = add(queue)
    waiting = queue.store.key("waiting", "interactive")
    queue.store.redis.zincrby(waiting, -2000, interactive)  # for two seconds
    batch.beat()
    assert not batch.cancelled()  # nothing to resume from: it would begin anew
    batch.checkpoint(b"1")
    batch.beat()
    assert batch.cancelled()
    assert batch.stop_reason == "yield"
    assert batch.settle("release", "")
    status = queue.status(batch.id)
    assert status is not None
    assert (status.state, status.failures) == ("queued", 0)
    sweep(queue)
    order = [job.id for job in (take(queue), take(queue)) if job]
    assert order == [interactive, batch.id]


def test_one_job_at_a_time_makes_room(queue: JobQueue) -> None:
    batches = [running(queue, JobOptions(queue="batch")) for _ in range(2)]
    queue.store.redis.zincrby(queue.store.key("waiting", "interactive"), -2000, add(queue))
    for batch in batches:
        batch.checkpoint(b"1")
        batch.beat()
    assert [batch.cancelled() for batch in batches] == [True, False]


def test_only_those_who_serve_a_queue_make_room_for_it(queue: JobQueue) -> None:
    add(queue, JobOptions(queue="batch"))
    job_id = queue.tickets.next(("batch",), None)
    assert job_id is not None
    job = claim(queue.store, job_id, "w", queues=("batch", "fit"))
    assert job is not None
    job.checkpoint(b"1")
    queue.store.redis.zincrby(queue.store.key("waiting", "interactive"), -2000, add(queue))
    job.beat()
    assert not job.cancelled()


@pytest.mark.parametrize("size", [0, 1, 10, 11, 35])
def test_checkpoints_of_any_size(queue: JobQueue, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_job, "CHUNK", 10)
    monkeypatch.setattr(worker_job, "CHECKPOINT_LIMIT", 35)
    job = running(queue)
    assert job.last_checkpoint() is None
    for blob in (bytes(range(35)), bytes(range(size))):
        job.checkpoint(blob)
        assert job.last_checkpoint() == blob
    keys = queue.store.redis.keys(queue.store.key("chunk", "*"))
    assert len(keys) == max(1, -(-size // 10))  # those of the first are gone
    assert all(queue.store.redis.ttl(key) == -1 for key in keys)  # and these do not expire
    with pytest.raises(InputError, match="checkpoint: expected at most 35 bytes, got 36"):
        job.checkpoint(bytes(36))
    job.settle("done", "null")
    assert queue.store.redis.keys(queue.store.key("chunk", "*")) == []


def test_frames_per_second(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("backend.worker_job.time.monotonic", lambda: clock[0])
    job = running(queue)
    for frame in range(200):
        job.progress(frame, 200)
        clock[0] += 0.1
    assert job.rate == pytest.approx(10, rel=0.05)
    clock[0] += 10
    assert job.rate == 0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["part", "checkpoint", "lost"]), max_size=12))
def test_any_history_of_writes_and_losses_keeps_each_part_once(url: str, steps: list[str]) -> None:
    """What a reader sees in the end is 0, 1, 2, … whatever was lost in between; the twin agrees."""

    def go(job: JobHandle, number: int) -> int:
        job.partial(number)
        return number + 1

    queue = new_queue(url)
    job, twin, saved = running(queue, JobOptions(max_attempts=99)), MemoryJob({}), 0
    number = 0
    for step in steps:
        if step == "part":
            go(twin, number)
            number = go(job, number)
        elif step == "checkpoint":
            job.checkpoint(b"%d" % number)
            saved = number
        else:
            queue.store.redis.zadd(queue.store.key("running"), {job.id: 0})
            sweep(queue)
            queue.store.redis.hset(queue.store.key("job", job.id), "due", 0)
            heir = claim(queue.store, job.id, "w")
            assert heir is not None
            job = heir
            number = int(job.last_checkpoint() or b"0")
            assert number == saved
            del twin.parts[number:]
        assert job.partials() == twin.partials() == list(range(number))
    assert queue.partials(job.id) == list(range(number))
    job.settle("done", "null")
