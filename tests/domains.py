"""Pictures of a domain that weights trained on everyday edges and colours are bad at, with exact masks.

Microscopy-like: pale cells with granules inside, a faint rim, and debris around, seen through noise. A cell's
inside looks like what is around it, and its granules have the strongest edges of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.masks import Mask

SIDE = 256
CELLS = (2, 4)  # of a picture, both included


@dataclass(frozen=True, eq=False)
class CellPicture:
    """uint8 (SIDE, SIDE, 3) RGB, and each cell's mask, bool (SIDE, SIDE)."""

    rgb: NDArray[np.uint8]
    masks: tuple[Mask, ...]


def cell_pictures(count: int, seed: int = 0) -> list[CellPicture]:
    """So many pictures; picture i of a seed is always the same."""
    return [_picture(np.random.default_rng((seed, i))) for i in range(count)]


def _picture(random: np.random.Generator) -> CellPicture:
    light = _blurred(random, 40) * 14 + 118
    masks: list[Mask] = []
    for _ in range(100):
        cell = _outline(random)
        if not any((cell & other).any() for other in masks):
            masks.append(cell)
        if len(masks) == random.integers(CELLS[0], CELLS[1] + 1):
            break
    for cell in masks:
        light += cell * random.uniform(-5, 5)
        rim = cell ^ cv2.erode(cell.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)
        light -= cv2.GaussianBlur(rim.astype(np.float64), (0, 0), 1.2) * random.uniform(16, 26)
        _spots(light, random, cell, round(cell.sum() / 160), (-85, 85))
    _spots(light, random, ~np.any(masks, axis=0), 45, (-85, 85))
    light += random.normal(0, 9, light.shape)
    tint = np.array([1.0, 0.93, 0.97])
    return CellPicture(np.clip(light[..., None] * tint, 0, 255).astype(np.uint8), tuple(masks))


def _outline(random: np.random.Generator) -> Mask:
    """A wobbly disc."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    radius = np.full(angles.shape, 1.0)
    for k in (1, 2, 3):
        radius += random.uniform(-0.14, 0.14) * np.cos(k * angles + random.uniform(0, 6))
    radius *= random.uniform(24, 46)
    middle = random.uniform(40, SIDE - 40, 2)
    points = middle + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
    drawn = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(drawn, [np.round(points).astype(np.int32)], 1)
    return drawn.view(np.bool_)


def _spots(
    light: NDArray[np.float64],
    random: np.random.Generator,
    where: Mask,
    count: int,
    strength: tuple[float, float],
) -> None:
    """Small bright and dark spots, drawn into the picture."""
    rows, columns = np.nonzero(where)
    for place in random.integers(0, len(rows), count):
        spot = np.zeros(light.shape)
        centre = (int(columns[place]), int(rows[place]))
        cv2.circle(spot, centre, int(random.integers(1, 4)), 1.0, -1)
        light += cv2.GaussianBlur(spot, (0, 0), 0.8) * random.uniform(*strength)


def _blurred(random: np.random.Generator, sigma: float) -> NDArray[np.float64]:
    soft = cv2.GaussianBlur(random.normal(0, 1, (SIDE, SIDE)), (0, 0), sigma)
    return np.asarray(soft / soft.std(), np.float64)
