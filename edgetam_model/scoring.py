"""How good a mask is: region similarity J, boundary measure F, and what a clip's values come to. No torch.

The definitions are those of the DAVIS 2017 evaluation (arXiv 1704.00675, section 4, and its code).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask, mask_box, mask_iou

BOUNDARY_TOLERANCE = 0.008  # of the image's diagonal: 8 pixels at 854×480
RECALL_THRESHOLD = 0.5
_BINS = 4  # decay compares the first with the last


def region_similarity(found: Mask, truth: Mask, void: Mask | None = None) -> float:
    """J: intersection over union of two masks (H, W), 0 to 1; both empty: 1.

    Args:
        found: what was predicted.
        truth: what is right.
        void: pixels that count neither way.

    Raises:
        InputError: masks of different shapes.
    """
    if void is None:
        return mask_iou(found, truth)
    _same_shape(void, truth)
    return mask_iou(found & ~void, truth & ~void)


def boundary_f(
    found: Mask, truth: Mask, void: Mask | None = None, tolerance: float = BOUNDARY_TOLERANCE
) -> float:
    """F: how well two masks' boundaries lie on each other, 0 to 1.

    A boundary pixel counts as matched where the other mask has one within a disc of
    ceil(tolerance × diagonal) pixels; F is 2PR / (P + R) of the matched shares P of `found`'s pixels and
    R of `truth`'s. Of two masks without a boundary (empty or full) F is 1, of one such mask 0. `void`
    pixels are taken out of both masks before their boundaries are drawn.

    Raises:
        InputError: masks of different shapes.
    """
    _same_shape(found, truth)
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    if void is not None:
        _same_shape(void, truth)
        found, truth = found & ~void, truth & ~void
    drawn, wanted = mask_boundary(found), mask_boundary(truth)
    box = mask_box(drawn | wanted)
    if box is None:
        return 1.0
    part = np.s_[box[1] : box[3], box[0] : box[2]]  # nothing lies outside, and dilating costs by area
    drawn, wanted = drawn[part], wanted[part]
    if not drawn.any() or not wanted.any():
        return 0.0
    precision = (drawn & _dilated(wanted, radius)).sum() / drawn.sum()
    recall = (wanted & _dilated(drawn, radius)).sum() / wanted.sum()
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def mask_boundary(mask: Mask) -> Mask:
    """(H, W) bool: pixels that differ from their right, lower or lower-right neighbour.

    In the last column only the lower neighbour is there, in the last row only the right one: a mask that
    runs over the image's edge has no boundary there.
    """
    edge = np.zeros(mask.shape, np.bool_)
    right = mask[:, :-1] != mask[:, 1:]
    below = mask[:-1] != mask[1:]
    edge[:-1, :-1] = mask[:-1, :-1] != mask[1:, 1:]
    edge[:, :-1] |= right
    edge[:-1] |= below
    return edge


def _dilated(edge: Mask, radius: int) -> Mask:
    grown = cv2.dilate(np.ascontiguousarray(edge).view(np.uint8), _disc(radius))
    return np.asarray(grown).view(np.bool_)


@lru_cache(maxsize=16)
def _disc(radius: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x**2 + y**2 <= radius**2, np.uint8)


def _same_shape(a: Mask, b: Mask) -> None:
    if a.shape != b.shape:
        raise InputError("mask", f"expected two of one shape, got {a.shape} and {b.shape}")


@dataclass(frozen=True)
class Statistics:
    """What the values of one object over its scored frames come to.

    Attributes:
        mean: 0 to 1.
        recall: share of frames above 0.5.
        decay: mean of the first quarter minus mean of the last; positive where it gets worse.
    """

    mean: float
    recall: float
    decay: float


def statistics(values: Sequence[float]) -> Statistics:
    """Mean, recall and decay of J or F, one value per scored frame in order.

    The quarters share their border frames, and a border halfway between two frames goes to the later one,
    as the DAVIS 2017 code has it (whose 8-bit indices, good for 256 frames, are not imitated).

    Raises:
        InputError: no values.
    """
    if not values:
        raise InputError("values", "expected at least one scored frame")
    row = np.asarray(values, np.float64)
    borders = [math.floor(i * (len(row) - 1) / _BINS + 0.5) for i in range(_BINS + 1)]
    first, last = row[: borders[1] + 1], row[borders[-2] :]
    return Statistics(
        mean=float(row.mean()),
        recall=float((row > RECALL_THRESHOLD).mean()),
        decay=float(first.mean() - last.mean()),
    )


def mean_statistics(parts: Iterable[Statistics]) -> Statistics:
    """Each figure's average over objects or clips. Raises InputError where there are none."""
    rows = [(part.mean, part.recall, part.decay) for part in parts]
    if not rows:
        raise InputError("values", "expected at least one object")
    return Statistics(*np.mean(rows, axis=0).tolist())
