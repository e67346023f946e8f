"""A CVAT task of images of several sizes, on the stand-in that videos have."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from tests.cvat_function.task_server import JobSpan, TaskServer, serving

SIZES = ((96, 64), (64, 96), (80, 80))  # width, height
SIDE = 24
Json = dict[str, Any]


class ImageTask(TaskServer):
    """Its facts name every image, with a size of its own."""

    def meta(self, job: JobSpan | None) -> Json:
        first, last = (job.start, job.stop) if job else (0, len(self.images) - 1)
        known = [
            {"name": f"{frame}.jpg", "width": width, "height": height, "related_files": 0}
            for frame, (width, height) in enumerate(SIZES)
        ]
        return {**super().meta(job), "frames": known[first : last + 1]}


def square(frame: int) -> tuple[float, float, float, float]:
    """Where the red square of an image is."""
    x, y = 12.0 + 6 * frame, 20.0
    return x, y, x + SIDE, y + SIDE


@contextmanager
def image_task() -> Iterator[ImageTask]:
    """Three images in one job, 31."""
    images = []
    for frame, (width, height) in enumerate(SIZES):
        rgb = np.random.default_rng(frame).integers(90, 110, (height, width, 3), dtype=np.uint8)
        x0, y0, x1, y1 = map(int, square(frame))
        rgb[y0:y1, x0:x1] = (220, 40, 30)
        stream = io.BytesIO()
        Image.fromarray(rgb).save(stream, "JPEG", quality=95, subsampling=0)
        images.append(stream.getvalue())
    with serving(ImageTask(images, (0, 0), (JobSpan(31, 0, len(SIZES) - 1),))) as state:
        assert isinstance(state, ImageTask)
        yield state
