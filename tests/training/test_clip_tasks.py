"""Clips of any format as tasks: the same frames, the same masks, and what is known not to be there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetam_model.errors import InputError
from edgetam_model.sources import Frame
from edgetam_model.training.annotated import AnnotatedClip, Masks
from edgetam_model.training.clip_tasks import EMPTY, project_of
from edgetam_model.training.task_clips import task_clips
from tests.training.annotation_tasks import SIZE, image_task, square

OBJECTS = (7, 2)  # ids need not begin at 1, nor come in order


class Drawn(AnnotatedClip):
    """Frames of one grey each, on which some objects are to be seen."""

    def __init__(self, name: str, shown: list[set[int]]) -> None:
        super().__init__(name)
        self._shown = shown

    def __len__(self) -> int:
        return len(self._shown)

    def frame(self, index: int) -> Frame:
        self._check_index(index)
        return np.full((*SIZE, 3), index, np.uint8)

    def masks(self, index: int) -> Masks:
        self._check_index(index)
        return {number: square(number, 3 + index) for number in self._shown[index]}


presence = st.lists(st.sets(st.sampled_from(OBJECTS)), min_size=1, max_size=6)


@given(presence)
@settings(max_examples=60)
def test_every_frame_says_what_the_clip_said(shown: list[set[int]]) -> None:
    clip = Drawn("a", shown)
    project = project_of([clip], "p")
    drawn = sorted(set().union(*shown))
    if not drawn:
        assert project.found.tasks == ()
        assert project.found.ignored == {EMPTY: 1}
        return
    (task,) = project.found.tasks
    assert task.kind == ("image" if len(shown) == 1 else "video")
    for each, number in zip(task.objects, drawn, strict=True):
        assert each.known_among(range(len(shown))) == tuple(range(len(shown))), "nothing is unknown"
        for index, present in enumerate(shown):
            seen = each.sighting_on(index)
            assert (seen is not None) == (number in present)
            if seen is not None:
                np.testing.assert_array_equal(seen.shape.mask(SIZE), clip.masks(index)[number])


def test_frames_and_masks_come_back_as_clips() -> None:
    clip = Drawn("a", [{2}, {2, 7}, set(), {7}])
    project = project_of([clip], "p")
    (made,) = task_clips(project.found.tasks, project.media)
    for place, index in enumerate(made.frames):
        frame, masks = made.read(place)
        np.testing.assert_array_equal(frame, clip.frame(index))
        expected = {2: 1, 7: 2}  # ids count from 1, in the clip's order
        assert {expected[number] for number in clip.masks(index)} == set(masks)


def test_equal_names_are_told_apart() -> None:
    project = project_of([Drawn("a", [{2}]), Drawn("a", [{7}]), Drawn("a (2)", [{7}])], "p")
    assert [task.id for task in project.found.tasks] == ["a", "a (2)", "a (2) (2)"]
    with pytest.raises(InputError, match="media: expected a clip of p, got 'b'"):
        project.media(image_task("b"))
