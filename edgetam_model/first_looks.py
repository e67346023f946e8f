"""Which windows a prompt is answered in, and what an answer there is worth. Free of torch."""

from __future__ import annotations

from math import log2

import numpy as np
from numpy.typing import NDArray

from edgetam_model.prompts import Prompt
from edgetam_model.windows import Window, object_box, window_around, window_at

FIRST_LOOKS = (0.7, 0.5, 0.35, 0.25)  # windows around clicks alone: sides in shorter sides of the frame
TINY = 0.001  # share of its window below which a mask is a speck: 16 of 128 × 128 pixels
DISTRUST = 0.15  # taken off the predicted IoU each time the window is halved
NO_OBJECT = 1.0  # taken off the predicted IoU of a mask that is a speck or that its window cuts off


def shown_window(prompt: Prompt, size: tuple[int, int], scale: float) -> Window | None:
    """The window that a mask, a box or an earlier result asks for, its clicks included; else None."""
    if prompt.mask is not None:
        box = object_box(prompt.mask)
        return Window.whole(size) if box is None else window_around(box, size, scale)
    window = None
    if prompt.box is not None:
        window = window_around(prompt.box, size, scale)
    elif prompt.logits is not None:
        window = prompt.window or Window.whole(size)
    return window if window is None or prompt.points is None else window.including(prompt.points, size)


def first_windows(prompt: Prompt, size: tuple[int, int]) -> list[Window]:
    """The whole frame, and smaller windows around the first positive click, those with all clicks in them.

    The first click is the middle, so that further clicks find these windows encoded: half the time of windows
    around the middle of all clicks, at the same IoU (1 to 4 clicks on photographs: .47 .50 .52 .59 against
    .47 .51 .52 .57).
    """
    first = prompt.points[prompt.labels == 1][0]
    closer = [window_at(first, share * min(size), size) for share in FIRST_LOOKS]
    return [Window.whole(size), *(window for window in closer if window.contains(prompt.points))]


def merit(iou: float, mask: NDArray[np.bool_], window: Window | None, size: tuple[int, int]) -> float:
    """How much an answer is worth: its predicted IoU, if it looks like an object at all.

    A small window shows less of what is around, and its answers are trusted less.

    Args:
        iou: the predicted one.
        mask: (S, S) of the window.
        window: None: the whole frame.
        size: (H, W) of the frame.
    """
    if mask.mean() < TINY or _cut_off(mask):
        iou -= NO_OBJECT
    shown = window or Window.whole(size)
    return iou - DISTRUST * log2(min(size) / min(shown.size))


def _cut_off(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask goes from border to border."""
    left, right, top, bottom = (bool(edge.any()) for edge in (mask[:, 0], mask[:, -1], mask[0], mask[-1]))
    return (left and right) or (top and bottom)
