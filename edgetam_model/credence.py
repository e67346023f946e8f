"""Whether a tracked mask is believed: a model that has just lost its object would rather see it somewhere.

Masks that are not believed count as no object, so that they neither enter the memory, which would then
confirm them for ever, nor hold the window back from the search. Measured with the first weights on held-out
clips whose object is hidden for ten frames and comes back (`docs/log.md`): without these rules 50 % were
found again, and 53 % of the frames without the object showed a mask; with them 56 % and 29 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from edgetam_model.windows import Window, object_box, resampled, window_around

STAYING_OVERLAP, STAYING_SCORE = 0.6, -1.0  # a mask that lies where the last one lay …
STAYING_SIZE = 0.6  # … and covers between this share of its area and the inverse is the object, hardly seen
APART = 0.1  # a mask that hardly meets the last one has jumped, mostly to a look-alike, unless …
JUMP_SCORE = 3.0  # … the object is plainly there
CLEAR_SCORE = 2.0  # the object score of a plainly visible object is above; most have 3 to 6
POOR_IOU = 0.35  # below it and the score, a mask is doubted …
COLLAPSE = 0.35  # … or where less than this share of the last mask's area is left: mostly a look-alike's part
SWOLLEN = 3.0  # a mask of so many times the last one's area is mostly what hides the object
RETURN_MERIT = 1.95  # what is found after an absence needs so much score and predicted IoU together: …
IOU_GAIN, USUAL_IOU = 3.0, 0.6  # … 0.1 of IoU above the usual counts 0.3
RETURN_IOU = 0.55  # below it nothing counts as found
WORTHWHILE = 1.15  # a closer look shows the object at least so many times larger


@dataclass(frozen=True)
class Sighting:
    """One object's mask on one frame, as the model would have it.

    Attributes:
        object_score: logit of the object being there.
        iou: the predicted one.
        area: of the mask, in pixels of the frame, as if the object were there.
        last_area: on the frame before; 0: it was not there.
        overlap: IoU of the mask with the last one.
    """

    object_score: float
    iou: float
    area: float
    last_area: float
    overlap: float

    @property
    def returning(self) -> bool:
        """Whether the object would be back after an absence."""
        return self.object_score > 0 and self.last_area == 0

    @property
    def credible(self) -> bool:
        """Whether the object is believed to be there, and its mask to show it."""
        if self.last_area == 0:
            merit = self.object_score + IOU_GAIN * (self.iou - USUAL_IOU)
            return merit >= RETURN_MERIT and self.iou >= RETURN_IOU
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
        return self.overlap < APART and self.object_score < JUMP_SCORE


def overlap(mask: NDArray[np.bool_], window: Window, last: NDArray[np.bool_], last_window: Window) -> float:
    """IoU of a mask with the last one, both (S, S) as their windows show them; 0 where both are empty."""
    share = prod(window.size) / mask.size
    moved = resampled(np.where(last, 1.0, -1.0).astype(np.float32), last_window, window) > 0
    both = float((mask & moved).sum()) * share
    either = float(mask.sum()) * share + float(last.mean()) * prod(last_window.size) - both
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
