"""A CVAT task over the product's own clip: frames 5, 8, 11 … of it, and a screen before the ladybird."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgetam_model.demo_clip import LADYBIRD, DemoScene
from edgetam_model.masks import Mask, mask_box, mask_to_polygons
from tests.cvat_function.task_server import BIRD, CAR, PLATE, SPEED, JobSpan, TaskServer

START, STEP, COUNT = 5, 3, 14
WIDTH, HEIGHT = 320, 180
HIDDEN = (6, 7)  # frames on which the screen hides the ladybird
FIRST = 1  # the frame that people have drawn on
JOBS = (JobSpan(31, 0, 9), JobSpan(32, 9, 13), JobSpan(39, 0, 13, "ground_truth"))


@dataclass(frozen=True, eq=False)
class Scene:
    """Frames of the task as images, and what is to be seen of each object on them."""

    images: tuple[bytes, ...]
    masks: tuple[dict[int, Mask], ...]


@functools.cache
def scene() -> Scene:
    clip = DemoScene(60, WIDTH, HEIGHT)
    images, masks = [], []
    for frame in range(COUNT):
        rgb, seen = clip.frame(START + STEP * frame)
        if frame in HIDDEN:
            x0, y0, x1, y1 = mask_box(seen[LADYBIRD]) or (0, 0, 0, 0)
            rgb[y0 - 25 : y1 + 15, x0 - 25 : x1 + 25] = (70, 72, 78)
            seen[LADYBIRD] = np.zeros_like(seen[LADYBIRD])
        images.append(_png(rgb))
        masks.append(seen)
    return Scene(tuple(images), tuple(masks))


def task(deleted: tuple[int, ...] = (3,), jobs: Sequence[JobSpan] = JOBS) -> TaskServer:
    return TaskServer(scene().images, (WIDTH, HEIGHT), jobs, source_start=START, step=STEP, deleted=deleted)


def box_shape(frame: int, number: int, label: int = BIRD) -> dict[str, Any]:
    """A rectangle that a person drew around an object."""
    box = mask_box(scene().masks[frame][number])
    assert box is not None
    return {"type": "rectangle", "label_id": label, "frame": frame, "points": [float(edge) for edge in box]}


def polygon_track(frame: int, number: int) -> dict[str, Any]:
    """A car that a person outlined on one frame, as a track with attributes."""
    outline = mask_to_polygons(scene().masks[frame][number], 0.5)[0].outline
    shape = {
        "type": "polygon",
        "frame": frame,
        "points": [float(n) for n in outline.ravel()],
        "z_order": 2,
        "attributes": [{"spec_id": SPEED, "value": "fast"}],
    }
    plate = {"spec_id": PLATE, "value": "B-1234"}
    return {"label_id": CAR, "frame": frame, "attributes": [plate], "shapes": [shape]}


def _png(rgb: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
