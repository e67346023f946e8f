from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvat_function.field.content import Drawing, TaskContent
from cvat_function.field.reading import CvatProject, given_places, starting_objects
from cvat_function.field.showing import key_frames, shown_on
from cvat_function.field.writing import Origin, Sheet, wanted_in
from cvat_function.rle import decode_mask, encode_mask
from cvat_function.video.records import Annotations, Track
from edgetam_model import InputError
from edgetam_model.field_objects import FieldObject, Row
from edgetam_model.field_places import FieldTask
from edgetam_model.masks import encode_rle, mask_box, mask_iou
from tests.cvat_function.field.drawn import (
    FRAMES,
    JOB_FRAMES,
    LABELS,
    STILLS,
    box,
    key,
    packed,
    shape,
    track,
)

PLACES = st.integers(0, len(FRAMES) - 1)
KEYS = st.dictionaries(
    st.sampled_from([*JOB_FRAMES, 3]), st.tuples(st.booleans(), st.floats(-9, 9)), min_size=1, max_size=5
)
SEEN = st.dictionaries(PLACES, st.booleans(), min_size=1, max_size=8)


def wanted(task: FieldTask, one: FieldObject, came: FieldObject | None, shape: str = "") -> Annotations:
    content = TaskContent.of(task)
    origin = Origin(came, given_places(content)[came.id]) if came else None
    return wanted_in(content.jobs[0], one, origin, Sheet(content, task.media, LABELS, shape))


def halved(points: tuple[float, ...]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (n / 2 for n in points)
    return x0, y0, x1, y1


def row(place: int, *, visible: bool) -> Row:
    if not visible:
        return Row(score=0.1, state="absent")
    return Row(box=halved(box(FRAMES[place], 30)), score=0.9)


def drawn(one: FieldObject, seen: Mapping[int, bool]) -> FieldObject:
    fresh = {place: row(place, visible=visible) for place, visible in seen.items()}
    return replace(one, rows={**one.rows, **fresh}, drawn=True)


@given(KEYS, SEEN)
def test_cvat_shows_what_the_field_page_showed(
    keys: dict[int, tuple[bool, float]], seen: dict[int, bool]
) -> None:
    """New boxes where something was seen anew, and on every other frame what was there before."""
    before = track(*(key(frame, outside=off, jump=jump) for frame, (off, jump) in sorted(keys.items())))
    task = packed([before])
    found = starting_objects(task, LABELS)
    if not found:  # outside all along
        return
    (made,) = wanted(task, drawn(found[0], seen), found[0]).tracks
    if not any(seen.values()):
        assert made == before
        return
    assert made.frame == made.shapes[0].frame
    numbers = [one.frame for one in made.shapes]
    assert numbers == sorted(set(numbers))
    assert (made.group, made.attributes) == (before.group, before.attributes)
    fresh = {FRAMES[place]: visible for place, visible in seen.items()}
    for frame in JOB_FRAMES:
        shown = shown_on(key_frames(made), frame)
        expected = shown_on(key_frames(before), frame)
        points = expected.points if expected else None
        if frame in fresh:
            points = box(frame, 30) if fresh[frame] else None
        assert (shown.points if shown else None) == (pytest.approx(points, abs=0.006) if points else None), (
            frame
        )


@given(SEEN)
def test_a_new_object_is_shown_where_it_was_seen_and_nowhere_else(seen: dict[int, bool]) -> None:
    task = packed([])
    one = drawn(FieldObject("n", 1, ("bird",)), seen)
    found = wanted(task, one, None, "rectangle")
    fresh = {FRAMES[place]: visible for place, visible in seen.items()}
    assert found.count == any(seen.values())
    drawings: list[Drawing] = [*found.tracks, *found.shapes]
    for frame in JOB_FRAMES:
        shown = shown_on(key_frames(drawings[0]), frame) if drawings else None
        assert (shown is not None) == fresh.get(frame, False)
    assert all(one.label_id == 2 and one.source == "semi-auto" for one in drawings)
    assert bool(found.shapes) == (list(seen.values()) == [True])


@given(KEYS)
def test_what_nobody_touched_is_the_same_to_the_byte(keys: dict[int, tuple[bool, float]]) -> None:
    before = track(*(key(frame, outside=off, jump=jump) for frame, (off, jump) in sorted(keys.items())))
    task = packed([before])
    for one in starting_objects(task, LABELS):
        assert wanted(task, one, one) == Annotations(tracks=(before,))


@given(st.integers(0, 80), st.integers(0, 50), st.integers(14, 40), st.integers(14, 40))
def test_masks_go_out_and_come_back(left: int, top: int, width: int, height: int) -> None:
    """Through a kit of half the size, drawn anew as they were shown there."""
    mask = np.zeros((90, 120), np.bool_)
    mask[top : top + height, left : left + width] = True
    task = packed([shape("mask", 2, encode_mask(mask))], STILLS)
    (one,) = starting_objects(task, LABELS)
    assert (one.id, one.labels, list(one.rows)) == ("31/shape:55", ("car",), [2])
    shown = one.rows[2]
    anew = replace(one, rows={2: Row(box=shown.box, mask=shown.mask, prompted=True)}, drawn=True)
    (made,) = wanted(task, anew, one).shapes
    assert (made.type, made.frame, made.label_id, made.id) == ("mask", 2, 1, None)
    assert mask_iou(decode_mask(made.points, 120, 90), mask) > 0.7


def test_a_shape_that_is_tracked_becomes_a_track_and_takes_what_is_its_own_along() -> None:
    task = packed([shape("rectangle", 4, box(4))])
    (one,) = starting_objects(task, LABELS)
    assert list(one.rows) == [FRAMES.index(4)]
    (made,) = wanted(task, drawn(one, {4: True, 5: True, 6: False}), one).tracks
    assert [(one.frame, one.outside) for one in made.shapes] == [
        (4, False),
        (5, False),
        (6, False),
        (7, True),
    ]
    assert made.shapes[0].points == box(4)
    mask = np.zeros((45, 60), np.bool_)
    mask[5:20, 5:30] = True
    seen = Row(box=mask_box(mask), mask=encode_rle(mask)["counts"])
    painted = packed(
        [shape("mask", 4, encode_mask(np.kron(mask, np.ones((2, 2), np.bool_)).astype(np.bool_)))]
    )
    (one,) = starting_objects(painted, LABELS)
    later = replace(one, rows={**one.rows, 5: seen}, drawn=True)
    first, second = wanted(painted, later, one).shapes  # CVAT has no tracks of masks
    assert (first.id, first.frame, second.frame) == (55, 4, 6 if FRAMES[5] == 6 else FRAMES[5])


def test_another_class_keeps_the_drawing_and_attributes_of_the_same_name() -> None:
    before = track(key(0), key(5, outside=True))
    task = packed([before])
    (one,) = starting_objects(task, LABELS)
    (made,) = wanted(task, replace(one, labels=("bird",)), one).tracks
    assert made.label_id == 2
    assert [value.model_dump() for value in made.attributes] == [{"spec_id": 7, "value": "B-1"}]
    assert [(s.frame, s.points, s.outside) for s in made.shapes] == [
        (s.frame, s.points, s.outside) for s in before.shapes
    ]
    with pytest.raises(InputError, match="no label"):
        wanted(task, replace(one, labels=("horse",)), one)


@pytest.mark.parametrize(
    ("source", "told"), [("manual", [0, 1, 2, 5]), ("auto", [0, 5]), ("semi-auto", [0, 5])]
)
def test_key_frames_of_a_person_are_prompts_and_of_runs_of_a_model_the_first(
    source: str, told: list[int]
) -> None:
    """Frames of the kit; its fifth is the task's 6."""
    drawn = track(key(0), key(1), key(2), key(6), key(9, outside=True))
    (one,) = starting_objects(packed([drawn.model_copy(update={"source": source})]), LABELS)
    assert list(one.prompts) == told
    assert list(one.rows) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_what_the_page_cannot_draw_is_no_object() -> None:
    odd: list[Drawing] = [
        shape("ellipse", 0, (5, 5, 9, 9)),
        shape("points", 0, (5, 5), 56),
        shape("rectangle", 0, box(0), 57).model_copy(update={"rotation": 30.0}),
        shape("rectangle", 3, box(3), 58),  # a deleted frame
        shape("mask", 0, (1, 2, 3, 4, 5), 59),  # damaged
        Track(id=1, label_id=3, frame=0, shapes=(key(0),), elements=({"any": "thing"},)),
    ]
    assert starting_objects(packed(odd), LABELS) == []
    assert starting_objects(packed([track(key(0))], STILLS), LABELS) == []
    assert wanted(packed([]), FieldObject("n", 1), None) == Annotations()
    assert CvatProject(LABELS).labels(packed([])) == ("car", "bird")
    with pytest.raises(InputError, match="shape"):
        wanted(packed([]), FieldObject("n", 1), None, "star")
