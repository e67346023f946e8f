"""Reading ahead: bounded, in order, and over when the iterator is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import overload

import numpy as np
import pytest

from edgetam_model.errors import InputError, MediaError
from edgetam_model.sources import ArraySource, Frame, MediaLimits


class Watched(Sequence[Frame]):
    """Five-pixel frames that remember who read which of them."""

    def __init__(self, count: int, broken: int = -1) -> None:
        self.length = count
        self.broken = broken
        self.reads: list[int] = []
        self.threads: set[str] = set()

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        assert isinstance(index, int)
        self.reads.append(index)
        self.threads.add(threading.current_thread().name)
        size = 3 if index == self.broken else 1
        return np.full((size, 5, 3), index, np.uint8)


def decode_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("edgetam-decode")]


def test_a_thread_reads_ahead_and_ends_with_the_iterator() -> None:
    arrays = Watched(50)
    frames = ArraySource(arrays, MediaLimits()).frames(0, 49, ahead=3)
    arrays.threads.clear()
    assert decode_threads() == []
    assert [next(frames)[0] for _ in range(10)] == list(range(10))
    assert len(decode_threads()) == 1
    frames.close()
    assert decode_threads() == []
    assert all(name.startswith("edgetam-decode") for name in arrays.threads)
    assert max(arrays.reads) <= 12  # ten given out, three ahead at most


def test_the_thread_ends_when_the_frames_do_and_when_the_consumer_fails() -> None:
    source = ArraySource(Watched(5), MediaLimits())
    assert [int(frame[0, 0, 0]) for _, frame in source.frames(4, 0, reverse=True)] == [4, 3, 2, 1, 0]
    assert decode_threads() == []
    with pytest.raises(RuntimeError, match="consumer"):
        consume_badly(source)
    assert decode_threads() == []


def consume_badly(source: ArraySource) -> None:
    for index, _ in source.frames(0, 4):
        if index == 2:
            raise RuntimeError("consumer")


def test_errors_of_the_thread_reach_the_consumer_in_their_place() -> None:
    frames = ArraySource(Watched(9, broken=4), MediaLimits()).frames(0, 8)
    assert [next(frames)[0] for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(MediaError) as caught:
        next(frames)
    assert caught.value.field == "frames[4]"
    assert decode_threads() == []


def test_without_reading_ahead_there_is_no_thread() -> None:
    arrays = Watched(5)
    assert len(list(ArraySource(arrays, MediaLimits()).frames(0, 4, ahead=0))) == 5
    assert arrays.threads == {threading.current_thread().name}


@pytest.mark.parametrize(
    ("start", "stop", "reverse", "field"),
    [(-1, 3, False, "start"), (0, 5, False, "stop"), (3, 2, False, "stop"), (2, 3, True, "stop")],
)
def test_ranges_that_do_not_exist_are_refused_at_once(
    start: int, stop: int, reverse: bool, field: str
) -> None:
    source = ArraySource(Watched(5), MediaLimits())
    with pytest.raises(InputError) as caught:
        source.frames(start, stop, reverse=reverse)
    assert caught.value.field == field


def test_a_closed_source_refuses() -> None:
    source = ArraySource(Watched(5), MediaLimits())
    with pytest.raises(InputError, match="frame: expected a frame from 0 to 4, got 5"):
        source.read(5)
    source.close()
    with pytest.raises(MediaError, match="closed"):
        source.read(0)
    with pytest.raises(MediaError, match="closed"):
        source.frames(0, 1)
