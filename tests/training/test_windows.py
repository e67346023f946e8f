"""Training windows: the same for the same seed, objects where their masks are, at the size asked for."""

from typing import Any

import numpy as np
import pytest
import torch

from edgetam_model.errors import InputError
from edgetam_model.sources import Frame
from edgetam_model.training.annotated import AnnotatedClip, Masks
from edgetam_model.training.windows import AnnotatedWindows, WindowOptions


class Moving(AnnotatedClip):
    """A red square and a green one on black that move to the right, a pixel a frame."""

    def __init__(self, frames: int = 12, side: int = 20, size: tuple[int, int] = (90, 140)) -> None:
        super().__init__("moving")
        self._frames, self._side, self._size = frames, side, size

    def __len__(self) -> int:
        return self._frames

    def masks(self, index: int) -> Masks:
        masks = {1: np.zeros(self._size, bool), 4: np.zeros(self._size, bool)}
        masks[1][30 : 30 + self._side, 20 + index : 20 + index + self._side] = True
        masks[4][10:20, 60 + index : 70 + index] = True
        return masks

    def frame(self, index: int) -> Frame:
        frame = np.zeros((*self._size, 3), np.uint8)
        masks = self.masks(index)
        frame[masks[4], 1] = 255
        frame[masks[1], 0] = 255
        return frame


def test_windows_are_the_same_for_the_same_seed_and_number() -> None:
    windows = AnnotatedWindows([Moving(), Moving(side=30)], WindowOptions(size=48, frames=4))
    many = windows.batch(seed=1, start=0, count=6)
    alone = windows.batch(seed=1, start=4, count=1)
    assert torch.equal(alone.frames[0], many.frames[4])
    assert torch.equal(alone.masks[0], many.masks[4])
    assert not torch.equal(many.frames[0], windows.batch(2, 0, 1).frames[0])


@pytest.mark.parametrize("size", [32, 48, 160])
def test_masks_lie_on_their_objects(size: int) -> None:
    options = WindowOptions(size=size, frames=3, objects=2)
    batch = AnnotatedWindows([Moving()], options).batch(0, 0, 20)
    assert batch.frames.shape == (20, 3, 3, size, size)
    assert batch.masks.shape == (20, 3, 2, size, size)
    assert batch.present[:, 0, 0].all()
    red, green = batch.frames[:, :, 0].float(), batch.frames[:, :, 1].float()
    coloured = (red > 140) | (green > 140)
    inside = batch.masks.any(2)
    both = (batch.objects == 2)[:, None, None, None]
    assert (coloured[inside].float().mean()) > 0.97
    assert ((inside & coloured) | ~coloured)[both.expand_as(coloured)].float().mean() > 0.99
    assert (batch.masks.sum(2) <= 1).all()


def test_a_crop_holds_its_object_at_the_scale_asked_for() -> None:
    options = WindowOptions(
        size=64, frames=1, objects=1, p_crop=1.0, crop=(2.0, 2.0), drift=0.0, p_flip=0.0, min_pixels=200
    )
    batch = AnnotatedWindows([Moving()], options).batch(0, 0, 12)
    area = batch.masks[:, 0, 0].float().sum((1, 2))
    assert torch.allclose(area, torch.full_like(area, 32.0 * 32), rtol=0.07)  # half of the side, both ways


def test_a_still_image_becomes_a_clip_that_drifts() -> None:
    options = WindowOptions(size=64, frames=4, objects=1, p_crop=1.0, drift=0.5)
    batch = AnnotatedWindows([Moving(frames=1)], options).batch(0, 0, 6)
    assert batch.frames.shape[1] == 4
    changed = (batch.masks[:, 0] != batch.masks[:, -1]).any(-1).any(-1).any(-1)
    assert changed.float().mean() > 0.8


def test_strides_and_direction() -> None:
    options = WindowOptions(
        size=64, frames=3, objects=1, strides=(3, 3), p_crop=1.0, drift=0.0, p_flip=0.0, p_reverse=1.0
    )
    batch = AnnotatedWindows([Moving()], options).batch(3, 0, 8)
    columns = torch.arange(64.0)
    pixels = batch.masks[:, :, 0].float().sum(2)
    middle = (pixels * columns).sum(-1) / pixels.sum(-1)
    assert (middle[:, 2] < middle[:, 0]).all()


def test_what_cannot_give_windows_is_refused() -> None:
    with pytest.raises(InputError, match="clips"):
        AnnotatedWindows([], WindowOptions())
    tiny = AnnotatedWindows([Moving(side=1)], WindowOptions(size=32, p_crop=0.0, min_pixels=4000))
    with pytest.raises(InputError, match="no object of 4000 pixels"):
        tiny.batch(0, 0, 1)
    with pytest.raises(InputError, match="count"):
        AnnotatedWindows([Moving()], WindowOptions()).batch(0, 0, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 0), ("p_flip", 2), ("strides", (3, 1)), ("crop", (2.0, 1.0)), ("drift", -0.1), ("frames", 0)],
)
def test_options_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        WindowOptions(**{field: value})
    assert caught.value.field == field


class Weighted(Moving):
    """Its frame 3 counts, and every frame tells its number by how blue it is."""

    def weight(self, index: int) -> float:
        return 1.0 if index == 3 else 0.01

    def frame(self, index: int) -> Frame:
        frame = super().frame(index)
        frame[..., 2] = 10 * index
        return frame


@pytest.mark.parametrize("backwards", [0.0, 1.0])
def test_windows_begin_where_a_frame_counts_more(backwards: float) -> None:
    options = WindowOptions(size=32, frames=2, strides=(1, 1), p_reverse=backwards)
    blue = AnnotatedWindows([Weighted()], options).batch(0, 0, 40).frames[:, :, 2].flatten(2).amax(2)
    assert ((blue[:, 0] == 30).float().mean()) > 0.8
    assert (blue[:, 1].int() - blue[:, 0].int()).unique().tolist() == [-10 if backwards else 10]


def test_clips_of_what_a_model_drew_come_less_often() -> None:
    class Guessed(Moving):
        def weight(self, index: int) -> float:
            return 0.25

    windows = AnnotatedWindows([Moving(side=20), Guessed(side=40)], WindowOptions(size=64, p_crop=0.0))
    assert windows.shares == (0.8, 0.2)
