"""Memory that a runtime writes its answers into, used again when nobody holds the answer any more."""

from __future__ import annotations

import weakref
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

KEPT = 4  # free arrays of one shape; frames that are kept hold three


class Buffers:
    """Lends arrays. A frame's answers are 25 MB, and fresh memory costs a page fault every 4 KiB."""

    def __init__(self) -> None:
        self._free: defaultdict[tuple[int, ...], list[NDArray[np.float32]]] = defaultdict(list)

    def lend(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """An array with anything in it, its borrower's own for as long as somebody refers to it."""
        free = self._free[shape]
        whole = free.pop() if free else np.empty(shape, np.float32)
        lent = whole.view()
        weakref.finalize(lent, self._back, whole).atexit = False
        return lent

    def _back(self, whole: NDArray[np.float32]) -> None:
        free = self._free[whole.shape]
        if len(free) < KEPT:
            free.append(whole)
