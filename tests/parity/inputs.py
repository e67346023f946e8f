"""Deterministic weights and frames for parity: the same bits on every machine and NumPy version.

A value is a function of its entry's name alone: a splitmix64 stream seeded with the name's CRC-32.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

FRAME_SIDE = 1024
DISC = (300, 420, 120)  # x, y and radius of frame 0's disc


def uniform(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """float32 in [-1, 1)."""
    count = int(np.prod(shape, dtype=np.int64))
    step, seed = np.uint64(0x9E3779B97F4A7C15), np.uint64(zlib.crc32(name.encode()))
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64) + seed * np.uint64(0x632BE59BD9B4E019)) * step
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)).reshape(shape)


def entry(name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """The value of one entry of the state dict. The rules keep activations near unit size in the trunk."""
    u = uniform(name, shape)
    last = name.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    offset, gain = _affine(name, last, shape)
    return (np.float32(offset) + np.float32(gain) * u).astype(np.float32)


def well_conditioned(name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Like `entry`, but the mask decoder's token-to-image attention is drawn by its fan-in too.

    That attention is saturated in `entry`'s weights and multiplies rounding; here it does not.
    """
    values = entry(name, shape)
    if len(shape) == 2 and "_token" in name and name.endswith("proj.weight"):
        return values.astype(np.float32) * np.float32(np.sqrt(3.0 / shape[1]) / 0.7)
    return values


def _affine(name: str, last: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if last in {"running_var", "running_mean", "gamma"}:
        return {"running_var": (1.0, 0.5), "running_mean": (0.0, 0.1), "gamma": (0.3, 0.1)}[last]
    if name == "sam_mask_decoder.pred_obj_score_head.layers.2.bias":  # so that most objects are present
        return 0.7, 0.1
    if last == "bias":
        return 0.0, 0.1
    if last == "weight" and len(shape) == 1:
        return (0.75, 0.1) if "trunk" in name else (1.0, 0.2)
    if last == "weight" and "embed" not in name and "token" not in name:
        transposed = "output_upscaling" in name and len(shape) == 4
        fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
        return 0.0, float(np.float32(np.sqrt(3.0 / fan_in)))
    return 0.0, 1.7 if "positional_encoding_gaussian_matrix" in name else 0.7


def frame(t: int) -> NDArray[np.uint8]:
    """uint8 RGB (1024, 1024, 3): a textured backdrop with a disc and a bar that move."""
    y, x = np.mgrid[:FRAME_SIDE, :FRAME_SIDE].astype(np.int64)
    tiles = ((x // 64 + y // 64) % 2) * 90 + (x * y // 512) % 128
    pixels = np.stack([(x * 3 + y + 7 * t) % 256, (x + y * 5) % 256, tiles], -1)
    cx, cy, radius = DISC
    disc = (x - cx - 23 * t) ** 2 + (y - cy - 11 * t) ** 2 < radius**2
    stripes = np.stack([220 - x // 8 % 2 * 60, 40 + y // 8 % 2 * 50, np.full_like(x, 60)], -1)
    pixels[disc] = stripes[disc]
    bar = (abs(x - 760 + 19 * t) < 90) & (abs(y - 600) < 45)
    teeth = np.stack([np.full_like(x, 30), 200 - x // 16 % 2 * 80, np.full_like(x, 210)], -1)
    pixels[bar] = teeth[bar]
    return pixels.clip(0, 255).astype(np.uint8)


def disc_mask() -> NDArray[np.bool_]:
    """The disc of frame 0 as a mask."""
    y, x = np.mgrid[:FRAME_SIDE, :FRAME_SIDE]
    cx, cy, radius = DISC
    return (x - cx) ** 2 + (y - cy) ** 2 < radius**2


def sampled(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The entries that a golden array of `count` entries holds of a larger one."""
    flat = np.asarray(values).reshape(-1)
    if flat.size <= count:
        return flat
    return flat[(np.arange(count) * 2654435761) % flat.size]
