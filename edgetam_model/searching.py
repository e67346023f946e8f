"""Where else to look for an object: near what a wide window shows, and where its colours are. No torch.

A network finds an object worse in a wide window than in one of the usual size, and goes on to what covers it
or looks like it. Its colours say where a usual window belongs: on 144 frames of made-up clips that an object
had just come back to, the window around the place most like it held most of it on 92 %, one of the best two
on 97 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.credence import Sighting, closer_window
from edgetam_model.outlines import CELLS, Outline, spread
from edgetam_model.windows import MIN_BOX, Window, window_at

PLACES = 2  # looked at while the object is away: a second one finds two of three that the first one misses
APART = 0.6  # of the object's side: places are that far from one another
RARE = 1e-3  # cells of the histogram with a smaller share say little, and cost time
DOUBTED = 0.9  # what is followed is compared with other places where it is less like the prompted object: …
ALIKE = 0.8  # … with those that have so much of the likeness of the prompted frame's own place, …
ELSEWHERE = 0.3  # … and whose box shares less than this (IoU) with its own


@dataclass(frozen=True, eq=False)
class Place:
    """A box of the size of the prompted object, where its colours are.

    Attributes:
        box: (4,) x0, y0, x1, y1 in pixels of the frame.
        likeness: of all colours in the box to the object's, as of outlines.
    """

    box: NDArray[np.float64]
    likeness: float

    def window(self, size: tuple[int, int], scale: float) -> Window:
        """Around the box, as wide as windows of such an object usually are."""
        side = max(float((self.box[2:] - self.box[:2]).max()), MIN_BOX)
        return window_at((self.box[:2] + self.box[2:]) / 2, side * scale, size)


@dataclass(frozen=True)
class Search:
    """What else to look at on a frame.

    Attributes:
        windows: where; up to three.
        first_counts: whether the first look is a candidate beside them.
    """

    windows: list[Window]
    first_counts: bool


def further(now: Outline, shown: Outline, sighting: Sighting, size: tuple[int, int], scale: float) -> Search:
    """Where to look again after the first look at a frame.

    Args:
        now: what the first look shows.
        shown: the object on the nearest prompted frame.
        sighting: what speaks for the first look.
        size: (H, W) of the frame.
        scale: see `window_around`.
    """
    if sighting.last_area > 0:
        follows = sighting.credible and sighting.likeness < DOUBTED
        return Search(_elsewhere(now, shown, size, scale) if follows else [], first_counts=True)
    windows = [place.window(size, scale) for place in places(now, shown, PLACES)]
    closer = closer_window(now.window, now.mask, size, scale) if sighting.returning else None
    return Search(windows if closer is None else [closer, *windows], first_counts=closer is None)


def _elsewhere(now: Outline, shown: Outline, size: tuple[int, int], scale: float) -> list[Window]:
    """Windows of places beside what is followed that look like the object; mostly none."""
    usual, followed = places(shown, shown, 1), now.box
    if not usual or followed is None:
        return []
    return [
        place.window(size, scale)
        for place in places(now, shown, PLACES)
        if place.likeness >= ALIKE * usual[0].likeness and _box_iou(followed, place.box) < ELSEWHERE
    ]


def places(view: Outline, shown: Outline, count: int) -> list[Place]:
    """The places in a view most like an object, best first, at the size that it had when it was shown.

    Args:
        view: its keys and window count, its mask does not.
        shown: the object as it was shown; without a mask there are no places.
        count: how many.
    """
    box = shown.box
    if box is None:
        return []
    side = float((box[2:] - box[:2]).max())
    cells = len(view.keys[0])
    height, width = view.window.size
    right, down = (max(1, min(round(side * cells / length), cells)) for length in (width, height))
    alike = likenesses(view, shown, right, down)
    found = []
    for _ in range(count):
        y, x = np.unravel_index(int(alike.argmax()), alike.shape)
        centre = np.array(((x + 0.5) * width / cells, (y + 0.5) * height / cells))
        centre += (view.window.x0, view.window.y0)
        if alike[y, x] > 0:
            found.append(Place(np.concatenate((centre - side / 2, centre + side / 2)), float(alike[y, x])))
        reach, drop = int(APART * right), int(APART * down)
        alike[max(y - drop, 0) : y + drop + 1, max(x - reach, 0) : x + reach + 1] = 0
    return found


def likenesses(view: Outline, shown: Outline, width: int, height: int) -> NDArray[np.float64]:
    """(h, w) Bhattacharyya's coefficient of an object's histogram and that of a box around every place.

    Args:
        view: its (K, h, w) keys count.
        shown: the object.
        width, height: of the box in places; what lies beyond the view has no colour.
    """
    shares = shown.histogram
    known = np.flatnonzero(shares > RARE)
    row_of = np.full(CELLS, -1)
    row_of[known] = np.arange(len(known))
    shape = view.keys.shape[1:]
    held = np.zeros((len(known), shape[0] * shape[1]))
    for cells, parts in spread(view.keys[-3:].reshape(3, -1)):
        rows = row_of[cells]
        on = np.flatnonzero(rows >= 0)
        held[rows[on], on] += parts[on]  # a place's eight cells differ, so that none is added twice
    total = np.zeros(shape)
    for row, share in zip(held, shares[known], strict=True):
        around = cv2.blur(row.reshape(shape), (width, height), borderType=cv2.BORDER_CONSTANT)
        total += np.sqrt(share * np.maximum(around, 0))
    return total


def _box_iou(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = float(np.maximum(high - low, 0).prod())
    either = float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()) - both
    return both / either if either > 0 else 0.0
