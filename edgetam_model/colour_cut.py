"""Where an object ends by its colours: OpenCV's GrabCut, for weights too small to know things. Free of torch.

What it finds goes back into the model as an earlier result that is to be refined, so that the model has the
last word on the mask and on how good it is. With weights that had never seen such results that took the IoU
on the 21 outlined objects of scikit-image's photographs from .777 to .827 from a box and from .469 to .710
from one click, on 60 made-up stills from .775 to .801 and from .558 to .716 (`docs/log.md`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.ground import Rgb, better_fit, ground
from edgetam_model.masks import Mask
from edgetam_model.prompts import Prompt
from edgetam_model.windows import Window

ROUNDS = 2  # of colours learned and pixels parted; five find the same, in twice the time
SEED_RADIUS = 2  # pixels around a click that are surely what it says
BORDER = 3  # pixels along the picture's edge that are surely not what a click shows, unless its mask is there
CUT_LOGIT = 6.0  # of what is cut out, and less than nothing of the rest
LEAST = 0.25  # of a guess: with less of it left, edges are too weak to tell ground; nor is it taken off …
SURE, HALF = 0.8, 0.5  # … where an answer's predicted IoU is so high, with less than so much of the guess, …
CERTAIN = 0.92  # … or where it is so high: of small pictures, spread in the window, edges are weak

Kinds = NDArray[np.uint8]  # (S, S) of cv2.GC_…
Picture = TypeVar("Picture", NDArray[np.uint8], NDArray[np.float32])


def with_colours(prompt: Prompt, window: Window, pixels: Rgb, mask: Mask) -> Prompt | None:
    """A prompt with what its colours say added to it as an earlier result; None: they say nothing.

    Args:
        prompt: a box, clicks or both, in pixels of the frame, without a mask or an earlier result.
        window: what is looked at.
        pixels: (S, S, 3) RGB, the window as the network sees it.
        mask: (M, M) what the model answers to the prompt there; the earlier result gets this size.
    """
    cut = _cut_out(prompt, window, pixels, _spread(mask, len(pixels)))
    return None if cut is None else _told(prompt, window, cut, len(mask))


def off_ground(
    prompt: Prompt, window: Window, pixels: Rgb, mask: Mask, best: Mask, iou: float
) -> Prompt | None:
    """`with_colours` for a prompt with a box, begun without the ground that goes on outside the box.

    Args:
        prompt, window, pixels, mask: see there.
        best: (M, M) the best answer so far.
        iou: its predicted one.

    Returns:
        None as well where that is no better fit than the best answer.
    """
    assert prompt.box is not None, "without a box nothing is known to be outside"
    side = len(pixels)
    x0, y0, x1, y1 = box = _corners(window, prompt.box, side)
    inside = np.zeros((side, side), np.bool_)
    inside[y0:y1, x0:x1] = True
    behind = ground(pixels, inside)
    guess = inside & _spread(mask, side)
    area, bare = guess.sum(), guess & ~behind
    left = bare.sum()
    trusted = iou >= CERTAIN or (iou >= SURE and left < HALF * area)
    if trusted or left == area or left < LEAST * area:
        return None
    cut = _cut_out(prompt, window, pixels, bare)
    if cut is None or not better_fit(cut, _spread(best, side), behind, np.array(box)):
        return None
    return _told(prompt, window, cut, len(mask))


def _cut_out(prompt: Prompt, window: Window, pixels: Rgb, guess: Mask) -> Mask | None:
    """(S, S): what the colours show, begun with a guess (S, S)."""
    side = len(pixels)
    kinds = _around(guess) if prompt.box is None else _within(window, prompt.box, guess)
    clicks = np.zeros((0, 2), np.int64)
    if prompt.points is not None and prompt.labels is not None:
        places = window.to_window(prompt.points, side)
        clicks = np.floor(places).astype(np.int64).clip(0, side - 1)
        for (x, y), label in zip(clicks.tolist(), prompt.labels.tolist(), strict=True):
            cv2.circle(kinds, (x, y), SEED_RADIUS, (cv2.GC_FGD if label == 1 else cv2.GC_BGD,), -1)
    cut = _cut(pixels, kinds)
    if cut is not None and prompt.box is None and prompt.labels is not None:
        cut = _touching(cut, clicks[prompt.labels == 1])
    return cut if cut is not None and cut.any() else None


def _told(prompt: Prompt, window: Window, cut: Mask, side: int) -> Prompt:
    """The prompt with a mask as an earlier result of (side, side)."""
    logits = np.where(cut, CUT_LOGIT, -CUT_LOGIT).astype(np.float32)
    return replace(prompt, logits=_sized(logits, side), window=window)


def _spread(mask: Mask, side: int) -> Mask:
    """(side, side): a mask of another size, with all that it touches."""
    return _sized(mask.astype(np.uint8), side) > 0


def _sized(picture: Picture, side: int) -> Picture:
    """Stretched to (side, side): masks of models without a refiner are coarser than what they see."""
    if len(picture) == side:
        return picture
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), picture.dtype)


def _within(window: Window, box: NDArray[np.floating], guess: Mask) -> Kinds:
    """The box holds the object; what is outside is known, and tells of the background's colours. Inside, the
    model's own mask is a first guess: all of the box would be mostly background where its object is slim."""
    side = len(guess)
    kinds = np.full((side, side), cv2.GC_BGD, np.uint8)
    x0, y0, x1, y1 = _corners(window, box, side)
    inside = guess[y0:y1, x0:x1]
    kinds[y0:y1, x0:x1] = np.where(inside | ~inside.any(), cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    return kinds


def _corners(window: Window, box: NDArray[np.floating], side: int) -> list[int]:
    """A box x0, y0, x1, y1 of the frame in whole pixels of what is looked at."""
    corners = window.to_window(box.reshape(2, 2), side).round().clip(0, side)
    return [int(one) for one in corners.flatten()]


def _around(mask: Mask) -> Kinds:
    """The model's own mask is a first guess that may be wrong anywhere."""
    kinds = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    kinds[BORDER:-BORDER, BORDER:-BORDER] = cv2.GC_PR_BGD
    kinds[mask] = cv2.GC_PR_FGD
    return kinds


def _cut(pixels: Rgb, kinds: Kinds) -> Mask | None:
    """The object's pixels; None where there are none to learn its colours or the background's from."""
    likely = _is_object(kinds)
    if likely.all() or not likely.any():
        return None
    cv2.setRNGSeed(0)  # colours are grouped from random starts: the same picture gives the same mask
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))  # OpenCV's working space
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    cv2.grabCut(bgr, kinds, (0, 0, 0, 0), background, foreground, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return _is_object(kinds)


def _is_object(kinds: Kinds) -> Mask:
    return np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _touching(mask: Mask, clicks: NDArray[np.int64]) -> Mask:
    """The pieces of a mask that clicks (N, 2) lie on."""
    _, pieces = cv2.connectedComponents(mask.astype(np.uint8))
    wanted = np.unique(pieces[clicks[:, 1], clicks[:, 0]])
    return np.isin(pieces, wanted[wanted > 0])
