"""States in a real Redis: kept for as long as CVAT takes them back, replaced ones not much longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from cvat_function.tracker.redis_states import KEPT, PREFIX, REPLACED, RedisStates, StatesNotReady, open_redis
from edgetam_model import InputError
from tests.cvat_function.nuclio_fixtures import tiny_weights
from tests.cvat_function.tracker.tracker_fixtures import (
    EACH,
    PASSWORD,
    deploy,
    frames,
    init,
    redis_server,
    refused,
    track,
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with redis_server(tmp_path_factory.mktemp("redis")) as environment:
        yield environment


@pytest.fixture(scope="module")
def client(environment: dict[str, str]) -> Iterator[redis.Redis]:
    with redis.Redis(port=int(environment["CVAT_FUNCTIONS_REDIS_PORT"]), password=PASSWORD) as client:
        yield client


def test_a_state_is_kept_under_a_key_that_cannot_be_guessed(client: redis.Redis) -> None:
    states = RedisStates(client)
    first, second = states.put(b"one\x00"), states.put(b"one\x00")
    assert first != second
    assert len(first) == 32
    assert states.get(first) == b"one\x00"
    assert 0 < client.ttl(PREFIX + first) <= KEPT
    assert client.ttl(PREFIX + first) > KEPT - 60


def test_a_replaced_one_can_be_asked_for_a_little_longer(client: redis.Redis) -> None:
    states = RedisStates(client)
    key = states.put(b"old")
    states.replace(key)
    assert states.get(key) == b"old"
    assert 0 < client.ttl(PREFIX + key) <= REPLACED


@pytest.mark.parametrize("text", ["", "x", "0" * 31, "0" * 33, "G" * 32, "../" + "0" * 29, "0" * 31 + "\n"])
def test_what_is_no_key_never_reaches_redis(client: redis.Redis, text: str) -> None:
    states = RedisStates(client)
    for call in (states.get, states.replace):
        with pytest.raises(InputError, match="expected the key"):
            call(text)


def test_what_is_not_kept_any_more_says_so(client: redis.Redis) -> None:
    with pytest.raises(InputError, match="not kept any more: start tracking anew"):
        RedisStates(client).get("0" * 32)


def test_redis_is_found_by_cvat_s_own_names(environment: dict[str, str]) -> None:
    states = open_redis(environment)
    assert states.get(states.put(b"here")) == b"here"
    for wrong in ({"CVAT_FUNCTIONS_REDIS_PORT": "1"}, {"CVAT_FUNCTIONS_REDIS_PASSWORD": "a guess"}):
        with pytest.raises(StatesNotReady, match="Redis does not keep the states") as caught:
            open_redis(environment | wrong).put(b"")
        assert "a guess" not in str(caught.value)
    with pytest.raises(InputError, match="CVAT_FUNCTIONS_REDIS_PORT"):
        open_redis({"CVAT_FUNCTIONS_REDIS_PORT": "many"})


def test_small_states_track_as_large_ones_do(environment: dict[str, str], tmp_path: Path) -> None:
    weights = tiny_weights(tmp_path)
    travelling, keeping = deploy(weights), deploy(weights, EDGETAM_CVAT_STATE="redis", **environment)
    replies = [function.post(init(EACH, frames(1)[0])) for function in (travelling, keeping)]
    for frame in frames(4)[1:]:
        small = replies[1].body["states"]
        assert all(len(state["memory"]) == 32 for state in small)
        replies = [
            function.post(track(reply.body["states"], frame))
            for function, reply in zip((travelling, keeping), replies, strict=True)
        ]
        assert replies[0].body["shapes"] == replies[1].body["shapes"]
        again = keeping.post(track(small, frame))
        assert again.body["shapes"] == replies[1].body["shapes"], "replaced states are there for a while"
    gone = small[0] | {"memory": "0" * 32}
    assert refused(keeping.post(track([small[1], gone], frame))).startswith("states[1]: not kept any more")
