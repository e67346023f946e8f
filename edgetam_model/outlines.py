"""A mask as its window shows it, with the colours there: how far two overlap, and how alike they are.

Colours are those that a model with windows keeps of every place. A histogram of them forgets where they are,
so that it stands what a network does not: turning, bending, another size. What covers an object, or is taken
for it, mostly has other colours: on made-up clips the likeness of true masks to the prompted one is .97 in
the middle and .51 at least, that of wrong ones .40 in the middle. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from edgetam_model.masks import Mask
from edgetam_model.windows import Window, object_box, resampled

# In units of the colours in a model's keys, 1.7 of which are a standard deviation of pixels.
LUMA_CELL, LUMA_CELLS = 1.4, 7  # light shifts more easily than hue does
CHROMA_CELL, CHROMA_CELLS = 0.5, 17
CELLS = LUMA_CELLS * CHROMA_CELLS**2
BEYOND = (
    1e6  # what an infinite colour counts as, which broken weights make; one that is no number counts as 0
)
INSIDE = 0.5  # places count that are the object's by more than this share; of a speck, all that it meets

Keys = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Outline:
    """One object, or a piece of it, as a window shows it.

    Attributes:
        mask: (S, S).
        window: what it covers.
        keys: (K, h, w) what the model keeps of each place, red, green and blue last; S is a multiple of h.
    """

    mask: Mask
    window: Window
    keys: Keys

    @cached_property
    def area(self) -> float:
        """In pixels of the frame."""
        return float(self.mask.mean()) * prod(self.window.size)

    @cached_property
    def histogram(self) -> NDArray[np.float64]:
        """See there."""
        return histogram(self.mask, self.keys)

    def likeness(self, other: Outline) -> float:
        """Bhattacharyya's coefficient of both histograms: 1 where they agree, 0 where they share nothing.

        0 as well where a mask is empty.
        """
        return float(np.sqrt(self.histogram * other.histogram).sum())

    @property
    def box(self) -> NDArray[np.float32] | None:
        """(4,) x0, y0, x1, y1 around the mask without its specks, in pixels of the frame; None: no mask."""
        box = object_box(self.mask)
        return None if box is None else self.window.from_window(box.reshape(2, 2), len(self.mask)).reshape(4)

    @property
    def emptied(self) -> Outline:
        """The same window without the object."""
        return replace(self, mask=np.zeros_like(self.mask))

    def seen_in(self, window: Window) -> Mask:
        """(S, S) bool: the mask in another window of the same frame."""
        labels = np.where(self.mask, 1.0, -1.0).astype(np.float32)
        return resampled(labels, self.window, window) > 0

    def overlap(self, other: Outline) -> float:
        """IoU with another mask, in the pixels of this window; 0 where both are empty."""
        share = prod(self.window.size) / self.mask.size
        both = float((self.mask & other.seen_in(self.window)).sum()) * share
        either = self.area + other.area - both
        return both / either if either > 0 else 0.0


def histogram(mask: Mask, keys: Keys) -> NDArray[np.float64]:
    """(7 × 17 × 17,) shares of an object's places by luma, red − green and yellow − blue; zeros without one.

    A place counts for the eight cells around its colour, as near as they are, so that a little more light
    changes little. Colours beyond the last cell count for it.

    Args:
        mask: (S, S) bool.
        keys: (K, h, w), S a multiple of h = w; the last three are red, green and blue.
    """
    side = keys.shape[1]
    cell = len(mask) // side
    share = mask.reshape(side, cell, side, cell).mean(axis=(1, 3))
    weights = np.where(share > INSIDE, share, 0)
    weights = weights if weights.any() else share
    on = weights > 0
    weight = weights[on] / max(float(weights.sum()), 1e-12)
    total = np.zeros(CELLS)
    for cells, shares in spread(keys[-3:, on]):
        total += np.bincount(cells, shares * weight, minlength=CELLS)
    return total


def spread(colours: Keys) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Eight times a cell of the histogram for each of (3, N) colours, and how much of the colour it has."""
    red, green, blue = np.nan_to_num(colours.astype(np.float64), posinf=BEYOND, neginf=-BEYOND)
    axes = (
        _placed((red + green + blue) / 3, LUMA_CELL, LUMA_CELLS),
        _placed(red - green, CHROMA_CELL, CHROMA_CELLS),
        _placed((red + green) / 2 - blue, CHROMA_CELL, CHROMA_CELLS),
    )
    for corner in product((0, 1), repeat=len(axes)):
        index, share = np.zeros(len(red), np.int64), np.ones(len(red))
        for (low, beyond, cells), step in zip(axes, corner, strict=True):
            index = index * cells + low + step
            share = share * (beyond if step else 1 - beyond)
        yield index, share


_Axis = tuple[NDArray[np.int64], NDArray[np.float64], int]


def _placed(values: NDArray[np.float64], cell: float, cells: int) -> _Axis:
    """The cell below each value, how far it is from there to the next one, and how many cells there are."""
    places = np.clip(values / cell + (cells - 1) / 2, 0, cells - 1)
    low = np.minimum(places.astype(np.int64), cells - 2)
    return low, places - low, cells
