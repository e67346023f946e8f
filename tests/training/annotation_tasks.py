"""Annotated tasks made by hand, and media for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetam_model.training.annotations import (
    AnnotatedObject,
    AnnotatedTask,
    BoxShape,
    FrameNumbers,
    MaskShape,
    Origin,
    Shape,
    Sighting,
)

SIZE = (24, 40)  # H, W


def square(at: int = 4, side: int = 10, size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    mask = np.zeros(size, np.bool_)
    mask[at : at + side, at : at + side] = True
    return mask


def sighting(frame: int = 0, origin: Origin = "human", shape: Shape | None = None) -> Sighting:
    return Sighting(frame, shape or MaskShape.of(square(4 + frame % 10)), origin)


def box(x: float = 2) -> BoxShape:
    return BoxShape(x, 3, 10, 8, SIZE)


def thing(*sightings: Sighting, number: int = 1, absent: tuple[range, ...] = ()) -> AnnotatedObject:
    return AnnotatedObject(number, ("cat",), sightings or (sighting(),), absent)


def image_task(name: str = "1", *objects: AnnotatedObject, group: str = "") -> AnnotatedTask:
    return AnnotatedTask(name, "image", f"{name}.png", objects or (thing(),), group)


def video_task(*objects: AnnotatedObject, numbers: FrameNumbers | None = None) -> AnnotatedTask:
    return AnnotatedTask("v", "video", "v.mp4", objects, numbers=numbers or FrameNumbers())
