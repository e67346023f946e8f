"""Whether a tracked mask is believed: a model that has just lost its object would rather see it somewhere.

Masks that are not believed count as no object, so that they neither enter the memory, which would then
confirm them for ever, nor hold the window back from the search. On 128 held-out clips whose object is hidden
for ten frames and comes back, 59 % are found again and 24 % of the frames without it show a mask. With the
weights that these rules were made for it was 56 % and 23 %, and 52 % and 25 % before sizes counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, prod
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgetam_model.windows import Window, object_box, resampled, window_around

STAYING_OVERLAP, STAYING_SCORE = 0.6, -1.0  # a mask that lies where the last one lay …
STAYING_SIZE = 0.6  # … and covers between this share of its area and the inverse is the object, hardly seen
APART = 0.1  # a mask that hardly meets the last one has jumped, mostly to a look-alike, unless …
JUMP_SCORE = 3.0  # … the object is plainly there, and …
JUMP_IOU = 0.8  # … where less than COLLAPSE of the last area is left, its mask is a good one
CLEAR_SCORE = 2.0  # the object score of a plainly visible object is above; most have 3 to 6
POOR_IOU = 0.35  # below it and the score, a mask is doubted …
COLLAPSE = 0.35  # … or where less than this share of the last mask's area is left: mostly a look-alike's part
SWOLLEN = 3.0  # a mask of so many times the last one's area is mostly what hides the object
RETURN_MERIT = 1.85  # what is found after an absence needs so much score, predicted IoU and size together: …
IOU_GAIN, USUAL_IOU = 3.0, 0.6  # … 0.1 of IoU above the usual counts 0.3, …
SIZE_LOSS, USUAL_SIZE = 0.5, 2.7  # … each e-fold beyond so many times the prompted area, or its inverse, −0.5
WORTHWHILE = 1.15  # a closer look shows the object at least so many times larger


class Outline(NamedTuple):
    """A mask (S, S) bool, as its window shows it."""

    mask: NDArray[np.bool_]
    window: Window

    @property
    def area(self) -> float:
        """In pixels of the frame."""
        return float(self.mask.mean()) * prod(self.window.size)


@dataclass(frozen=True)
class Sighting:
    """One object's mask on one frame, as the model would have it.

    Attributes:
        object_score: logit of the object being there.
        iou: the predicted one.
        area: of the mask, in pixels of the frame, as if the object were there.
        last_area: on the frame before; 0: it was not there.
        overlap: IoU of the mask with the last one.
        shown_area: on the nearest prompted frame.
    """

    object_score: float
    iou: float
    area: float
    last_area: float
    overlap: float
    shown_area: float

    @classmethod
    def of(cls, object_score: float, iou: float, now: Outline, last: Outline, shown: Outline) -> Self:
        """From the masks of this frame, the one before and the nearest prompted one."""
        return cls(object_score, iou, now.area, last.area, overlap(now, last), shown.area)

    @property
    def returning(self) -> bool:
        """Whether the object would be back after an absence."""
        return self.object_score > 0 and self.last_area == 0

    @property
    def credible(self) -> bool:
        """Whether the object is believed to be there, and its mask to show it."""
        if self.last_area == 0:
            merit = self.object_score + IOU_GAIN * (self.iou - USUAL_IOU) - SIZE_LOSS * self._unusual_size
            return merit >= RETURN_MERIT
        if self._staying:
            return True
        if self.object_score <= 0 or self._jumping or self.area > SWOLLEN * self.last_area:
            return False
        if self.object_score >= CLEAR_SCORE:
            return True
        return self.iou >= POOR_IOU and self.area >= COLLAPSE * self.last_area

    @property
    def _staying(self) -> bool:
        same_size = STAYING_SIZE <= self.area / self.last_area <= 1 / STAYING_SIZE
        return same_size and self.overlap >= STAYING_OVERLAP and self.object_score > STAYING_SCORE

    @property
    def _jumping(self) -> bool:
        if self.overlap >= APART:
            return False
        shrunk = self.area < COLLAPSE * self.last_area
        return self.object_score < JUMP_SCORE or (shrunk and self.iou < JUMP_IOU)

    @property
    def _unusual_size(self) -> float:
        """How far the area is beyond the usual ones, as a logarithm."""
        if self.area == 0 or self.shown_area == 0:
            return 0.0
        return max(0.0, abs(log(self.area / self.shown_area)) - log(USUAL_SIZE))


def overlap(now: Outline, last: Outline) -> float:
    """IoU of a mask with the last one; 0 where both are empty."""
    share = prod(now.window.size) / now.mask.size
    labels = np.where(last.mask, 1.0, -1.0).astype(np.float32)
    both = float((now.mask & (resampled(labels, last.window, now.window) > 0)).sum()) * share
    either = now.area + last.area - both
    return both / either if either > 0 else 0.0


def closer_window(
    window: Window, mask: NDArray[np.bool_], size: tuple[int, int], scale: float
) -> Window | None:
    """Where to look again at what a search through a wide window has found; None: it was seen closely enough.

    Args:
        window: that was searched.
        mask: (S, S) what was found in it.
        size: (H, W) of the frame.
        scale: see `window_around`.
    """
    box = object_box(mask)
    if box is None:
        return None
    corners = window.from_window(box.reshape(2, 2), len(mask)).reshape(4)
    closer = window_around(corners, size, scale)
    return closer if max(closer.size) * WORTHWHILE < max(window.size) else None
