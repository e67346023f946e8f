"""Whether a tracked mask is believed: a model that has just lost its object would rather see it somewhere.

Masks that are not believed count as no object, so that they neither enter the memory, which would then
confirm them for ever, nor hold the window back from the search. On 128 held-out clips whose object is hidden
for ten frames and comes back, 77 % are found again and 10 % of the frames without it show a mask; it was 70 %
and 14 % before places with its colours were looked at (`searching`), and 59 % and 24 % before colours counted
at all and pieces of other things were left out (`pieces`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgetam_model.outlines import Outline
from edgetam_model.windows import Window, object_box, window_around

STAYING_OVERLAP, STAYING_SCORE = 0.6, -1.0  # a mask that lies where the last one lay …
STAYING_SIZE = 0.6  # … and covers between this share of its area and the inverse is the object, hardly seen
APART = 0.1  # a mask that hardly meets the last one has jumped, mostly to a look-alike, unless …
JUMP_SCORE = 3.0  # … the object is plainly there, and …
JUMP_IOU = 0.8  # … where less than COLLAPSE of the last area is left, its mask is a good one
CLEAR_SCORE = 2.0  # the object score of a plainly visible object is above; most have 3 to 6
POOR_IOU = 0.35  # below it and the score, a mask is doubted …
COLLAPSE = 0.35  # … or where less than this share of the last mask's area is left: mostly a look-alike's part
SWOLLEN = 3.0  # a mask of so many times the last one's area is mostly what hides the object
TURNED = (
    0.5  # a mask less than so much as like the prompted object as the last one was is something else's, …
)
KNOWN = 0.6  # … if the last one was at least so much like it: a rolling ball's colours come and go
RETURN_MERIT = 2.0  # what is found after an absence needs so much score, predicted IoU and likeness: …
IOU_GAIN, USUAL_IOU = 6.0, 0.6  # … 0.1 of IoU above the usual counts 0.6, …
LIKENESS_GAIN, USUAL_LIKENESS = 5.5, 0.85  # … and 0.1 of likeness 0.55, …
LEAST_LIKENESS = 0.5  # … down to here: another side of the object may have come to be seen
SIZE_LOSS, SIZE_FREE = 1.0, 0.7  # … less the logarithm of how far from twice or half the prompted area it is
SURE_LIKENESS = 0.8  # what takes over from a mask that is followed is so much like the object, …
GAINED = 0.08  # … and more so than that mask by this much
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
        likeness: of its colours to those on the nearest prompted frame.
        last_likeness: of the last mask's to the same.
        shown_area: on that prompted frame; 0: nothing was there.
    """

    object_score: float
    iou: float
    area: float
    last_area: float
    overlap: float
    likeness: float
    last_likeness: float
    shown_area: float

    @classmethod
    def of(cls, object_score: float, iou: float, now: Outline, last: Outline, shown: Outline) -> Self:
        """From the masks of this frame, the one before and the nearest prompted one."""
        return cls(
            object_score,
            iou,
            now.area,
            last.area,
            now.overlap(last),
            _alike(now, shown),
            _alike(last, shown),
            shown.area,
        )

    @property
    def returning(self) -> bool:
        """Whether the object would be back after an absence."""
        return self.object_score > 0 and self.last_area == 0

    @property
    def credible(self) -> bool:
        """Whether the object is believed to be there, and its mask to show it."""
        if self.last_area == 0:
            return self.merit >= RETURN_MERIT
        if self._turned or self._strange:
            return False
        if self._staying:
            return True
        if self.object_score <= 0 or self._jumping or self.area > SWOLLEN * self.last_area:
            return False
        if self.object_score >= CLEAR_SCORE:
            return True
        return self.iou >= POOR_IOU and self.area >= COLLAPSE * self.last_area

    @property
    def merit(self) -> float:
        """Of a mask after an absence."""
        likeness = max(self.likeness, LEAST_LIKENESS) - USUAL_LIKENESS
        merit = self.object_score + IOU_GAIN * (self.iou - USUAL_IOU) + LIKENESS_GAIN * likeness
        return merit - SIZE_LOSS * max(0.0, self._resized - SIZE_FREE)

    def outdoes(self, other: Self | None) -> bool:
        """Whether this further look, judged as after an absence, counts instead of the best one so far.

        Args:
            other: that one, another further look or what is followed; None: nothing credible was seen.
        """
        if not self.credible or other is None:
            return self.credible
        if other.last_area == 0:
            return self.merit > other.merit
        least = max(SURE_LIKENESS, other.likeness + GAINED)
        return self.object_score > 0 and self.likeness >= least

    @property
    def _turned(self) -> bool:
        return self.last_likeness >= KNOWN and self.likeness < TURNED * self.last_likeness

    @property
    def _strange(self) -> bool:
        """Whether neither colours nor size are the prompted object's: 22 of 23 such masks were wrong."""
        return self.likeness < LEAST_LIKENESS and self._resized > SIZE_FREE

    @property
    def _resized(self) -> float:
        """The logarithm of the factor between the area and the prompted one, whichever is larger."""
        known = self.area > 0 and self.shown_area > 0
        return abs(log(self.area / self.shown_area)) if known else 0.0

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


def _alike(one: Outline, shown: Outline) -> float:
    """The usual likeness where nothing was shown, so that there is nothing to compare with."""
    return one.likeness(shown) if shown.mask.any() else USUAL_LIKENESS


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
