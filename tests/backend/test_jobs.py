"""The words of the queue: options that refuse nonsense, strict JSON, and the in-memory twin of a job."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.jobs import JSON, JobOptions, JobState, JobStatus, MemoryJob, dump_json
from edgetam_model import InputError
from tests.backend.queue_fixtures import ROOT

VALUES: st.SearchStrategy[JSON] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(VALUES)
def test_json_comes_back_as_it_went(value: JSON) -> None:
    text = dump_json("payload", value, 1 << 20)
    assert json.loads(text) == value
    assert text.isascii()  # so that its length is its bytes
    with pytest.raises(InputError, match=r"payload: expected at most"):
        dump_json("payload", value, len(text) - 1)


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": {1, 2}}, {"a": b""}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"part: expected what JSON can hold"):
        dump_json("part", value, 100)  # type: ignore[arg-type]


def test_options_name_the_field_at_fault() -> None:
    with pytest.raises(InputError, match=r"queue: expected one of interactive, batch, fit"):
        JobOptions(queue="urgent")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"timeout: expected at least 1, got 0"):
        JobOptions(timeout=0)
    with pytest.raises(InputError, match=r"max_attempts"):
        JobOptions(max_attempts=0)


QUEUED = JobStatus(
    id="a",
    kind="k",
    queue="batch",
    state="queued",
    title="",
    group="",
    done=0,
    total=0,
    note="",
    rate=0,
    cancel_requested=False,
    attempt=0,
    failures=0,
    worker="",
    parts=0,
    created=1,
    started=0,
    ended=0,
    error="",
)


def test_the_remaining_time_is_known_while_there_is_a_rate() -> None:
    assert replace(QUEUED, done=30, total=120, rate=15).remaining == 6
    assert replace(QUEUED, done=30, total=120).remaining is None
    assert replace(QUEUED, rate=2).remaining is None


def test_a_job_is_over_when_nothing_more_will_happen() -> None:
    states: dict[JobState, bool] = {
        "queued": False,
        "running": False,
        "done": True,
        "cancelled": True,
        "failed": True,
    }
    assert {state: replace(QUEUED, state=state).is_over for state in states} == states


def test_the_twin_in_memory_stops_when_it_should_and_keeps_what_is_handed_in() -> None:
    job = MemoryJob({"frames": 3}, stop_after=2)
    assert [job.cancelled() for _ in range(4)] == [False, False, True, True]
    assert job.stop_reason == "cancelled"
    part: dict[str, JSON] = {"frame": 1}
    job.partial(part)
    part["frame"] = 2
    job.checkpoint(b"state")
    job.progress(1, 3, "x")
    assert job.partials() == [{"frame": 1}]  # a copy, as Redis would keep
    assert job.last_checkpoint() == b"state"
    assert job.reports == [(1, 3, "x")]
    with pytest.raises(InputError):
        job.partial(math.nan)


def test_the_words_need_neither_redis_nor_torch() -> None:
    """So that a job's function, and its tests, can be written without a queue."""
    script = "import sys, backend.jobs; assert not {'redis', 'rq', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
