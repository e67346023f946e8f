"""Pieces of a tracked mask that are something else's: a network that searches takes in more than one thing.

Of 14 made-up clips whose object came back and was not found, 8 had it outlined well, together with other
things elsewhere in the window. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np

from edgetam_model.masks import Mask
from edgetam_model.outlines import Outline

NEAR = 0.03  # of the window's side: a piece this near to where the object was belongs to it, …
WHOLE = 0.6  # of the last area: where those have as much, other pieces are look-alikes; else …
PART_LIKENESS = 0.5  # … one belongs to it that is so much as like the prompted object as the last mask was
BEST_LIKENESS = 0.75  # after an absence, pieces stay that are so much as like it as the one most like it; …
BACK = 0.6  # … of those that have so much of its prompted area, only the one most like it
SPECK = 0.02  # of the mask's area: smaller pieces tell nothing, and stay with what is followed


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
    pieces = {n: replace(now, mask=labels == n) for n in large}
    if last.mask.any():
        strange = _far(pieces, last, shown)
        kept = [n for n in range(1, count) if n not in strange]
    else:
        kept = _back(pieces, shown)
    return now.mask & ~np.isin(labels, kept) if kept else none


def _far(pieces: Mapping[int, Outline], last: Outline, shown: Outline) -> set[int]:
    """The pieces away from where the object was that are not parts of it."""
    if not pieces:
        return set()
    near = _grown(last.seen_in(next(iter(pieces.values())).window))
    far = {n: piece for n, piece in pieces.items() if not (near & piece.mask).any()}
    if sum(piece.area for n, piece in pieces.items() if n not in far) >= WHOLE * last.area:
        return set(far)
    least = PART_LIKENESS * last.likeness(shown)
    return {n for n, piece in far.items() if piece.likeness(shown) < least}


def _back(pieces: Mapping[int, Outline], shown: Outline) -> list[int]:
    """The pieces that are the object after an absence: one that is large enough, or all that are like it."""
    alike = {n: piece.likeness(shown) for n, piece in pieces.items()}
    like_it = [n for n in pieces if alike[n] >= BEST_LIKENESS * max(alike.values())]
    whole = [n for n in like_it if pieces[n].area >= BACK * shown.area]
    return [max(whole, key=alike.__getitem__)] if whole else like_it


def _grown(mask: Mask) -> Mask:
    reach = max(1, round(NEAR * len(mask)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0
