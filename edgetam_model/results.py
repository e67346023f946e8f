"""What the model answers: frozen results whose full-size masks are made only when someone reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.masks import mask_box
from edgetam_model.windows import OUTSIDE_LOGIT, Window

State = Literal["visible", "absent", "lost"]


@dataclass(frozen=True, eq=False)
class MaskResult:
    """One object's mask on one image.

    Attributes:
        logits: (S, S) float32 mask logits (256 × 256 for a 1024 px input), > 0 is the object.
        size: (H, W) of the original image in pixels.
        iou: the model's own estimate of the mask's intersection over union, 0 to 1.
        object_score: logit of the object being in the image; ≤ 0 means absent.
        state: "visible"; "absent" (object score ≤ 0); "lost" (no reliable mask for several frames).
        candidates: every mask the decoder offered, best first, where several were asked for; else empty.
        window: the part of the image that the logits cover; None: all of it. Nothing of the object is
            outside.
        yielded: (h, w) bool of the window, or None: pixels that went to other objects (`without_overlap`).
    """

    logits: NDArray[np.float32]
    size: tuple[int, int]
    iou: float
    object_score: float
    state: State = "visible"
    candidates: tuple[MaskResult, ...] = ()
    window: Window | None = None
    yielded: NDArray[np.bool_] | None = None

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool at the image's size; empty unless the object is visible."""
        if self.state != "visible":
            return np.zeros(self.size, np.bool_)
        return self.logits_at_size() > 0

    def logits_at_size(self) -> NDArray[np.float32]:
        """(H, W) float32: the logits at the image's size, bilinear with half-pixel centres.

        Outside the window, and where other objects took the pixels, they are at most −32.
        """
        if self.window is None:
            return _resized(self.logits, self.size)
        at_size = np.full(self.size, OUTSIDE_LOGIT, np.float32)
        self.window.cut(at_size)[:] = self.logits_in_window()
        return at_size

    def logits_in_window(self) -> NDArray[np.float32]:
        """(h, w) float32: `logits_at_size` of the window alone."""
        values = _resized(self.logits, self.size if self.window is None else self.window.size)
        if self.yielded is None:
            return values
        return np.where(self.yielded, np.minimum(values, np.float32(OUTSIDE_LOGIT)), values)

    @cached_property
    def box(self) -> tuple[int, int, int, int] | None:
        """x0, y0, x1, y1 in pixels around the mask, the far edges excluded; None for an empty mask."""
        return mask_box(self.mask)


@dataclass(frozen=True, eq=False)
class ObjectResult(MaskResult):
    """One object's mask on one video frame.

    Attributes:
        object_id: the caller's own number for the object.
        prompted: whether the object has a prompt on this frame.
    """

    object_id: int = 0
    prompted: bool = False


@dataclass(frozen=True, eq=False)
class FrameResult:
    """Every object's result on one frame.

    Attributes:
        frame: 0-based index in presentation order.
        time: presentation time in seconds.
        objects: object id → result; objects that were not tracked to this frame are missing.
    """

    frame: int
    time: float
    objects: Mapping[int, ObjectResult]


def without_overlap(results: Mapping[int, ObjectResult]) -> dict[int, ObjectResult]:
    """Give every pixel to the visible object with the highest logit.

    Where the winner's logit is positive, the others' become at most its negative. Then no two logits add
    up to more than zero, which holds between the pixels too: masks cannot overlap at any size. Objects
    seen through windows of their own are compared at the image's size, and do not overlap there.
    """
    visible = [i for i, result in results.items() if result.state == "visible"]
    if len(visible) < 2:
        return dict(results)
    seen = [results[i] for i in visible]
    parted = _part(seen) if all(result.window is None for result in seen) else _part_windows(seen)
    return dict(results) | dict(zip(visible, parted, strict=True))


def _part(results: Sequence[ObjectResult]) -> list[ObjectResult]:
    """Part objects by their logits (S, S), which all cover the whole image."""
    logits = np.stack([result.logits for result in results])
    winner = logits.argmax(axis=0)
    ceiling = np.where(logits.max(axis=0) > 0, -logits.max(axis=0), np.inf)
    parted = []
    for row, result in enumerate(results):
        suppressed = np.where(winner == row, logits[row], np.minimum(logits[row], ceiling))
        parted.append(replace(result, logits=suppressed.astype(np.float32)))
    return parted


def _part_windows(results: Sequence[ObjectResult]) -> list[ObjectResult]:
    """Part objects pixel by pixel of the image; the logits stay, and what was lost stands in `yielded`."""
    size = results[0].size
    highest = np.zeros(size, np.float32)
    owner = np.full(size, -1, np.int32)
    windows = [result.window or Window.whole(size) for result in results]
    for row, (result, window) in enumerate(zip(results, windows, strict=True)):
        values, so_far = result.logits_in_window(), window.cut(highest)
        window.cut(owner)[values > so_far] = row
        np.maximum(so_far, values, out=so_far)
    return [
        replace(result, window=window, yielded=(window.cut(owner) >= 0) & (window.cut(owner) != row))
        for row, (result, window) in enumerate(zip(results, windows, strict=True))
    ]


def _resized(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    height, width = size
    resized = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32)
