"""How CVAT counts frames: from 0, in the task's own steps, deleted ones included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvat_function.video.frames import map_frames, parse_range
from cvat_function.video.records import FrameSize, Job, Meta
from edgetam_model import InputError

VIDEO = (FrameSize(width=320, height=180),)
JOB = Job(id=5, task_id=7, start_frame=10, stop_frame=19)


@pytest.mark.parametrize(
    ("text", "range_"), [("3-9", (3, 9)), ("3-", (3, None)), ("3", (3, 3)), ("0-0", (0, 0))]
)
def test_a_range_is_read(text: str, range_: tuple[int, int | None]) -> None:
    assert parse_range(text) == range_


@pytest.mark.parametrize("text", ["", "-", "9-3", "-3", "1-2-3", "a", "1.5", "１-２"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="range"):
        parse_range(text)


def test_deleted_frames_are_left_out_and_the_media_is_counted_on() -> None:
    meta = Meta(size=30, start_frame=5, frame_filter="step=3", deleted_frames=(0, 12, 13), frames=VIDEO)
    frames = map_frames(meta, None, 10, 15)
    assert frames.frames == (10, 11, 14, 15)
    assert frames.kept[0] == 1
    assert [frames.source(frame) for frame in (0, 10, 15)] == [5, 35, 50]
    assert frames.after(11) == 14
    assert frames.after(15) == 16
    assert frames.after(29) is None


def test_a_job_counts_as_its_task_does() -> None:
    meta = Meta(size=10, start_frame=5 + 3 * 10, frame_filter="step=3", deleted_frames=(11,), frames=VIDEO)
    frames = map_frames(meta, JOB, 10, None)
    assert frames.frames == (10, *range(12, 20))
    assert frames.source(10) == 35


def test_a_job_of_chosen_frames_has_only_these() -> None:
    """`included_frames` are the media's own numbers."""
    meta = Meta(size=3, start_frame=35, frame_filter="step=3", included_frames=(35, 41, 62), frames=VIDEO)
    assert map_frames(meta, JOB, 10, 19).frames == (10, 12, 19)


@pytest.mark.parametrize(("first", "last"), [(9, 12), (12, 20), (25, None), (0, 3)])
def test_a_range_outside_the_job_is_refused(first: int, last: int | None) -> None:
    with pytest.raises(InputError, match="expected frames 10 to 19 of job 5"):
        map_frames(Meta(size=10, frames=VIDEO), JOB, first, last)


def test_deleted_frames_alone_are_refused() -> None:
    with pytest.raises(InputError, match="none is there"):
        map_frames(Meta(size=9, deleted_frames=(2, 3), frames=VIDEO), None, 2, 3)


def test_images_of_several_sizes_are_refused_only_where_they_would_be_tracked() -> None:
    sizes = (*(FrameSize(width=8, height=6),) * 4, FrameSize(width=9, height=6))
    meta = Meta(size=5, frames=sizes)
    assert map_frames(meta, None, 0, 3).width == 8
    with pytest.raises(InputError, match="frame 0 has 8×6 pixels, frame 4 9×6"):
        map_frames(meta, None, 0, 4)


@given(
    st.integers(0, 40),
    st.integers(1, 7),
    st.integers(1, 60),
    st.sets(st.integers(0, 59)),
    st.data(),
)
def test_every_frame_is_kept_or_deleted(
    start: int, step: int, size: int, deleted: set[int], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, size - 1))
    meta = Meta(
        size=size,
        start_frame=start,
        frame_filter=f"step={step}",
        deleted_frames=tuple(sorted(deleted)),
        frames=VIDEO,
    )
    expected = [frame for frame in range(first, last + 1) if frame not in deleted]
    if not expected:
        with pytest.raises(InputError):
            map_frames(meta, None, first, last)
        return
    frames = map_frames(meta, None, first, last)
    assert list(frames.frames) == expected
    media = range(start, start + size * step, step)
    assert [frames.source(frame) for frame in expected] == [media[frame] for frame in expected]
