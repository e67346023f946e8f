"""Sights as CVAT's tracks: read back with CVAT's own rule, every frame shows what was seen."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cvat_function.shapes import Shape
from cvat_function.video.frames import FrameMap
from cvat_function.video.records import Attribute, Job, Label, Track
from cvat_function.video.seeds import Key, Seed
from cvat_function.video.tracks import Sight, annotations_of

END = 29  # last frame of the task


def box(frame: int) -> Shape:
    return Shape("rectangle", (frame + 0.126, 1.0, frame + 9.0, 8.0))


def seed(frame: int = 0, type_: str = "rectangle", *more: Key) -> Seed:
    first = Key(frame, Shape(type_, box(frame).points), True, (Attribute(spec_id=2, value="slow"),))
    plate = (Attribute(spec_id=1, value="old"),)
    return Seed(1, "shape", 4, Label(id=3, name="car"), type_, 5, plate, (first, *more))


def frames(kept: Sequence[int]) -> FrameMap:
    return FrameMap(tuple(kept), tuple(range(END + 1)), 40, 30, 0, 0, 1)


def shown(track: Track, frame: int) -> tuple[float, ...] | None:
    """What CVAT shows on a frame between key frames: the last one before it, unless that is outside."""
    before = [shape for shape in track.shapes if shape.frame <= frame]
    return None if not before or before[-1].outside else before[-1].points


@given(st.lists(st.booleans(), min_size=1, max_size=END), st.integers(0, END), st.integers(0, END))
def test_every_frame_of_the_job_shows_what_was_seen(seen: list[bool], a: int, b: int) -> None:
    job = Job(id=1, task_id=7, start_frame=min(a, b), stop_frame=max(a, b))
    sights = [Sight(frame, box(frame) if there else None) for frame, there in enumerate(seen)]
    made = annotations_of([seed()], {1: sights}, job, frames(range(len(seen))))
    visible = {f for f, there in enumerate(seen) if there and job.start_frame <= f <= job.stop_frame}
    assert not made.shapes
    assert len(made.tracks) == bool(visible)
    for track in made.tracks:
        assert track.frame == track.shapes[0].frame == min(visible)
        numbers = [shape.frame for shape in track.shapes]
        assert numbers == sorted(set(numbers))
        assert all(job.start_frame <= number <= job.stop_frame for number in numbers)
        for frame in range(job.start_frame, job.stop_frame + 1):
            points = shown(track, frame)
            assert (points is not None) == (frame in visible)
            if points is not None:
                assert points == (round(frame + 0.126, 2), 1.0, frame + 9.0, 8.0)


def test_loss_and_return() -> None:
    job = Job(id=1, task_id=7, start_frame=0, stop_frame=9)
    sights = [Sight(f, None if f in (3, 4, 7) else box(f)) for f in range(9)]
    (track,) = annotations_of([seed()], {1: sights}, job, frames(range(9))).tracks
    flags = {shape.frame: shape.outside for shape in track.shapes}
    expected = {0: False, 1: False, 2: False, 3: True, 5: False, 6: False, 7: True, 8: False, 9: True}
    assert flags == expected


def test_deleted_frames_get_nothing() -> None:
    """The closing `outside` stands on the next frame that there is."""
    kept = FrameMap((0, 1, 4), (0, 1, 4, 8, 9), 40, 30, 0, 0, 1)
    job = Job(id=1, task_id=7, start_frame=0, stop_frame=9)
    (track,) = annotations_of([seed()], {1: [Sight(f, box(f)) for f in (0, 1, 4)]}, job, kept).tracks
    assert [(s.frame, s.outside) for s in track.shapes] == [(0, False), (1, False), (4, False), (8, True)]


def test_attributes_follow_the_key_frames() -> None:
    later = Key(2, box(2), False, (Attribute(spec_id=2, value="fast"),))
    job = Job(id=1, task_id=7, start_frame=0, stop_frame=3)
    sights = {1: [Sight(f, box(f)) for f in range(4)]}
    (track,) = annotations_of([seed(0, "rectangle", later)], sights, job, frames(range(4))).tracks
    assert [s.attributes[0].value for s in track.shapes] == ["slow", "slow", "fast", "fast"]
    assert [s.occluded for s in track.shapes] == [True, False, False, False]
    assert {s.z_order for s in track.shapes} == {5}
    assert [value.value for value in track.attributes] == ["old"]


def test_masks_become_shapes_except_where_a_person_drew_one() -> None:
    mask = Shape("mask", (0, 12, 3, 4, 6, 6))
    job = Job(id=1, task_id=7, start_frame=0, stop_frame=4)
    sights = [Sight(f, mask if f != 2 else None) for f in range(7)]
    made = annotations_of([seed(0, "mask")], {1: sights}, job, frames(range(7)))
    assert not made.tracks
    assert [shape.frame for shape in made.shapes] == [1, 3, 4]
    for shape in made.shapes:
        assert shape.points == mask.points
        assert {value.spec_id for value in shape.attributes} == {1, 2}
        assert shape.source == "auto"
