"""Which part of a frame a model looks at: one window per object, for models whose input is small."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from math import ceil, floor
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask

Pixel = TypeVar("Pixel", bound=np.generic)

OUTSIDE_LOGIT = -32.0  # of pixels that no window has shown: as far from a mask as stored logits go
MIN_BOX = 16.0  # pixels of the frame; a smaller box gets the window of one of this size
GROWTH = 1.12  # factor by which a window follows a growing or shrinking box within one frame at most …
SLACK = 1.0  # … and pixels of the box beyond that
FAR = 2.0  # a window so many times too wide, as after a search, follows by …
ZOOM = 1.5  # … this factor
SEARCH = 0.1  # of the window's side, added on each side and frame while the object is not found
SPECK = 0.15  # regions below this share of the largest one's area do not count for the box
CLICK_MARGIN = 0.1  # of the window's side, kept around clicks that it is enlarged for


@dataclass(frozen=True)
class Window:
    """A part of a frame in whole pixels, the far edges excluded. The network sees it stretched to a square.

    Attributes:
        x0, y0, x1, y1: 0 ≤ x0 < x1 and 0 ≤ y0 < y1.

    Raises:
        InputError: no such numbers.
    """

    x0: int
    y0: int
    x1: int
    y1: int

    def __post_init__(self) -> None:
        if not (0 <= self.x0 < self.x1 and 0 <= self.y0 < self.y1):
            raise InputError("window", f"expected 0 ≤ x0 < x1 and 0 ≤ y0 < y1, got {astuple(self)}")

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Window:
        """All of a frame of size (H, W)."""
        return cls(0, 0, size[1], size[0])

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) in pixels of the frame."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1."""
        return self.x0, self.y0, self.x1, self.y1

    def contains(self, points: NDArray[np.floating]) -> bool:
        """Whether all points (N, 2) lie in the window, its edges included."""
        return bool(((points >= (self.x0, self.y0)) & (points <= (self.x1, self.y1))).all())

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether the window lies in a frame of size (H, W)."""
        return self.y1 <= size[0] and self.x1 <= size[1]

    def cut(self, frame: NDArray[Pixel]) -> NDArray[Pixel]:
        """The window's pixels of an (H, W, …) array, without copying."""
        return frame[self.y0 : self.y1, self.x0 : self.x1]

    def to_window(self, points: NDArray[np.floating], side: int) -> NDArray[np.float32]:
        """(N, 2) pixels of the frame → pixels of the window stretched to side × side."""
        height, width = self.size
        origin = np.array((self.x0, self.y0), np.float32)
        scale = np.float32(side) / np.array((width, height), np.float32)
        return ((points - origin) * scale).astype(np.float32)

    def from_window(self, points: NDArray[np.floating], side: int) -> NDArray[np.float32]:
        """The inverse of `to_window`."""
        height, width = self.size
        scale = np.array((width, height), np.float32) / np.float32(side)
        return (points * scale + np.array((self.x0, self.y0), np.float32)).astype(np.float32)

    def including(self, points: NDArray[np.floating], size: tuple[int, int]) -> Window:
        """This window, or where points (N, 2) lie outside, a larger one with them and some margin."""
        if self.contains(points):
            return self
        margin = CLICK_MARGIN * max(self.size)
        low = np.minimum(points.min(axis=0) - margin, (self.x0, self.y0))
        high = np.maximum(points.max(axis=0) + margin, (self.x1, self.y1))
        return window_at((low + high) / 2, float((high - low).max()), size)


def window_at(centre: NDArray[np.floating], side: float, size: tuple[int, int]) -> Window:
    """A square of at least `side` pixels around (x, y), moved to lie in a frame of size (H, W).

    Where the frame is smaller than that, so is the window, which then is no square.
    """
    length = ceil(side) + 1  # so that whole pixels cover what `side` covers
    x0, width = _inside(floor(float(centre[0]) - side / 2), length, size[1])
    y0, height = _inside(floor(float(centre[1]) - side / 2), length, size[0])
    return Window(x0, y0, x0 + width, y0 + height)


def window_around(box: NDArray[np.floating], size: tuple[int, int], scale: float) -> Window:
    """A window `scale` times as wide as the longer side of a box x0, y0, x1, y1, which lies in its middle.

    The part of the box that is in the frame of size (H, W) is in the window.
    """
    low, high = _clipped(box, size)
    return window_at((low + high) / 2, _side(low, high, scale), size)


def next_window(last: Window, mask: Mask, size: tuple[int, int], scale: float) -> Window:
    """The window for the next frame of a video.

    Args:
        last: the window of the last frame.
        mask: (S, S) bool, the object as it was seen in that window; empty where it was not.
        size: (H, W) of the frames.
        scale: see `window_around`.

    Returns:
        A window around the mask, of nearly the last one's size; without a mask a larger one, frame by
        frame up to the whole frame, in which a lost object may be seen again.
    """
    before = float(max(last.size))
    box = object_box(mask)
    if box is None:
        centre = np.array(((last.x0 + last.x1) / 2, (last.y0 + last.y1) / 2))
        return window_at(centre, before * (1 + 2 * SEARCH), size)
    low, high = last.from_window(box.reshape(2, 2), len(mask))
    wanted, slack = _side(low, high, scale), SLACK * scale
    shrink = ZOOM if wanted < before / FAR else GROWTH
    side = min(max(wanted, before / shrink - slack), before * GROWTH + slack)
    return window_at((low + high) / 2, side, size)


def object_box(mask: Mask) -> NDArray[np.float32] | None:
    """(4,) x0, y0, x1, y1 around a mask (H, W) without its specks; None for an empty mask."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    regions = stats[1:]  # the first is the rest of the frame
    kept = regions[regions[:, cv2.CC_STAT_AREA] >= SPECK * regions[:, cv2.CC_STAT_AREA].max()]
    low = kept[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]]
    high = low + kept[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
    return np.concatenate((low.min(axis=0), high.max(axis=0))).astype(np.float32)


def resampled(logits: NDArray[np.float32], given: Window, wanted: Window) -> NDArray[np.float32]:
    """Logits (S, S) that cover the window `given` as (S, S) logits that cover `wanted`, bilinear.

    What `given` does not show is clearly no object.
    """
    side = len(logits)
    (height, width), (rows, columns) = given.size, wanted.size
    right, down = columns / width, rows / height
    x = (wanted.x0 - given.x0) * side / width + 0.5 * right - 0.5  # pixel centres meet, not corners
    y = (wanted.y0 - given.y0) * side / height + 0.5 * down - 0.5
    moved = cv2.warpAffine(
        np.ascontiguousarray(logits),
        np.array([[right, 0, x], [0, down, y]]),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=OUTSIDE_LOGIT,
    )
    return np.asarray(moved, np.float32)


def _inside(start: int, length: int, limit: int) -> tuple[int, int]:
    length = min(length, limit)
    return min(max(start, 0), limit - length), length


def _clipped(
    box: NDArray[np.floating], size: tuple[int, int]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    low, high = box.reshape(2, 2).clip(0, (size[1], size[0]))
    return low, high


def _side(low: NDArray[np.floating], high: NDArray[np.floating], scale: float) -> float:
    return max(float((high - low).max()), MIN_BOX) * scale
