"""Pictures and masks at another size, in plain NumPy, as the model's own preparation has them."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Float = TypeVar("Float", np.float32, np.float64)
HALF = 0.5
WEIGHT_BITS = 15  # of the integers that stand for weights when bytes are resized


def to_pixels(rgb: NDArray[np.uint8], side: int) -> Array:
    """uint8 (H, W, 3) → float32 (3, S, S) of whole numbers 0 to 255, stretched to the square.

    Bilinear with antialiasing; columns first, then rows, each rounded to bytes.
    """
    picture = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    if rgb.shape[1] != side:
        picture = _bytes_along(picture, side)
    if rgb.shape[0] != side:
        picture = _bytes_along(picture.swapaxes(1, 2), side).swapaxes(1, 2)
    return np.ascontiguousarray(picture, np.float32)


def stretched(values: Array, side: int) -> Array:
    """float32 (H, W) → (S, S), bilinear with antialiasing; columns first, then rows."""
    across = _along(values, side)
    return np.ascontiguousarray(_along(across.T, side).T)


def binary_mask(mask: NDArray[np.bool_], side: int) -> Array:
    """bool (H, W) → float32 (S, S) of 0 and 1."""
    if mask.shape == (side, side):
        return mask.astype(np.float32)
    return (stretched(mask.astype(np.float32), side) >= HALF).astype(np.float32)


def blocks(mask: Array, factor: int) -> Array:
    """(S, S) → (S / factor, S / factor, factor, factor): each block's pixels."""
    small = len(mask) // factor
    return mask.reshape(small, factor, small, factor).swapaxes(1, 2)


def repeated(values: Array, factor: int) -> Array:
    """(S, S) → (S · factor, S · factor), each number as a block."""
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def _along(values: Array, count: int) -> Array:
    """The last axis at another length, weights and sums in float32."""
    if values.shape[-1] == count:
        return values
    places, weights = _taps(values.shape[-1], count, np.float32)
    total = values[..., places[0]] * weights[0]
    for place, weight in zip(places[1:], weights[1:], strict=True):
        total = total + values[..., place] * weight
    return np.asarray(total, np.float32)


def _bytes_along(values: NDArray[Any], count: int) -> NDArray[Any]:
    """The last axis of bytes at another length: weights as integers, half added before the shift."""
    places, weights = _taps(values.shape[-1], count, np.float64)
    bits = _precision(float(weights.max()))
    whole = np.floor(weights * (1 << bits) + HALF).astype(np.int64)
    total = np.full((*values.shape[:-1], count), 1 << (bits - 1), np.int64)
    for place, weight in zip(places, whole, strict=True):
        total += values[..., place].astype(np.int64) * weight
    return np.asarray(np.clip(total >> bits, 0, 255), np.uint8)


def _precision(largest: float) -> int:
    """As many bits as the largest weight leaves room for in 16 bits with a sign, at most 22."""
    bits = 0
    while bits < 22 and int(HALF + largest * (1 << (bits + 1))) < 1 << WEIGHT_BITS:
        bits += 1
    return bits


@cache
def _taps(given: int, wanted: int, kind: type[Float]) -> tuple[NDArray[np.intp], NDArray[Float]]:
    """(T, wanted) places and their weights: a triangle as wide as the larger of the two pixels.

    Computed in the precision that is named, as PyTorch does: double for bytes, single for single.
    """
    scale = kind(given) / kind(wanted)
    support, half = np.maximum(scale, kind(1)), kind(HALF)
    centre = scale * (np.arange(wanted).astype(kind) + half)
    first = np.maximum(np.floor(centre - support + half), 0).astype(np.intp)
    last = np.minimum(np.floor(centre + support + half), given).astype(np.intp)  # excluded
    steps = np.arange(int((last - first).max()))[:, None]
    distance = np.abs(((steps + first).astype(kind) - centre + half) / support)
    weights = np.where(steps < last - first, np.clip(1 - distance, 0, None), 0).astype(kind)
    return np.minimum(first + steps, given - 1), np.asarray(weights / weights.sum(axis=0), kind)
