"""What anybody can do without a network: the floors that a tracker has to stay above. No torch.

Each floor takes a clip's frames from the first one on and the true mask there, and yields a mask per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.masks import Mask, mask_box

Rgb = NDArray[np.uint8]
Floor = Callable[[Iterable[Rgb], Mask], Iterator[Mask]]

WORK_SIZE = (427, 240)  # width, height: half of DAVIS at 480p, where optical flow and GrabCut are fast
_GRABCUT_ROUNDS = 3
_MARGIN = 8  # pixels: MIL never returns from a box of 4, and finds no background around one of all but 2

# OpenCV's contrib builds have CSRT; MIL comes with every build, and like CSRT needs no weights. MIL seeds
# itself by the clock: on one clip J was .70, .65 and .66 in three runs.
_BOX_TRACKER: Any = getattr(cv2, "TrackerCSRT", cv2.TrackerMIL)


def copy_first(frames: Iterable[Rgb], mask: Mask) -> Iterator[Mask]:
    """The first mask, for ever."""
    for _ in frames:
        yield mask


def flow(frames: Iterable[Rgb], mask: Mask) -> Iterator[Mask]:
    """The mask carried from frame to frame by DIS optical flow (arXiv 1603.03590), MEDIUM preset."""
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    width, height = WORK_SIZE
    grid: NDArray[np.float32] = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2).astype(
        np.float32
    )
    shape = mask.shape
    carried = cv2.resize(mask.astype(np.float32), WORK_SIZE, interpolation=cv2.INTER_AREA)
    before: NDArray[Any] | None = None
    for rgb in frames:
        grey = np.asarray(cv2.cvtColor(_small(rgb), cv2.COLOR_RGB2GRAY))
        if before is None:
            yield mask
        else:
            back = grid + dis.calc(grey, before, None)
            carried = cv2.remap(carried, back[..., 0], back[..., 1], cv2.INTER_LINEAR)
            yield _large(carried, shape)
        before = grey


def boxes_and_grabcut(frames: Iterable[Rgb], mask: Mask) -> Iterator[Mask]:
    """A box tracker started on the mask's box, and GrabCut within its box on every frame.

    Where the tracker has lost the object the mask is empty, and where GrabCut finds nothing it is the box.
    """
    tracker = None
    for rgb in frames:
        small = _small(rgb)
        if tracker is None:
            tracker = _BOX_TRACKER.create()
            tracker.init(small, _small_box(mask))
            yield mask
            continue
        ok, box = tracker.update(small)
        yield _large(_cut(small, box), mask.shape) if ok else np.zeros(mask.shape, np.bool_)


def _small_box(mask: Mask) -> tuple[int, int, int, int]:
    """x, y, width, height at the working size; very small and very large boxes are moderated."""
    box = mask_box(mask)
    assert box is not None  # an object's first frame shows it
    x, wide = _side(box[0], box[2], WORK_SIZE[0] / mask.shape[1], WORK_SIZE[0])
    y, high = _side(box[1], box[3], WORK_SIZE[1] / mask.shape[0], WORK_SIZE[1])
    return x, y, wide, high


def _side(low: int, high: int, scale: float, size: int) -> tuple[int, int]:
    """Start and length of a box's side, around the same middle."""
    length = min(max(round((high - low) * scale), _MARGIN), size - _MARGIN)
    start = round((low + high) / 2 * scale - length / 2)
    return min(max(start, 0), size - length), length


def _cut(small: Rgb, box: Sequence[int]) -> NDArray[np.float32]:
    """(240, 427) 0 or 1: the object within a box, by GrabCut."""
    width, height = WORK_SIZE
    x0, y0 = max(0, box[0]), max(0, box[1])
    x1, y1 = min(width, box[0] + box[2]), min(height, box[1] + box[3])
    found = np.zeros((height, width), np.float32)
    if x1 <= x0 or y1 <= y0:
        return found
    kinds = np.full((height, width), cv2.GC_BGD, np.uint8)
    kinds[y0:y1, x0:x1] = cv2.GC_PR_FGD
    if (kinds == cv2.GC_BGD).any():  # without background there is nothing to tell the object from
        cv2.setRNGSeed(0)  # its colour models start from random clusters
        models, unused = np.zeros((2, 1, 65)), (0, 0, 0, 0)
        cv2.grabCut(small, kinds, unused, models[0], models[1], _GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    found[(kinds == cv2.GC_FGD) | (kinds == cv2.GC_PR_FGD)] = 1
    if not found.any():
        found[y0:y1, x0:x1] = 1
    return found


def _small(rgb: Rgb) -> Rgb:
    return np.asarray(cv2.resize(rgb, WORK_SIZE, interpolation=cv2.INTER_AREA))


def _large(carried: NDArray[Any], shape: tuple[int, ...]) -> Mask:
    return np.asarray(cv2.resize(carried, (shape[1], shape[0])) > 0.5)


# The box tracker under its own name: a table must not call MIL what it calls CSRT elsewhere.
FLOORS: Mapping[str, Floor] = MappingProxyType(
    {
        "copy the first mask": copy_first,
        "DIS flow": flow,
        f"{_BOX_TRACKER.__name__.removeprefix('Tracker')} + GrabCut": boxes_and_grabcut,
    }
)
