"""The queue against a real Redis: once per key, in order, bounded, superseded, swept; every write fenced."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rq import Queue

from backend import queue as queue_module
from backend.embedded_redis import EmbeddedRedis
from backend.jobs import JobOptions, QueueFull, QueueUnavailable
from backend.queue import JobQueue, QueueLimits
from backend.queue_store import connect
from backend.queue_sweeper import sweeper
from backend.worker_job import claim
from edgetam_model import InputError
from tests.backend.queue_fixtures import add, lose, new_queue, running, state, sweep, take, until


@pytest.fixture
def queue(url: str) -> JobQueue:
    return new_queue(url, QueueLimits(interactive=3, batch=5, fit=1))


def test_ten_posts_at_once_are_one_job(queue: JobQueue) -> None:
    barrier = threading.Barrier(10)

    def post(_: int) -> tuple[str, bool]:
        barrier.wait()
        answer = queue.enqueue("k", {"a": 1}, JobOptions(key="task 7"))
        return answer.id, answer.created

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(post, range(10)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1
    assert take(queue) is not None
    assert take(queue) is None


def test_a_key_gives_the_kept_result_but_a_job_that_was_stopped_is_made_anew(queue: JobQueue) -> None:
    options = JobOptions(key="x")
    job = running(queue, options)
    assert queue.enqueue("k", {}, options).id == job.id
    job.settle("done", '{"n": 1}')
    assert queue.enqueue("k", {}, options).id == job.id
    assert queue.result(job.id) == {"n": 1}

    other = running(queue, JobOptions(key="y"))
    queue.cancel(other.id)  # asked to stop, but running still
    again = queue.enqueue("k", {}, JobOptions(key="y"))
    assert again.created
    other.settle("cancelled", "null")
    assert queue.enqueue("k", {}, JobOptions(key="y")).id == again.id
    assert queue.store.redis.ttl(queue.store.key("key", "y")) == -1  # left alone


def test_once_means_that_only_retry_runs_it_again(queue: JobQueue) -> None:
    options = JobOptions(key="x", once=True)
    job = running(queue, options)
    job.settle("failed", "why")
    assert queue.enqueue("k", {}, options).id == job.id
    assert queue.retry(job.id)
    sweep(queue)
    again = take(queue)
    assert again is not None
    queue.cancel(job.id)
    again.settle("cancelled", "null")
    assert queue.enqueue("k", {}, options).id == job.id
    newer = queue.enqueue("k", {}, JobOptions(key="x"))
    assert newer.created
    assert queue.enqueue("k", {}, options).id == newer.id


def test_a_more_urgent_request_brings_the_job_forward(queue: JobQueue) -> None:
    slow = JobOptions(queue="batch", key="x")
    others = [add(queue, JobOptions(queue="batch")) for _ in range(2)]
    job_id = add(queue, slow)
    for _ in range(2):
        assert not queue.enqueue("k", {}, JobOptions(key="x")).created
    assert not queue.enqueue("k", {}, slow).created  # and never back
    stats = queue.stats()
    assert (stats.waiting["interactive"], stats.waiting["batch"]) == (1, 2)
    taken = [take(queue) for _ in range(4)]
    assert [job and job.id for job in taken] == [job_id, *others, None]  # its old ticket leads nowhere


def test_a_job_that_leaves_something_out_is_no_answer_to_its_key(queue: JobQueue) -> None:
    job = running(queue, JobOptions(key="x"))
    assert queue.drop(job.id, ["b", "a"]) == {"a", "b"}
    assert queue.drop(job.id, ["c"]) == {"a", "b", "c"}
    assert job.dropped == set()
    job.beat()
    assert job.dropped == {"a", "b", "c"}
    assert not job.cancelled()
    lose(queue, job)
    heir = take(queue)
    assert heir is not None
    assert heir.dropped == {"a", "b", "c"}
    assert not queue.enqueue("k", {}, JobOptions(key="x", once=True)).created
    assert queue.enqueue("k", {}, JobOptions(key="x")).created
    heir.settle("done", "null")
    assert queue.drop(job.id, ["d"]) == queue.drop("unknown", ["d"]) == set()


def test_interactive_is_served_before_batch_before_fit(queue: JobQueue) -> None:
    fit, batch = add(queue, JobOptions(queue="fit")), add(queue, JobOptions(queue="batch"))
    first, second = add(queue), add(queue)
    taken = [take(queue) for _ in range(4)]
    assert [job.id for job in taken if job] == [first, second, batch, fit]


def test_a_full_queue_says_when_to_come_back(queue: JobQueue) -> None:
    running(queue)  # does not wait any more
    ids = [add(queue) for _ in range(3)]
    with pytest.raises(QueueFull, match="3 interactive jobs are waiting") as caught:
        add(queue)
    assert 1 <= caught.value.retry_after <= 60
    add(queue, JobOptions(queue="batch"))
    queue.cancel(ids[1])
    add(queue, JobOptions(supersedes="g"))
    with pytest.raises(QueueFull):
        add(queue)
    add(queue, JobOptions(supersedes="g"))  # takes the place of the older one


@pytest.mark.parametrize(
    ("mean_ms", "workers", "seconds"), [(100, 2, 1), (8000, 2, 4), (9e6, 1, 60), (5000, 0, 5)]
)
def test_the_time_to_come_back_is_a_mean_jobs_share(mean_ms: float, workers: int, seconds: int) -> None:
    assert queue_module._retry_after(mean_ms, workers) == seconds


def test_a_newer_job_of_a_group_replaces_the_older_ones(queue: JobQueue) -> None:
    options = JobOptions(supersedes="region 1")
    old = running(queue, options)
    old.partial({"frame": 0})
    waiting = [add(queue, options) for _ in range(3)][-1]  # each replaces the one before: never full
    newest = queue.enqueue("k", {}, options)
    assert set(newest.superseded) == {old.id, waiting}
    assert state(queue, waiting) == "cancelled"
    assert not old.cancelled()
    old.beat()
    assert old.cancelled()
    assert old.stop_reason == "superseded"
    assert old.settle("cancelled", '"so far"')
    status = queue.status(old.id)
    assert status is not None
    assert (status.state, status.error) == ("cancelled", "replaced by a newer request")
    assert queue.partials(old.id) == [{"frame": 0}]
    assert queue.result(old.id) == "so far"
    job = take(queue)  # the tickets of cancelled jobs lead nowhere
    while job is None:
        job = take(queue)
    assert job.id == newest.id


def test_cancelling(queue: JobQueue) -> None:
    waiting = add(queue)
    assert queue.cancel(waiting)
    assert state(queue, waiting) == "cancelled"
    assert take(queue) is None
    job = running(queue)
    assert queue.cancel(job.id)
    status = queue.status(job.id)
    assert status is not None
    assert (status.state, status.cancel_requested) == ("running", True)
    job.settle("retry", "failed while it stopped")
    assert state(queue, job.id) == "cancelled"
    assert not queue.cancel(job.id)
    assert not queue.cancel("unknown")


def test_a_job_that_kills_its_workers_is_given_up_with_a_reason(queue: JobQueue) -> None:
    job_id = add(queue, JobOptions(max_attempts=2, title="clip.mp4"))
    for _ in range(2):
        job = take(queue)
        assert job is not None
        lose(queue, job)
    (dead,) = queue.dead()
    assert (dead.id, dead.title, dead.failures) == (job_id, "clip.mp4", 2)
    assert dead.error == "the worker stopped without a word (tried 2 times)"
    assert queue.stats().ended == {("k", "failed"): 1}

    assert queue.retry(job_id)
    assert queue.dead() == []
    sweep(queue)
    again = take(queue)
    assert again is not None
    assert again.attempt == 3
    assert not queue.retry(job_id)


def test_failures_wait_longer_each_time(queue: JobQueue) -> None:
    job = running(queue, JobOptions(max_attempts=3))
    waits = []
    for _ in range(2):
        job.settle("retry", "Label Studio does not answer")
        sweep(queue)
        assert take(queue) is None  # not due yet
        (due,) = queue.store.redis.zrange(queue.store.key("waiting", "interactive"), 0, -1, withscores=True)
        waits.append(round((float(due[1]) - queue._redis_time()) / 1000))
        queue.store.redis.hset(queue.store.key("job", job.id), "due", 0)
        found = claim(queue.store, job.id, "w")
        assert found is not None
        job = found
    assert waits == [1, 4]
    status = queue.status(job.id)
    assert status is not None
    assert status.error == "Label Studio does not answer"


def test_nobody_is_taken_for_dead_after_redis_was_away(queue: JobQueue) -> None:
    job = running(queue)
    queue.store.redis.zadd(queue.store.key("running"), {job.id: 0})
    queue.store.redis.set(queue.store.key("swept"), 0)
    queue.sweep()
    assert state(queue, job.id) == "running"


def test_a_ticket_that_is_lost_is_issued_again(queue: JobQueue) -> None:
    job_id = add(queue)
    queue.tickets.next(("interactive",), None)  # a worker died with it
    sweep(queue)
    assert take(queue) is None  # it may only be slow
    queue.store.redis.hincrby(queue.store.key("job", job_id), "ticketed", -queue_module.TICKET_GRACE - 1)
    sweep(queue)
    sweep(queue)
    job = take(queue)
    assert job is not None
    assert job.id == job_id
    assert take(queue) is None  # once


def test_a_ticket_that_waits_in_its_queue_is_left_there(queue: JobQueue) -> None:
    job_id = add(queue)
    queue.store.redis.hincrby(queue.store.key("job", job_id), "ticketed", -60_000)
    sweep(queue)
    assert queue.store.redis.llen(queue.tickets.queues["interactive"].key) == 1


def test_a_ticket_that_comes_too_early_is_not_taken(queue: JobQueue) -> None:
    job = running(queue)
    job.settle("retry", "not now")
    assert claim(queue.store, job.id, "w") is None


def test_a_ticket_that_comes_twice_is_one_run(queue: JobQueue) -> None:
    job_id = add(queue)
    assert claim(queue.store, job_id, "a") is not None
    assert claim(queue.store, job_id, "b") is None
    assert claim(queue.store, "unknown", "b") is None


def test_an_ended_job_is_kept_for_its_time(queue: JobQueue) -> None:
    job = running(queue, JobOptions(key="x", supersedes="g", result_ttl=100))
    job.partial(1)
    job.checkpoint(b"1")
    assert all(
        queue.store.redis.ttl(key) == -1 for key in queue.store.redis.keys(queue.store.key("*", job.id))
    )
    job.settle("failed", "why")
    own = [key for key in queue.store.redis.keys(f"{queue.store.namespace}:*") if job.id.encode() in key]
    assert len(own) == 3
    assert all(0 < queue.store.redis.ttl(key) <= 100 for key in [*own, queue.store.key("key", "x")])
    assert not queue.store.redis.exists(queue.store.key("group", "g"))
    queue.store.redis.delete(queue.store.key("job", job.id))  # as if the time were over
    assert queue.status(job.id) is None
    assert queue.recent() == queue.dead() == []
    assert queue.result(job.id) is None
    assert queue.payload(job.id) is None


def test_many_jobs_are_read_at_once(queue: JobQueue) -> None:
    job = running(queue, JobOptions(title="clip", supersedes="g"))
    other = add(queue, JobOptions(queue="batch"))
    for done in (1, 2, 3):
        job.progress(done, 8, "tracking")
    job.beat()
    found = queue.statuses([job.id, "unknown", other])
    assert list(found) == [job.id, other]
    status = found[job.id]
    assert (status.title, status.group, status.done, status.total) == ("clip", "g", 3, 8)
    assert (status.note, status.worker, status.kind) == ("tracking", "w", "k")
    assert status.created <= status.started
    assert [entry.id for entry in queue.recent()] == [other, job.id]
    assert queue.payload(other) == {"a": 1}
    stats = queue.stats()
    assert stats.waiting == {"interactive": 0, "batch": 1, "fit": 0}
    assert stats.running == 1
    assert 0 <= stats.oldest["batch"] < 5
    assert queue.wait(job.id, 0.1) == queue.status(job.id)


def test_what_is_not_json_or_too_large_is_refused(url: str) -> None:
    queue = new_queue(url, QueueLimits(payload=20))
    with pytest.raises(InputError, match="payload: expected at most 20 bytes"):
        queue.enqueue("k", {"a": "x" * 20})
    assert queue.recent() == []


def test_tickets_are_plain_rq_jobs_in_json(queue: JobQueue) -> None:
    job_id = add(queue, JobOptions(timeout=77))
    (ticket,) = Queue(
        f"{queue.store.namespace}-interactive", connection=queue.store.redis, serializer="json"
    ).get_jobs()
    assert ticket.args == [job_id]
    assert ticket.timeout == 77


def test_without_redis_the_error_is_ours(tmp_path: Path) -> None:
    queue = JobQueue(connect(f"unix://{tmp_path}/nothing.sock", patience=0))
    for ask in (
        lambda: queue.status("x"),
        lambda: queue.enqueue("k", {}),
        queue.sweep,
        queue.workers,
        queue.stats,
    ):
        with pytest.raises(QueueUnavailable, match="Redis cannot be reached"):
            ask()


def test_the_sweeper_survives_redis(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    queue = JobQueue(connect(f"unix://{tmp_path}/redis.sock", patience=0))
    with sweeper(queue):
        until(lambda: "sweeper" in caplog.text)
        with EmbeddedRedis(tmp_path):
            until(lambda: queue.store.redis.exists(queue.store.key("swept")))


def batch(project: str, supersedes: str = "") -> JobOptions:
    return JobOptions(queue="batch", project=project, supersedes=supersedes)


def test_one_project_does_not_fill_the_batch_queue(url: str) -> None:
    queue = new_queue(url, QueueLimits(interactive=10, batch=5, project=3))
    for _ in range(3):
        add(queue, batch("7"))
    with pytest.raises(QueueFull, match=r"3 batch jobs of project 7, as many as one may have") as refused:
        add(queue, batch("7"))
    assert refused.value.reason == "project"
    assert refused.value.retry_after >= 1
    add(queue, JobOptions(project="7"))  # presses of people have no such bound
    add(queue, batch("8"))
    add(queue, batch(""))
    with pytest.raises(QueueFull, match="5 batch jobs are waiting") as full:
        add(queue, batch("8"))
    assert full.value.reason == "batch"


def test_places_of_a_project_come_back_however_its_jobs_go(url: str) -> None:
    queue = new_queue(url, QueueLimits(interactive=10, batch=9, project=1))
    theirs = queue.store.key("theirs", "batch:7")

    def waiting() -> int:
        return len(queue.store.redis.smembers(theirs))

    job = running(queue, batch("7"))
    assert waiting() == 0, "begun"
    job.settle("retry", "once more")
    assert waiting() == 1, "queued again"
    with pytest.raises(QueueFull):
        add(queue, batch("7"))
    queue.cancel(job.id)
    assert waiting() == 0, "cancelled"
    assert queue.retry(job.id)
    assert waiting() == 1, "retried"
    queue.cancel(job.id)
    replaced = queue.enqueue("k", {"a": 1}, batch("7", "group")).id
    again = queue.enqueue("k", {"a": 1}, batch("7", "group"))
    assert again.superseded == (replaced,), "the place of the one that leaves"
    queue.cancel(again.id)
    keyed = JobOptions(queue="batch", project="7", key="x")
    moved = queue.enqueue("k", {"a": 1}, keyed).id
    assert queue.enqueue("k", {"a": 1}, JobOptions(project="7", key="x")).id == moved
    assert waiting() == 0, "came forward into the queue of people"
    assert len(queue.store.redis.smembers(queue.store.key("theirs", "interactive:7"))) == 1


def test_places_that_a_worker_of_an_older_release_left_taken_are_free(url: str) -> None:
    queue = new_queue(url, QueueLimits(batch=9, project=2))
    queue.store.redis.sadd(queue.store.key("theirs", "batch:7"), "gone", "gone too")
    add(queue, batch("7"))
    add(queue, batch("7"))
    with pytest.raises(QueueFull, match="2 batch jobs of project 7"):
        add(queue, batch("7"))


def test_many_servers_together_keep_to_the_bound_of_a_project(url: str) -> None:
    queue = new_queue(url, QueueLimits(batch=100, project=4))
    barrier = threading.Barrier(12)

    def post(_: int) -> bool:
        barrier.wait()
        try:
            return bool(add(queue, batch("7")))
        except QueueFull:
            return False

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(post, range(12))).count(True) == 4
