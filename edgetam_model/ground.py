"""The ground behind an object in a box, as it goes on from outside: sky, water, a wall. No torch.

A box says that nothing outside is the object, so what goes on outside without an edge is none of it either.
Weights too small to know things take the sea in a surfer's box for the surfer, and colours alone
(`colour_cut`) begin with what the weights say. On 97 objects with thin lines across their boxes, which were
made for this, the IoU rose from .39 to .47, on 110 other ones from .830 to .833 (`docs/log.md`).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.masks import Mask, mask_box

Rgb = NDArray[np.uint8]
Costs = NDArray[np.float64]

DEPTH = 60.0  # what a way from outside may cost: the differences between neighbours on it, in 8-bit Lab, …
FREE = 6.0  # … those up to here are noise and cost nothing, …
PACE = 0.3  # … and each pixel costs that much anyway
MARGIN = 3  # pixels outside the box where ways begin: an object's edge lies on the box where they touch
SOFTENED = 0.7  # pixels: standard deviation by which noise is taken off first
TURNS = 12  # a way that turns more often is not followed to its end
SMALLER = 0.9  # a mask without ground has at most this share of the other's area, …
NEAR, SIDES = 3 / 192, 2  # … and is so near (in sides of the window) to so many sides of its box, …
MOSTLY = 0.5  # … of which thin ends may get lost; or else so much of the other mask is ground


def ground(pixels: Rgb, inside: Mask) -> Mask:
    """(S, S) bool: all that is outside, and what it goes on to inside.

    Args:
        pixels: (S, S, 3) RGB.
        inside: (S, S) what the box holds.
    """
    lab = cv2.cvtColor(cv2.GaussianBlur(pixels, (0, 0), SOFTENED), cv2.COLOR_RGB2LAB).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    steps = np.linalg.norm(cv2.dilate(lab, kernel) - cv2.erode(lab, kernel), axis=-1)
    near = cv2.dilate(inside.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
    costs = np.where(near, np.maximum(steps - FREE, 0) + PACE, 0).astype(np.float64)
    return np.asarray((_ways(costs, np.where(near, np.inf, 0.0)) < DEPTH) | ~inside)


def better_fit(mask: Mask, other: Mask, behind: Mask, box: NDArray[np.floating]) -> bool:
    """Whether a mask is what is left of another one without ground.

    Args:
        mask, other: (S, S).
        behind: (S, S) the ground.
        box: (4,) x0, y0, x1, y1 in their pixels, clipped to them.
    """
    own, area = mask_box(mask), int(other.sum())
    if own is None or mask.sum() > SMALLER * area:
        return False
    sides = int((np.abs(np.array(own) - box) <= NEAR * len(mask)).sum())
    return sides >= SIDES or (other & behind).sum() >= MOSTLY * area


def _ways(costs: Costs, known: Costs) -> Costs:
    """(H, W): the least cost of a way along rows and columns to each pixel from where it is known to be 0."""
    least = known
    for _ in range(TURNS):
        before = least
        for axis in (0, 1):
            least = _along(costs, least, axis)
        if np.array_equal(least, before):
            break
    return least


def _along(costs: Costs, known: Costs, axis: int) -> Costs:
    """The same for straight ways in both directions; a pixel costs half where a way begins and ends."""
    way = np.cumsum(costs, axis) - costs / 2
    onward = np.minimum.accumulate(known - way, axis) + way
    back = np.flip(np.minimum.accumulate(np.flip(known + way, axis), axis), axis) - way
    return np.minimum(known, np.minimum(onward, back))
