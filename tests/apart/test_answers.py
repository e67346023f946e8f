"""Whatever a decoder says is one of the answers, or a ValueError; never anything else."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.apart import child
from edgetam_model.apart.answers import MOST, FrameAnswer, ImageAnswer, Opened, plain, read_answer
from edgetam_model.apart.wire import HEAD, WORDS, Channel
from edgetam_model.errors import MediaError
from edgetam_model.sources import MediaLimits, VideoInfo
from edgetam_model.timetable import TimeTable

INFO = VideoInfo(160, 96, TimeTable.constant(4, Fraction(30000, 1001)), "h264", 90, mirrored=True)
LIMITS = MediaLimits()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted(Opened.model_fields)
TIMES = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)


def said(info: VideoInfo) -> tuple[dict[str, Any], bytes]:
    answer, times = child.described(info)
    return json.loads(json.dumps(answer)), times


def test_facts_survive() -> None:
    for info in (INFO, replace(INFO, media_duration=2.5, warnings=("cut off",), has_b_frames=True)):
        answer, times = said(info)
        opened = read_answer(Opened, answer)
        assert isinstance(opened, Opened)
        read = opened.info(bytearray(times), LIMITS)
        assert read.table.pts.tolist() == info.table.pts.tolist()
        assert replace(read, table=info.table).__dict__ == info.__dict__
        for name in ("end", "time_base", "origin", "nominal_rate"):
            assert getattr(read.table, name) == getattr(info.table, name)


@given(field=st.sampled_from(FIELDS), value=JSON, times=TIMES)
def test_any_fact_is_used_or_refused(field: str, value: object, times: list[int]) -> None:
    """What is used can be computed with: the table's methods give numbers."""
    answer, _ = said(INFO)
    try:
        opened = read_answer(Opened, answer | {field: value})
        assert isinstance(opened, Opened)
        info = opened.info(bytearray(np.array(times, np.int64).tobytes()), LIMITS)
    except ValueError:  # InputError and MediaError are some
        return
    assert np.isfinite([info.duration, info.average_fps, *info.times]).all()
    assert info.table.frame_at(info.start_time) >= 0
    assert info.variable_rate in (True, False)


@given(message=st.dictionaries(st.sampled_from(["refused", "there", "warnings", "width", "x"]), JSON))
def test_any_answer_is_read_or_refused(message: dict[str, Any]) -> None:
    for kind in (FrameAnswer, ImageAnswer):
        with suppress(ValueError):
            read_answer(kind, message)


def test_tables_beyond_the_limits_are_refused() -> None:
    answer, times = said(INFO)
    opened = read_answer(Opened, answer)
    assert isinstance(opened, Opened)
    with pytest.raises(MediaError, match="limit"):
        opened.info(bytearray(times), MediaLimits(max_pixels=100))
    for bad in (b"", times[:-1], np.array([0, MOST + 1], np.int64).tobytes(), times[::-1]):
        with pytest.raises(ValueError, match=r"times|pts|end"):
            opened.info(bytearray(bad), LIMITS)


@given(content=st.binary(max_size=40), most=st.integers(0, 50))
def test_any_bytes_are_a_message_or_a_fault(content: bytes, most: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(content)
        theirs.shutdown(socket.SHUT_WR)
        try:
            message, data = Channel(ours).receive(most)
        except (ValueError, ConnectionError):
            return
        assert isinstance(message, dict)
        assert len(data) <= most


def test_messages_go_whole_and_long_ones_not_at_all() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(ours).send({"a": ["ä", 1, None]}, b"data")
        assert Channel(theirs).receive(4) == ({"a": ["ä", 1, None]}, bytearray(b"data"))
        for head in (HEAD.pack(WORDS + 1, 0), HEAD.pack(2, 5)):
            theirs.sendall(head)
            with pytest.raises(ValueError, match="a message of"):
                Channel(ours).receive(4)
        deep = b"[" * 20_000
        theirs.sendall(HEAD.pack(len(deep), 0) + deep)
        with pytest.raises(ValueError, match=r"deep|Expecting"):
            Channel(ours).receive()
        with pytest.raises(TimeoutError):
            Channel(ours).receive(deadline=0.0)


def test_texts_are_one_line() -> None:
    assert plain("a\nb\x1b[31mc\u202ed ü") == "a?b?[31mc?d ü"
