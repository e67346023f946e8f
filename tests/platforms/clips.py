"""Clips whose objects are known on every frame: discs that roll over a dull ground."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.masks import Mask, mask_box
from edgetam_model.render import OverlayWriter, save_png

Rgb = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels

WIDTH, HEIGHT, FPS = 480, 270, 25
RED, BLUE = "red", "blue"

# Two shades of one colour: a click on a disc must mean the disc and not one of its sectors.
_COLOURS = {RED: ((196, 36, 32), (236, 78, 62)), BLUE: ((36, 74, 204), (78, 118, 240))}
_POST = (230, 320)  # left and right edge in pixels: wider than the disc that goes behind it


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip and the truth about it.

    Attributes:
        path: the mp4, `FPS` frames a second, WIDTH × HEIGHT.
        boxes: per frame, name → the box of what can be seen of it; what is hidden is missing.
        masks: the same as masks, bool (HEIGHT, WIDTH).
    """

    path: Path
    boxes: tuple[Mapping[str, Box], ...]
    masks: tuple[Mapping[str, Mask], ...]


@dataclass(frozen=True)
class Disc:
    """Where a disc is: its middle and radius in pixels, and how far it has rolled in radians."""

    x: float
    y: float
    radius: float
    turn: float


def two_discs(path: Path, frames: int = 40) -> Clip:
    """Red goes right and grows, blue goes left; nothing hides them."""
    return _render(path, [_side_by_side(i / (frames - 1)) for i in range(frames)], post=False)


def behind_post(path: Path, frames: int = 60) -> Clip:
    """Red goes right, behind a post where nothing of it can be seen, and comes out again."""
    places = [{RED: Disc(70 + 340 * i / (frames - 1), 130, 20, i / 5)} for i in range(frames)]
    return _render(path, places, post=True)


def still(path: Path) -> Clip:
    """One PNG with both discs."""
    rgb, masks = _frame(_side_by_side(0.3), _ground(), post=False)
    return Clip(save_png(path, rgb), (_boxes(masks),), (masks,))


def _side_by_side(t: float) -> dict[str, Disc]:
    return {
        RED: Disc(80 + 150 * t, 80 + 20 * math.sin(5 * t), 32 + 6 * t, 4 * t),
        BLUE: Disc(390 - 140 * t, 195 - 25 * t, 38, -4 * t),
    }


def _render(path: Path, places: list[dict[str, Disc]], *, post: bool) -> Clip:
    ground = _ground()
    truth = []
    with OverlayWriter(path, WIDTH, HEIGHT, FPS) as video:
        for index, discs in enumerate(places):
            rgb, masks = _frame(discs, ground, post=post)
            video.write(rgb, index / FPS)
            truth.append(masks)
    return Clip(path, tuple(_boxes(masks) for masks in truth), tuple(truth))


def _boxes(masks: Mapping[str, Mask]) -> dict[str, Box]:
    boxes = {name: mask_box(mask) for name, mask in masks.items()}
    return {name: box for name, box in boxes.items() if box is not None}


def _ground() -> Rgb:
    """Soft blotches and fine grain of dull green and brown."""
    rng = np.random.default_rng(5)
    light = 0.5 + 0.2 * _noise(rng, 4) + 0.12 * _noise(rng, 14) + 0.1 * _noise(rng, 90)
    dark, bright = np.array([52, 60, 44]), np.array([150, 150, 116])
    return np.clip(dark + (bright - dark) * light[..., None], 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, cells: int) -> NDArray[Any]:
    coarse = rng.uniform(-1, 1, (cells, 2 * cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))


def _frame(discs: Mapping[str, Disc], ground: Rgb, *, post: bool) -> tuple[Rgb, dict[str, Mask]]:
    """The picture, and what can be seen of each disc."""
    rgb = ground.copy()
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) + 0.5
    masks = {}
    for name, disc in discs.items():
        dx, dy = (x - disc.x) / disc.radius, (y - disc.y) / disc.radius
        masks[name] = inside = np.hypot(dx, dy) < 1
        sector = np.floor((np.arctan2(dy, dx) - disc.turn) * 3 / math.pi).astype(int) % 2
        shade = 1.0 - 0.35 * np.hypot(dx + 0.4, dy + 0.5)[..., None]
        painted = np.array(_COLOURS[name])[sector] * np.clip(shade, 0.3, 1)
        rgb[inside] = painted.astype(np.uint8)[inside]
    if post:
        left, right = _POST
        rgb[:, left:right] = (104, 92, 84)
        rgb[:, left : left + 4] = rgb[:, right - 4 : right] = (70, 62, 56)
        for mask in masks.values():
            mask[:, left:right] = False
    return cv2.GaussianBlur(rgb, (3, 3), 0).astype(np.uint8), masks
