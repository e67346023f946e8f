"""What the model answers: frozen results whose full-size masks are made only when someone reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.masks import mask_box

State = Literal["visible", "absent", "lost"]


@dataclass(frozen=True, eq=False)
class MaskResult:
    """One object's mask on one image.

    Attributes:
        logits: (S, S) float32 low-resolution mask logits (256 × 256 for a 1024 px input), > 0 is the object.
        size: (H, W) of the original image in pixels.
        iou: the model's own estimate of the mask's intersection over union, 0 to 1.
        object_score: logit of the object being in the image; ≤ 0 means absent.
        state: "visible"; "absent" (object score ≤ 0); "lost" (no reliable mask for several frames).
        candidates: every mask the decoder offered, best first, where several were asked for; else empty.
    """

    logits: NDArray[np.float32]
    size: tuple[int, int]
    iou: float
    object_score: float
    state: State = "visible"
    candidates: tuple[MaskResult, ...] = ()

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool at the image's size; empty unless the object is visible."""
        if self.state != "visible":
            return np.zeros(self.size, np.bool_)
        return self.logits_at_size() > 0

    def logits_at_size(self) -> NDArray[np.float32]:
        """(H, W) float32: the logits at the image's size, bilinear with half-pixel centres."""
        height, width = self.size
        resized = cv2.resize(self.logits, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, np.float32)

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
    up to more than zero, which holds between the pixels too: masks cannot overlap at any size.
    """
    visible = [i for i, result in results.items() if result.state == "visible"]
    if len(visible) < 2:
        return dict(results)
    logits = np.stack([results[i].logits for i in visible])
    winner = logits.argmax(axis=0)
    ceiling = np.where(logits.max(axis=0) > 0, -logits.max(axis=0), np.inf)
    parted = dict(results)
    for row, i in enumerate(visible):
        suppressed = np.where(winner == row, logits[row], np.minimum(logits[row], ceiling))
        parted[i] = replace(results[i], logits=suppressed.astype(np.float32))
    return parted
