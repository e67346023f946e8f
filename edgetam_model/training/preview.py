"""Clips as a picture that a person can judge: a row each, with the masks' outlines."""

from __future__ import annotations

import cv2
import numpy as np

from edgetam_model.render import Rgb, object_colour
from edgetam_model.training.synthetic.clips import ClipBatch

_SIDE = 256  # pixels a frame is enlarged to at least, so that an outline does not cover what it is about
_GAP = 4
_PAPER = 24


def clip_sheet(batch: ClipBatch) -> Rgb:
    """uint8 (H, W, 3) RGB: a row for each clip of the batch, its frames from left to right; the visible part
    of every object is outlined in a colour of its own."""
    scale = max(1, -(-_SIDE // batch.frames.shape[-1]))
    rows = []
    for frames, masks in zip(batch.frames, batch.masks, strict=True):
        drawn = [
            _outlined(frame.permute(1, 2, 0).cpu().numpy(), mask.cpu().numpy(), scale)
            for frame, mask in zip(frames, masks, strict=True)
        ]
        rows.append(_joined(drawn, axis=1))
    return _joined(rows, axis=0)


def _outlined(frame: Rgb, masks: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], scale: int) -> Rgb:
    """The frame (H, W, 3), enlarged, with the outlines of masks (K, H, W)."""
    size = (frame.shape[1] * scale, frame.shape[0] * scale)
    canvas = np.ascontiguousarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    for number, mask in enumerate(masks, start=1):
        large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, object_colour(number), 1)
    return canvas


def _joined(pictures: list[Rgb], axis: int) -> Rgb:
    """Side by side or one below the other, with a gap between."""
    shape = list(pictures[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, _PAPER, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis=axis)
