"""CVAT's run lengths of a mask: rows of its box, and the box's corners at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgetam_model import InputError
from edgetam_model.masks import Mask, mask_box

EMPTY = (1, 0, 0, 0, 0)  # one pixel that is off: CVAT has no other way to say nothing
CORNERS = 4  # numbers after the lengths: left, top, right, bottom, the last two included


def encode_mask(mask: Mask) -> list[int]:
    """The points of a mask (H, W) bool as CVAT has them.

    Returns:
        Lengths of runs of off, on, off … along the rows of the mask's box (the first may be 0), then left,
        top, right and bottom of that box, its last column and row included. Python integers.

    Raises:
        InputError: not a two-dimensional array of booleans with at least one pixel.
    """
    if mask.ndim != 2 or mask.size == 0 or mask.dtype != np.bool_:
        raise InputError("mask", f"expected bool (H, W) with pixels, got {mask.dtype} {mask.shape}")
    box = mask_box(mask)
    if box is None:
        return list(EMPTY)
    x0, y0, x1, y1 = box
    flat = mask[y0:y1, x0:x1].ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    leading = [0, 0] if flat[0] else [0]
    lengths = np.diff(np.concatenate((leading, changes, [flat.size])))
    return [*lengths.tolist(), x0, y0, x1 - 1, y1 - 1]


def decode_mask(points: Sequence[int | float], width: int, height: int) -> NDArray[np.bool_]:
    """The mask (height, width) bool of CVAT's points, see `encode_mask`.

    Args:
        points: whole numbers, as integers or as floats.
        width, height: of the image in pixels.

    Raises:
        InputError: too few numbers, fractions, a box that is not inside the image, or lengths that do not
            fill that box.
    """
    if len(points) <= CORNERS:
        raise InputError("points", f"expected run lengths and four corners, got {len(points)} numbers")
    numbers = np.asarray(points)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf":
        raise InputError("points", "expected a list of whole numbers")
    if not (np.isfinite(numbers).all() and (numbers == np.trunc(numbers)).all()):
        raise InputError("points", "expected whole numbers: run lengths, then left, top, right, bottom")
    left, top, right, bottom = (int(number) for number in numbers[-CORNERS:])
    if not (0 <= left <= right < width and 0 <= top <= bottom < height):
        raise InputError(
            "points",
            f"expected a box inside the image ({width}×{height} pixels), "
            f"got left {left}, top {top}, right {right}, bottom {bottom}",
        )
    columns, rows = right - left + 1, bottom - top + 1
    lengths = _lengths(numbers[:-CORNERS], columns * rows)
    mask = np.zeros((height, width), np.bool_)
    bits = np.arange(lengths.size, dtype=np.uint8) & 1
    mask[top : bottom + 1, left : right + 1] = np.repeat(bits, lengths).reshape(rows, columns)
    return mask


def _lengths(numbers: NDArray[np.number], pixels: int) -> NDArray[np.int64]:
    """Run lengths that fill so many pixels; nothing is allocated before that is known."""
    if (numbers < 0).any() or (numbers > pixels).any():
        raise InputError("points", f"expected run lengths of 0 to {pixels} pixels")
    lengths: NDArray[np.int64] = numbers.astype(np.int64)
    if lengths.sum() != pixels:
        raise InputError("points", f"expected run lengths that add up to {pixels}, got {int(lengths.sum())}")
    return lengths
