"""Small pictures of a job: the frame that was just tracked, with the masks that were found on it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.jobs import PICTURE_LIMIT
from edgetam_model import Drawn, FrameResult, FrameSource, ObjectResult, draw_overlay
from edgetam_model.masks import Mask

Frame = NDArray[np.uint8]

SPECK = 9  # pixels of a thumbnail
SIDE = 320  # pixels of the longer side: the status page shows 160 to 240 of its own, some with two of ours
# Of JPEG, tried in turn. A frame of the demo's lawn, all grain and blades, takes 10 kB with the first.
QUALITIES = (80, 65, 50, 35, 20, 5)


class SeenFrames(FrameSource):
    """A source that remembers the last frame it gave out: reading it again would mean decoding it again.

    Args:
        source: the open source; it stays the caller's to close.

    Attributes:
        last: index and frame, uint8 (H, W, 3) RGB; None before the first.
    """

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source.info)
        self._source = source
        self.last: tuple[int, Frame] | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """As the source's."""
        return self._source.warnings

    def read(self, index: int) -> Frame:
        """As the source's; not remembered, as it may be any frame that was prompted."""
        return self._source.read(index)

    def frames(
        self, start: int, stop: int, *, reverse: bool = False, ahead: int = 2
    ) -> Generator[tuple[int, Frame], None, None]:
        """As the source's."""
        with closing(self._source.frames(start, stop, reverse=reverse, ahead=ahead)) as walk:
            for index, rgb in walk:
                self.last = index, rgb
                yield index, rgb

    def _read(self, index: int) -> Frame:
        return self._source.read(index)


def thumbnail(rgb: Frame, result: FrameResult) -> bytes:
    """JPEG of at most `PICTURE_LIMIT` bytes: the frame with each visible object's mask, each in its colour.

    Args:
        rgb: uint8 (H, W, 3), the frame that the result is of.
        result: what was found on it.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    picture = np.asarray(cv2.resize(rgb, small, interpolation=cv2.INTER_AREA), np.uint8)
    objects = [
        Drawn(number, "", _shrunk(found, small), found.state, found.object_score)
        for number, found in sorted(result.objects.items())
        if found.state == "visible"
    ]
    drawn = draw_overlay(picture, objects, captions=False)
    return _jpeg(np.ascontiguousarray(drawn[..., ::-1]))


def _shrunk(found: ObjectResult, size: tuple[int, int]) -> Mask:
    """The object's mask at (width, height), made of its box alone: most objects are small.

    A speck grows by one pixel all around, or nobody would see it.
    """
    small = np.zeros(size[::-1], np.bool_)
    if found.box is None:
        return small
    x0, y0, x1, y1 = found.box
    (height, width), (wide, tall) = found.size, size
    left, top = x0 * wide // width, y0 * tall // height
    right, below = max(left + 1, x1 * wide // width), max(top + 1, y1 * tall // height)
    part = found.mask[y0:y1, x0:x1].astype(np.uint8) * 255
    covered = cv2.resize(part, (right - left, below - top), interpolation=cv2.INTER_AREA)
    small[top:below, left:right] = covered >= min(128, int(covered.max()))
    if small.sum() < SPECK:
        small = cv2.dilate(small.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)
    return small


def _jpeg(bgr: Frame) -> bytes:
    """As good as fits."""
    packed = b""
    for quality in QUALITIES:
        options = (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
        packed = cv2.imencode(".jpg", bgr, options)[1].tobytes()
        if len(packed) <= PICTURE_LIMIT:
            break
    return packed
