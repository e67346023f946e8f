"""A simulated annotator: where a person who knows the true mask would click. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask
from edgetam_model.prompts import Prompt


@dataclass(frozen=True)
class Click:
    """A click on pixel (x, y): on the object, or (`positive` False) on what is not the object."""

    x: int
    y: int
    positive: bool = True

    def prompt(self) -> Prompt:
        """The click as a prompt."""
        return Prompt(points=[[self.x, self.y]], labels=[int(self.positive)])


def first_click(truth: Mask) -> Click:
    """The point of the mask (H, W) farthest from its edge; the image's border is an edge too.

    Raises:
        InputError: an empty mask.
    """
    depth = _depth(truth)
    if not depth.any():
        raise InputError("truth", "expected an object to click on, got an empty mask")
    return Click(*_deepest(depth))


def corrective_click(
    found: Mask, truth: Mask, void: Mask | None = None, clicked: Iterable[Click] = ()
) -> Click | None:
    """The middle of the largest error: positive where `found` misses the object, negative where it leaks.

    The largest is the region that holds the largest disc, and the click goes to the disc's centre, as in
    SAM 2's evaluation (arXiv 2408.00714). Pixels clicked before and `void` ones are no
    errors, so that a click that had no effect is not made again. None: there is no error left.
    """
    wrong = found != truth
    if void is not None:
        wrong = wrong & ~void
    missed, leaked = _depth(wrong & truth), _depth(wrong & found)
    for click in clicked:
        missed[click.y, click.x] = leaked[click.y, click.x] = 0
    if not missed.any() and not leaked.any():
        return None
    positive = bool(missed.max() >= leaked.max())
    return Click(*_deepest(missed if positive else leaked), positive)


def _depth(mask: Mask) -> NDArray[np.float32]:
    """(H, W) distance of each of the mask's pixels to the nearest pixel outside it, in pixels."""
    framed = np.pad(mask, 1).astype(np.uint8)
    return np.array(cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1])


def _deepest(depth: NDArray[np.float32]) -> tuple[int, int]:
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y)
