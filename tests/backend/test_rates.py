"""Token buckets: the one of a process and the one in Redis are asked the same questions."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.queue import JobQueue
from backend.queue_rates import RedisBuckets
from backend.queue_store import Store, connect
from backend.rates import KEPT, LONGEST_DEBT, Buckets, MemoryBuckets, Rate, TooManyRequests, Verb

SLOW = Rate(per_minute=0.01, burst=3)  # a token in 100 minutes: none comes back while a test runs


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "redis"])
def buckets(request: pytest.FixtureRequest) -> Buckets:
    if request.param == "memory":
        return MemoryBuckets()
    queue: JobQueue = request.getfixturevalue("queue")
    return RedisBuckets(queue.store)


def test_a_burst_is_let_through_and_then_no_more(buckets: Buckets) -> None:
    assert [buckets.ask("take", "a", SLOW) for _ in range(3)] == [0, 0, 0]
    assert buckets.ask("take", "a", SLOW) == pytest.approx(6000, rel=0.01)
    assert buckets.ask("take", "a", SLOW) == pytest.approx(6000, rel=0.01), "a refusal costs nothing"
    assert buckets.ask("take", "b", SLOW) == 0, "others have their own"


def test_looking_takes_nothing(buckets: Buckets) -> None:
    for _ in range(5):
        assert buckets.ask("look", "a", SLOW) == 0
    assert [buckets.ask("take", "a", SLOW) for _ in range(3)] == [0, 0, 0]
    assert buckets.ask("look", "a", SLOW) > 5000


def test_charges_go_into_debt_up_to_a_bound(buckets: Buckets) -> None:
    quick = Rate(per_minute=60, burst=1)  # a token a second
    for _ in range(200):
        buckets.ask("charge", "a", quick)
    assert LONGEST_DEBT - 30 < buckets.ask("look", "a", quick) <= LONGEST_DEBT


def test_tokens_come_back(buckets: Buckets) -> None:
    quick = Rate(per_minute=60_000, burst=1)  # one a ms
    assert buckets.ask("take", "a", quick) == 0
    threading.Event().wait(0.02)
    assert buckets.ask("take", "a", quick) == 0


def test_many_at_once_get_no_more_than_there_is(buckets: Buckets) -> None:
    waits: list[float] = []
    threads = [
        threading.Thread(target=lambda: waits.append(buckets.ask("take", "a", SLOW))) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wait > 0 for wait in waits) == [False] * 3 + [True] * 9


@given(
    st.lists(st.tuples(st.sampled_from(["look", "take", "charge"]), st.floats(0, 10)), max_size=40),
    st.floats(1, 600),
    st.floats(1, 20),
)
def test_never_more_than_burst_and_rate(steps: list[tuple[Verb, float]], often: float, burst: float) -> None:
    clock, rate = Clock(), Rate(often, burst)
    buckets, taken = MemoryBuckets(clock), 0
    for verb, pause in steps:
        clock.now += pause
        wait = buckets.ask(verb, "a", rate)
        assert 0 <= wait <= LONGEST_DEBT + 1e-6 + 1 / rate.per_second
        taken += verb == "take" and wait == 0
        if wait and verb != "charge":
            clock.now += wait + 1e-6
            assert buckets.ask("look", "a", rate) == pytest.approx(0, abs=1e-3), "the wait is long enough"
    assert taken <= burst + (clock.now - 1000) * rate.per_second + 1e-6


def test_memory_keeps_a_bounded_number() -> None:
    buckets = MemoryBuckets()
    for name in range(KEPT + 50):
        buckets.ask("take", str(name), SLOW)
    assert len(buckets._levels) == KEPT


def test_servers_of_one_redis_count_together(queue: JobQueue, url: str) -> None:
    one = RedisBuckets(queue.store)
    other = RedisBuckets(Store(connect(url), queue.store.namespace))
    answers = [buckets.ask("take", "a", SLOW) for buckets in (one, other, one, other, other)]
    assert [wait > 0 for wait in answers] == [False, False, False, True, True]


def test_a_full_bucket_leaves_nothing_in_redis(queue: JobQueue) -> None:
    buckets, key = RedisBuckets(queue.store), queue.store.key("rate", "a")
    buckets.ask("look", "a", SLOW)
    assert not queue.store.redis.exists(key)
    buckets.ask("take", "a", Rate(per_minute=600, burst=1))
    assert 0 < int(str(queue.store.redis.pttl(key))) <= 100
    buckets.ask("take", "b", SLOW)
    assert int(str(queue.store.redis.pttl(queue.store.key("rate", "b")))) > 5_000_000


def test_a_clock_that_is_set_back_stops_nobody(queue: JobQueue) -> None:
    buckets, quick = RedisBuckets(queue.store), Rate(per_minute=60_000, burst=1)
    future = int(queue._redis_time()) + 3_600_000
    queue.store.redis.hset(queue.store.key("rate", "a"), mapping={"level": 0, "at": future})
    buckets.ask("take", "a", quick)
    threading.Event().wait(0.02)
    assert buckets.ask("take", "a", quick) == 0


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "refuses"])
def test_while_redis_is_away_the_server_counts_alone(hangs: bool, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if not hangs:
            listener.close()
        buckets = RedisBuckets(Store(connect(f"redis://:s3cret@127.0.0.1:{port}")))
        answers = [buckets.ask("take", "a", SLOW) for _ in range(4)]
    assert [wait > 0 for wait in answers] == [False, False, False, True]
    assert 1 <= caplog.text.count("counted by this server alone") < 4, "not asked each time"
    assert "s3cret" not in caplog.text


def test_the_refusal_says_when_to_come_again() -> None:
    told = [TooManyRequests("requests", "too many", wait).retry_after for wait in (0.001, 1.0, 1.2, 59.5)]
    assert told == [1, 1, 2, 60]
