"""Cut-out things: pictures whose transparent surroundings leave an outline, as actors for synthetic clips."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.training.procedural import TILE

REACH = 1.3  # a cut-out's square covers −REACH … REACH of its thing's coordinates, as a sprite does
EXTENT = 0.9  # of a thing's longer half side there; turned by 45 degrees a square still fits
DEPTH = 0.25  # distance to the outline at which its stored value saturates, in the same unit

MIN_SIDE = 48  # pixels of the thing's longer side; enlarged further it would be a blur
_OPAQUE = 128
_FILLED = (0.15, 0.97)  # share of its bounding box that a thing fills; a full one is a picture, not a thing
_WHOLE = 0.85  # share of the opaque pixels that hang together: a pair or a word is not one thing

Pixels = NDArray[np.uint8]


def cut_thing(layer: Pixels) -> Pixels | None:
    """One thing, ready for a `TextureBank`.

    Args:
        layer: (H, W, 4) RGB and opacity.

    Returns:
        (4, TILE, TILE): RGB, continued beyond the outline, and the distance to it: 0 is DEPTH outside, 255
        DEPTH inside. None where the picture does not show one thing in transparent surroundings.
    """
    solid = _largest((layer[..., 3] >= _OPAQUE).astype(np.uint8))
    if solid is None:
        return None
    left, top, width, height = cv2.boundingRect(solid)
    longer = max(width, height)
    filled = float(solid[top : top + height, left : left + width].mean())
    if longer < MIN_SIDE or not _FILLED[0] <= filled <= _FILLED[1]:
        return None
    texel = longer / (2 * EXTENT) * (2 * REACH) / TILE  # of the picture's pixels
    around = math.ceil(longer * (REACH / EXTENT - 1)) + 2
    box = slice(top, top + height), slice(left, left + width)
    solid = _padded(solid[box], around, cv2.BORDER_CONSTANT)
    colours = _padded(layer[..., :3][box], around, cv2.BORDER_REPLICATE)
    colours = _bled(_smoothed(colours, 0.4 * texel) if texel > 1.2 else colours, solid)
    to_tile = _to_tile(solid.shape[1], solid.shape[0], texel)
    rgb = cv2.warpAffine(colours, to_tile, (TILE, TILE), borderMode=cv2.BORDER_REPLICATE)
    away = cv2.warpAffine(_distance(solid), to_tile, (TILE, TILE), borderMode=cv2.BORDER_REPLICATE)
    depth = away / texel * (2 * REACH / TILE) / DEPTH
    coded = np.clip(np.rint((depth + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.dstack((rgb, coded)).transpose(2, 0, 1))


def _smoothed(rgb: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigma), np.uint8)


def _to_tile(width: int, height: int, texel: float) -> NDArray[Any]:
    """(2, 3) from a picture's pixels to the tile's, its middle in the tile's, `texel` pixels each."""
    middle = (TILE - 1) / 2
    x, y = (width - 1) / 2, (height - 1) / 2
    return np.array([[1 / texel, 0, middle - x / texel], [0, 1 / texel, middle - y / texel]])


def _padded(picture: Pixels, room: int, how: int) -> Pixels:
    return np.asarray(cv2.copyMakeBorder(picture, room, room, room, room, how, value=0), np.uint8)


def _largest(solid: Pixels) -> Pixels | None:
    """The largest piece, where it is nearly all there is."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid)
    if count < 2:
        return None
    sizes = stats[1:, cv2.CC_STAT_AREA]
    if sizes.max() < _WHOLE * sizes.sum():
        return None
    return np.asarray(labels == 1 + int(sizes.argmax())).astype(np.uint8)


def _bled(rgb: Pixels, solid: Pixels) -> Pixels:
    """Outside the thing the colour of its nearest pixel, a little within where the edge is not mixed."""
    inner = cv2.erode(solid, np.ones((3, 3), np.uint8), borderValue=0)
    inner = inner if inner.any() else solid
    _, labels = cv2.distanceTransformWithLabels(1 - inner, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    colour_of = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colour_of[labels[inner > 0]] = rgb[inner > 0]
    return np.asarray(colour_of[labels])


def _distance(solid: Pixels) -> NDArray[Any]:
    """Distance to the outline in pixels, positive inside; the outline lies between two pixels."""
    inside = cv2.distanceTransform(solid, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(1 - solid, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.where(solid > 0, inside - 0.5, 0.5 - outside), np.float32)
