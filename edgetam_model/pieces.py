"""Pieces of a tracked mask that are something else's: a network that searches takes in more than one thing.

Of 14 made-up clips whose object came back and was not found, 8 had it outlined well, together with other
things elsewhere in the window. No torch.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from edgetam_model.masks import Mask
from edgetam_model.outlines import Outline

NEAR = 0.03  # of the window's side: a piece this near to where the object was belongs to it, …
PART_LIKENESS = 0.5  # … and so does one that is so much as like the prompted object as the last mask was
BEST_LIKENESS = 0.75  # after an absence, pieces stay that are so much as like it as the one most like it
SPECK = 0.02  # of the mask's area: smaller pieces tell nothing by their colours


def foreign(now: Outline, last: Outline, shown: Outline) -> Mask:
    """(S, S) bool: the pieces of a mask that do not belong to the object; never all of them.

    Args:
        now: the mask as tracked.
        last: of the frame before, empty where the object was not there.
        shown: of the nearest prompted frame.
    """
    none = np.zeros_like(now.mask)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(now.mask.astype(np.uint8), connectivity=8)
    if count < 3 or not shown.mask.any():
        return none
    areas = stats[:, cv2.CC_STAT_AREA]
    large = [n for n in range(1, count) if areas[n] >= SPECK * now.mask.sum()]
    alike = {n: replace(now, mask=labels == n).likeness(shown) for n in large}
    if last.mask.any():
        near = _grown(last.seen_in(now.window))
        least = PART_LIKENESS * last.likeness(shown)
        kept = [n for n in range(1, count) if alike.get(n, 1.0) >= least or near[labels == n].any()]
    else:
        kept = [n for n in large if alike[n] >= BEST_LIKENESS * max(alike.values())]
    return now.mask & ~np.isin(labels, kept) if kept else none


def _grown(mask: Mask) -> Mask:
    reach = max(1, round(NEAR * len(mask)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0
