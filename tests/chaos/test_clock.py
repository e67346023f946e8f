"""Redis's clock is set: nobody waits for the old time to come again, and nobody loses a job that lives.

The clock is that of a real Redis under libfaketime. Where that is not installed, every time that Redis keeps
is moved the other way instead, the same to the scripts: they compare nothing but such times with now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from backend.jobs import Gathering
from backend.queue import JobQueue
from tests.backend.queue_fixtures import add, new_queue, running, state, take, until
from tests.chaos.programs import Clock, redis_program

HOUR = 3600.0
TIMED = ("due", "ticketed", "created", "started")  # times in a job's hash


@dataclass
class Jumping:
    """A queue and the clock of its Redis."""

    queue: JobQueue
    clock: Clock

    def jump(self, seconds: float) -> None:
        """Set the clock, as far from the true time as this."""
        if self.clock.library:
            self.clock.set(seconds)
            until(lambda: abs(self.queue._redis_time() / 1000 - time.time() - seconds) < 5)
        else:
            self._move(-round(1000 * seconds))

    def _move(self, by: int) -> None:
        """Move all times of the name space by so many milliseconds."""
        redis: Any = self.queue.store.redis
        space = self.queue.store.namespace
        for name in redis.keys(f"{space}:*"):
            kind, short = redis.type(name), name.decode().removeprefix(f"{space}:")
            if kind == b"zset" and short not in ("recent", "dead"):
                for member in redis.zrange(name, 0, -1):
                    redis.zincrby(name, by, member)
            elif kind == b"hash" and short.startswith("job:"):
                for field in TIMED:
                    if redis.hexists(name, field):
                        redis.hincrby(name, field, by)
            elif short == "swept":
                redis.incrby(name, by)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Clock]]:
    folder = tmp_path_factory.mktemp("redis")
    (folder / "data").mkdir()
    clock = Clock(folder / "clock")
    program, url = redis_program(folder, folder / "data", clock)
    program.ready()
    yield url, clock
    program.stop()


@pytest.fixture
def jumping(redis: tuple[str, Clock]) -> Iterator[Jumping]:
    url, clock = redis
    queue = new_queue(url)
    jumping = Jumping(queue, clock)
    if clock.library:
        jumping.jump(0)
    yield jumping
    queue.store.redis.close()


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_clock_that_is_set_delays_nobody_and_takes_no_job_away(jumping: Jumping, seconds: float) -> None:
    queue = jumping.queue
    queue.sweep()
    dead, live = running(queue), running(queue)
    gathering = queue.gather("k", {}, Gathering("lane", count=9, seconds=2 * HOUR), ["a"]).id
    waiting = add(queue)
    queue.store.redis.delete(queue.tickets.queues["interactive"].key)  # and its ticket is lost as well
    jumping.jump(seconds)

    def look() -> None:
        queue.sweep()
        live.beat()
        taken = take(queue)
        assert taken is None or taken.id in (waiting, dead.id)

    def looked(done: Callable[[], bool]) -> bool:
        look()
        return done()

    assert until(lambda: looked(lambda: state(queue, waiting) == "running"), 12) < 5
    queue.store.redis.zadd(queue.store.key("running"), {waiting: float("inf")})  # its worker is none of ours
    until(lambda: looked(lambda: _attempt(queue, dead.id) == 2), 12)
    assert (state(queue, live.id), live.stop_reason, live.attempt) == ("running", "", 1)
    assert state(queue, gathering) == "queued"
    if seconds < 0:
        assert 2 * HOUR - 30 < _due_in(queue, gathering) < 2 * HOUR + 10


def test_newer_jobs_are_listed_before_older_ones(jumping: Jumping) -> None:
    queue = jumping.queue
    first = add(queue)
    jumping.jump(-HOUR)
    second = add(queue)
    assert [job.id for job in queue.recent()] == [second, first]


def _attempt(queue: JobQueue, job_id: str) -> int:
    status = queue.status(job_id)
    return status.attempt if status else 0


def _due_in(queue: JobQueue, job_id: str) -> float:
    due = queue.store.redis.zscore(queue.store.key("waiting", "interactive"), job_id)
    return (float(str(due)) - queue._redis_time()) / 1000
