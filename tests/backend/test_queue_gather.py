"""Calls that are gathered: one job waits for them, one of a lane runs, and no call is lost."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend import queue_scripts as scripts
from backend.jobs import Enqueued, Gathering, JobOptions, QueueFull
from backend.queue import JobQueue, QueueLimits
from backend.worker_job import RunningJob, Verb, claim
from edgetam_model import InputError
from tests.backend.queue_fixtures import lose, new_queue, state, sweep, take, until

FIT = JobOptions(queue="fit", title="training", max_attempts=99)


def call(queue: JobQueue, *things: str, lane: str = "7", count: int = 20, seconds: float = 1800) -> Enqueued:
    return queue.gather("k", {"lane": lane}, Gathering(lane, count, seconds, "annotations"), things, FIT)


def now(queue: JobQueue, lane: str = "7") -> str:
    """Have the job of a lane begin at once."""
    return call(queue, lane=lane, count=0).id


def begin(queue: JobQueue) -> RunningJob | None:
    """What the next free worker would take."""
    sweep(queue)
    return take(queue)


def begun(queue: JobQueue, lane: str = "7") -> RunningJob:
    now(queue, lane)
    job = begin(queue)
    assert job is not None
    return job


def hurry(queue: JobQueue, job_id: str) -> None:
    """As if the time until its next try were over."""
    queue.store.redis.hset(queue.store.key("job", job_id), "due", 0)
    queue.store.redis.zadd(queue.store.key("waiting", "fit"), {job_id: 0})


def note(queue: JobQueue, job_id: str) -> str:
    status = queue.status(job_id)
    assert status is not None
    return status.note


def test_two_hundred_calls_at_once_are_one_job(queue: JobQueue) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda number: call(queue, str(number)), range(200)))
    assert len({answer.id for answer in answers}) == 1
    assert [answer.created for answer in answers].count(True) == 1
    assert begin(queue) is not None
    assert begin(queue) is None
    assert queue.stats().waiting["fit"] == 0


def test_so_many_things_make_it_due(queue: JobQueue) -> None:
    for number in range(19):
        job_id = call(queue, str(number)).id
    assert call(queue, "0", "1", "2").id == job_id  # named again, and counted once
    assert begin(queue) is None
    call(queue, "19")
    job = begin(queue)
    assert job is not None
    assert (job.id, job.payload) == (job_id, {"lane": "7"})


def test_time_makes_it_due_and_no_call_puts_that_off(queue: JobQueue) -> None:
    job_id = call(queue, "1", seconds=0.4).id
    started = time.monotonic()
    assert begin(queue) is None
    for number in range(5):
        call(queue, str(number), seconds=60)
    until(lambda: begin(queue) is not None, 5)
    assert 0.3 < time.monotonic() - started < 3
    assert state(queue, job_id) == "running"


def test_it_says_what_it_waits_for(queue: JobQueue) -> None:
    job_id = call(queue, "a", "b", "c").id
    assert re.fullmatch(
        r"waits for 17 more annotations or until (\d{4}-\d\d-\d\d )?\d\d:\d\d", note(queue, job_id)
    )
    call(queue, count=0)
    assert note(queue, job_id) == ""
    assert queue.stats().oldest["fit"] < 5


def test_a_request_brings_it_forward(queue: JobQueue) -> None:
    job_id = call(queue, "1").id
    assert begin(queue) is None
    assert now(queue) == job_id
    job = begin(queue)
    assert job is not None
    assert job.id == job_id
    assert queue.status(job_id).note == ""  # type: ignore[union-attr]


def test_what_comes_while_it_runs_is_for_one_more_afterwards(queue: JobQueue) -> None:
    first = begun(queue)
    ids = {call(queue, str(number), count=3).id for number in range(9)}
    assert len(ids) == 1
    (second,) = ids
    assert second != first.id
    assert begin(queue) is None
    assert note(queue, second) == "begins when the one before it has ended"
    first.settle("done", "null")
    job = begin(queue)
    assert job is not None
    assert job.id == second
    job.settle("done", "null")
    assert begin(queue) is None
    for name in ("next", "turn", "gathered"):
        assert queue.store.redis.keys(queue.store.key(name, "*")) == []


def test_a_job_that_made_room_keeps_its_turn(queue: JobQueue) -> None:
    first = begun(queue)
    first.checkpoint(b"listed")
    second = now(queue)
    first.settle("release", "")
    job = begin(queue)
    while job is None or job.id != first.id:  # the ticket of the second may come first, and leads nowhere
        assert job is None
        job = begin(queue)
    assert call(queue, "1").id == second


def test_a_job_that_has_read_nothing_yet_still_takes_calls(queue: JobQueue) -> None:
    first = begun(queue)
    first.settle("retry", "Label Studio does not answer")
    assert call(queue, "1").id == first.id
    job = claim(queue.store, first.id, "w")
    assert job is None  # it is not due before its time
    assert now(queue) == first.id
    assert begin(queue) is not None


def test_lanes_do_not_wait_for_each_other(queue: JobQueue) -> None:
    assert begun(queue, "7").payload == {"lane": "7"}
    assert begun(queue, "8").payload == {"lane": "8"}


def test_a_cancelled_job_is_followed_by_a_new_one(queue: JobQueue) -> None:
    waiting = call(queue, *map(str, range(19))).id
    assert queue.cancel(waiting)
    again = call(queue, "x").id
    assert again != waiting
    assert "waits for 19 more" in note(queue, again)


def test_a_failed_job_that_is_tried_again_waits_for_its_turn(queue: JobQueue) -> None:
    failed = begun(queue)
    failed.settle("failed", "why")
    running = begun(queue)
    assert running.id != failed.id
    assert queue.retry(failed.id)
    assert begin(queue) is None
    running.settle("done", "null")
    hurry(queue, failed.id)
    assert begin(queue) is not None


def test_a_full_queue_refuses_new_lanes_alone(url: str) -> None:
    queue = new_queue(url, QueueLimits(fit=2))
    call(queue, lane="1")
    call(queue, lane="2")
    call(queue, "1", lane="1")
    with pytest.raises(QueueFull, match="2 fit jobs are waiting"):
        call(queue, lane="3")


def test_a_call_asked_for_twice_counts_once(queue: JobQueue) -> None:
    """The client repeats a command whose reply was lost."""
    arguments = ("mine", "k", "fit", "{}", "7", "", 60, 3, 60, 5, 20, 60_000, "calls", "", "a")
    assert [queue.store.run(scripts.GATHER, *arguments) for _ in range(2)] == [[b"new", b"mine"]] * 2
    assert "waits for 19 more calls" in note(queue, "mine")


@pytest.mark.parametrize(("field", "value"), [("lane", ""), ("count", -1), ("seconds", -0.1)])
def test_nonsense_is_named(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        Gathering(**{"lane": "7", field: value})  # type: ignore[arg-type]


class History:
    """Steps in any order, and what must hold after each: one job of the lane runs, no call is forgotten."""

    def __init__(self, queue: JobQueue) -> None:
        self.queue = queue
        self.jobs: set[str] = set()
        self.running: RunningJob | None = None
        self.time = self.called = self.began = self.read = 0

    def step(self, name: str) -> None:
        self.time += 1
        getattr(self, f"_{name}")()
        if self.called > self.read:
            assert any(self.will_read(job_id) for job_id in self.jobs)

    def will_read(self, job_id: str) -> bool:
        """Whether a job is still to read what there is, from now on or since the last call."""
        has_read = self.queue.store.redis.hget(self.queue.store.key("job", job_id), "checkpoint")
        if self.running and self.running.id == job_id:
            return not has_read and self.began > self.called
        return state(self.queue, job_id) == "queued" and not has_read

    def _call(self) -> None:
        self.called = self.time
        self.jobs.add(call(self.queue, str(self.time)).id)

    def _request(self) -> None:
        self.called = self.time
        self.jobs.add(now(self.queue))

    def _begin(self) -> None:
        for job_id in self.jobs:  # neither time nor a ticket that led nowhere should matter
            if state(self.queue, job_id) == "queued" and not note(self.queue, job_id).startswith("waits"):
                hurry(self.queue, job_id)
        for job_id in self.jobs:
            found = claim(self.queue.store, job_id, "w")
            assert not (found and self.running), "two at the same time"
            if found:
                self.running, self.began = found, self.time

    def _list(self) -> None:
        if self.running and not self.running.last_checkpoint():
            self.running.checkpoint(b"listed")
            self.read = self.began

    def _done(self) -> None:
        self._list()
        self._end("done")

    def _release(self) -> None:
        self._end("release")

    def _retry(self) -> None:
        self._end("retry")

    def _end(self, verb: Verb) -> None:
        if self.running:
            self.running.settle(verb, "null")
        self.running = None

    def _lost(self) -> None:
        if self.running:
            lose(self.queue, self.running)
        self.running = None


STEPS = st.sampled_from(["call", "request", "begin", "list", "done", "release", "retry", "lost"])


@settings(max_examples=50, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_whatever_happens_one_runs_and_every_call_is_read_by_a_job_that_begins_after_it(
    url: str, steps: list[str]
) -> None:
    history = History(new_queue(url))
    for name in [*steps, *["done", "request", "begin", "done", "begin", "done"]]:
        history.step(name)
    assert history.read > history.called
    assert history.queue.stats().running == 0
