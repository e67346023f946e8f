"""Objects on other pictures than their own: of another group, at that picture's size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.sources import FrameSource
from edgetam_model.training.annotations import AnnotatedTask, MaskShape
from edgetam_model.training.exchanged import exchanged
from edgetam_model.training.task_clips import TaskClip, task_clips
from edgetam_model.video import open_source
from tests.training.annotation_tasks import sighting, thing

HEIGHT = 12


def picture(number: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Its shade and its width are its number's."""
    return np.full((HEIGHT, 8 + number, 3), 10 * number, np.uint8)


def clips(groups: Sequence[str], kind: str = "image") -> list[TaskClip]:
    mask = np.zeros((HEIGHT, 8), np.bool_)
    mask[2:6, 1:5] = True
    tasks = [
        AnnotatedTask(str(i), kind, f"{i}.png", (thing(sighting(shape=MaskShape.of(mask))),), group)  # type: ignore[arg-type]
        for i, group in enumerate(groups)
    ]

    def media(task: AnnotatedTask) -> FrameSource:
        return open_source([picture(int(task.id))])

    return list(task_clips(tasks, media))


@given(st.lists(st.sampled_from("abc"), max_size=6))
def test_each_gets_the_picture_of_another_group(groups: list[str]) -> None:
    made = exchanged(clips(groups))
    if len(set(groups)) < 2:
        assert made == []
        return
    assert [clip.task.id for clip in made] == [str(i) for i in range(len(groups))]
    for clip in made:
        shown = int(clip.file_frame(0)[0, 0, 0]) // 10
        assert groups[shown] != clip.task.group


def test_masks_go_with_the_size_of_the_picture_that_is_shown() -> None:
    first, _ = exchanged(clips(["a", "b"]))
    assert first.frame(0).shape == (HEIGHT, 9, 3)
    assert first.masks(0)[1].shape == (HEIGHT, 9)


@pytest.mark.parametrize("count", [1, 3])
def test_videos_are_left_out(count: int) -> None:
    assert exchanged(clips(["a", "b", "c"][:count], "video")) == []
