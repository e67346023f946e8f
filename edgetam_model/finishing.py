"""From what the model says to a finished frame: holes filled, and whether the object counts as seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetam_model.engine import Tracked
from edgetam_model.looking import Answer
from edgetam_model.masks import fill_holes, remove_islands
from edgetam_model.options import TrackerOptions
from edgetam_model.results import ObjectResult, State
from edgetam_model.store import FrameRecord


def prompted_record(answer: Answer, options: TrackerOptions) -> FrameRecord:
    """The finished frame of one object that was prompted there."""
    decoded = answer.decoded
    score = float(decoded.object_score[0])
    return FrameRecord(
        logits=_clean(decoded.logits[0].float().cpu().numpy(), options),
        iou=float(decoded.iou[0]),
        object_score=score,
        state=_state(score, 0, options),
        prompted=True,
        reverse=False,
        doubtful=0,
        window=answer.view.window,
    )


def tracked_record(
    tracked: Tracked, doubtful: int, options: TrackerOptions, *, reverse: bool = False
) -> FrameRecord:
    """The finished frame of one object that was tracked there.

    Args:
        tracked: what the model says.
        doubtful: frames in a row without a reliable mask, this one included.
        options: when an object is lost, and what is cleaned.
        reverse: whether it was tracked backward.
    """
    return FrameRecord(
        logits=_clean(tracked.logits, options),
        iou=tracked.iou,
        object_score=tracked.object_score,
        state=_state(tracked.object_score, doubtful, options),
        prompted=False,
        reverse=reverse,
        doubtful=doubtful,
        window=tracked.window,
    )


def reliable(tracked: Tracked, options: TrackerOptions) -> bool:
    """Whether the model finds the object, and trusts its own mask."""
    return tracked.object_score > 0 and tracked.iou >= options.lost_iou


def object_result(object_id: int, record: FrameRecord, size: tuple[int, int]) -> ObjectResult:
    """A finished frame as a caller gets it; `size` is (H, W) of the frames."""
    return ObjectResult(
        logits=record.logits,
        size=size,
        iou=record.iou,
        object_score=record.object_score,
        state=record.state,
        window=record.window,
        object_id=object_id,
        prompted=record.prompted,
    )


def _state(object_score: float, doubtful: int, options: TrackerOptions) -> State:
    if 0 < options.lost_after <= doubtful:
        return "lost"
    return "visible" if object_score > 0 else "absent"


def _clean(logits: NDArray[np.float32], options: TrackerOptions) -> NDArray[np.float32]:
    if options.fill_hole_area:
        logits = fill_holes(logits, options.fill_hole_area)
    if options.island_area:
        logits = remove_islands(logits, options.island_area)
    return logits
