"""What the tracker found → the keyframes that Label Studio shows, and its regions and predictions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backend.frame_map import FrameMap
from backend.keyframe import DECIMALS, Box, Keyframe, PromptMark, Reach, TrackedMark
from backend.video_plan import RegionPlan, Stretch
from edgetam_model import InputError

SMALL_SHARE = 0.05  # of a box's shorter side: no edge is missed by more, so that an IoU above .8 is sure
DOUBTFUL_SHARE = 0.1  # of a track's frames: what a person should look at first


@dataclass(frozen=True)
class TrackedBox:
    """One object on one frame of the file.

    Attributes:
        box: x0, y0, x1, y1 in pixels, the far edges excluded; None where there is no mask.
        score: confidence, 0 to 1.
        state: as `ObjectResult.state`.

    Raises:
        InputError: a score that is not 0 to 1.
    """

    box: Box | None
    score: float
    state: Literal["visible", "absent", "lost"] = "visible"

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise InputError("score", f"expected 0 to 1, got {self.score}")

    @property
    def visible(self) -> bool:
        """Whether Label Studio is to show it."""
        return self.state == "visible" and self.box is not None


@dataclass(frozen=True)
class KeyframeOptions:
    """How a track is written.

    Attributes:
        tolerance: pixels by which Label Studio's straight lines between keyframes may miss any edge of
            a tracked box, less where the box is small; 0: a keyframe on every frame.
        hold_end: whether the last box stays on screen after the last tracked frame, as Label Studio
            does with a person's own; without it the region ends where the tracking ended.

    Raises:
        InputError: a negative tolerance.
    """

    tolerance: float = 0.0
    hold_end: bool = False

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise InputError("tolerance", f"expected at least 0 pixels, got {self.tolerance}")


@dataclass(frozen=True)
class Track:
    """A region's keyframes, ascending, each frame once, and the score of its doubtful part."""

    keyframes: tuple[Keyframe, ...]
    score: float


def build_track(
    plan: RegionPlan,
    results: Mapping[int, TrackedBox],
    frames: FrameMap,
    size: tuple[int, int],
    *,
    job: str = "",
    options: KeyframeOptions = KeyframeOptions(),
) -> Track:
    """Join what a plan keeps with what was tracked since.

    Args:
        results: frame of the file, 0-based → what was found there. They may stop anywhere, as a job
            that still runs does; of a stretch either all frames since the anchor, or all since `done`.
        size: (H, W) of the video in pixels.
        job: noted in every new keyframe.
    """
    joining = _Joining(plan, frames, options.hold_end)
    for stretch in plan.stretches:
        found = _found(stretch, results, frames)
        runs = _visible_runs(found)
        new = [k for run in runs for k in _keyframes(run, plan, stretch, size, job, options)]
        joining.add(stretch, found, new)
    keyframes = joining.finished()
    scores = [found.score for found in joining.found.values() if found.state != "absent"]
    kept = [
        k.mark.score for k in keyframes if isinstance(k.mark, TrackedMark) and k.frame not in joining.found
    ]
    return Track(keyframes, doubtful_score(scores + kept))


def doubtful_score(scores: Sequence[float]) -> float:
    """The confidence that nine tenths of the frames exceed; 0 where nothing was tracked at all."""
    return float(np.quantile(scores, DOUBTFUL_SHARE)) if len(scores) else 0.0


def region_json(plan: RegionPlan, track: Track, frames: FrameMap) -> dict[str, Any]:
    """The region with its new keyframes: same id, names, labels and origin; as it came where settled."""
    region = plan.region
    if plan.settled:
        return dict(region.raw)
    value = {
        "framesCount": frames.count,
        **region.raw["value"],
        "sequence": [k.to_json(frames.time_of(k.frame)) for k in track.keyframes],
    }
    return {
        "origin": "prediction",  # of regions that do not say themselves
        **region.raw,
        "from_name": region.from_name,
        "to_name": region.to_name,
        "value": value,
        "score": track.score,
    }


def prediction_json(
    tracked: Sequence[tuple[RegionPlan, Track]], frames: FrameMap, model_version: str
) -> dict[str, Any]:
    """One task's prediction; its score is the lowest of its regions', so that doubt shows."""
    regions = [region_json(plan, track, frames) for plan, track in tracked]
    score = min((track.score for plan, track in tracked if plan.prompts), default=0.0)
    return {"result": regions, "score": score, "model_version": model_version}


class _Joining:
    """The keyframes of one region while its stretches are put in."""

    def __init__(self, plan: RegionPlan, frames: FrameMap, hold_end: bool) -> None:
        self.at = {k.frame: k for k in plan.keyframes}
        self.found: dict[int, TrackedBox] = {}
        self.count = frames.count
        self.hold_end = hold_end
        self.ends: list[int] = []  # last frames of stretches that were followed forward

    def add(self, stretch: Stretch, found: Mapping[int, TrackedBox], keyframes: Iterable[Keyframe]) -> None:
        """Put in what was found on a stretch, in place of what stood on the same frames."""
        self.at = {n: k for n, k in self.at.items() if n not in found} | {k.frame: k for k in keyframes}
        self.found |= found
        onward = stretch.step > 0
        reach = max([stretch.done, *found]) if onward else min([stretch.done, *found])
        if onward and found:
            self.ends.append(reach)
        kept = sum(
            1 for n, k in self.at.items() if _came_from(k, stretch.anchor) and (n > stretch.anchor) == onward
        )
        noted = Reach(goal=stretch.stop, reach=reach, kept=kept)
        anchor = self.at[stretch.anchor]
        mark = anchor.mark if isinstance(anchor.mark, PromptMark) else PromptMark()
        mark = mark.model_copy(update={"onward" if onward else "back": noted})
        self.at[stretch.anchor] = replace(anchor, mark=mark)

    def finished(self) -> tuple[Keyframe, ...]:
        """The keyframes, hidden after the last visible frame before every gap."""
        order = sorted(self.at)
        hidden = [n for n, found in self.found.items() if not found.visible]
        for number in hidden:
            place = bisect_left(order, number)
            if place:
                self._hide(order[place - 1])
        for end in self.ends:
            if end in self.at and end + 1 not in self.at and end < self.count and not self.hold_end:
                self._hide(end)
        for number in order:
            if number + 1 in self.at:
                self._show(number)
        return tuple(self.at[n] for n in order)

    def _hide(self, number: int) -> None:
        keyframe = self.at[number]
        if not keyframe.enabled:
            return
        mark = (keyframe.mark or PromptMark()).model_copy(update={"hid": True})
        self.at[number] = replace(keyframe, enabled=False, mark=mark)

    def _show(self, number: int) -> None:
        """Undo our own hiding where nothing lies between a keyframe and the next."""
        keyframe = self.at[number]
        mark = keyframe.mark
        if keyframe.hidden_by_us:
            mark = mark and mark.model_copy(update={"hid": False})
            self.at[number] = replace(keyframe, enabled=True, mark=mark)


def _found(stretch: Stretch, results: Mapping[int, TrackedBox], frames: FrameMap) -> dict[int, TrackedBox]:
    """Label Studio's number → what was found there, without gaps, in the order of tracking."""
    found: dict[int, TrackedBox] = {}
    whole = True  # whether the results begin at the anchor
    for number in stretch.numbers:
        result = results.get(frames.source_of(number))
        before = (stretch.done - number) * stretch.step >= 0
        if result is None and not before:
            break
        whole = whole and result is not None
        if result is not None:
            found[number] = result
    if whole and any((number - stretch.done) * stretch.step > 0 for number in found):
        return found
    return {n: result for n, result in found.items() if (n - stretch.done) * stretch.step > 0}


def _visible_runs(found: Mapping[int, TrackedBox]) -> list[dict[int, TrackedBox]]:
    """The stretches of consecutive frames on which the object is to be seen, ascending."""
    runs: list[dict[int, TrackedBox]] = []
    last = None
    for number in sorted(found):
        if not found[number].visible:
            continue
        if last is None or number != last + 1:
            runs.append({})
        runs[-1][number] = found[number]
        last = number
    return runs


def _keyframes(
    run: Mapping[int, TrackedBox],
    plan: RegionPlan,
    stretch: Stretch,
    size: tuple[int, int],
    job: str,
    options: KeyframeOptions,
) -> list[Keyframe]:
    """A run's keyframes: its first and last frame, and what lies between as far as it is needed."""
    anchor = next(k for k in plan.keyframes if k.frame == stretch.anchor)
    numbers = np.array(list(run))
    percents = _percents([found.box for found in run.values() if found.box is not None], size)
    keep: Iterable[int] = range(len(numbers))
    if options.tolerance > 0:
        height, width = size
        left, top, w, h = percents.T
        edges = np.stack([left * width, top * height, (left + w) * width, (top + h) * height], axis=1) / 100
        sides = (edges[:, 2:] - edges[:, :2]).min(axis=1)
        keep = thinned(numbers, edges, np.minimum(options.tolerance, SMALL_SHARE * sides))
    keyframes = []
    for i in keep:
        number = int(numbers[i])
        score = round(run[number].score, 4)
        mark = TrackedMark(score=score, job=job, source=anchor.frame, anchor=anchor.box_sum())
        x, y, w, h = (float(value) for value in percents[i])
        keyframes.append(Keyframe(number, x, y, w, h, mark=mark))
    return keyframes


def thinned(
    numbers: NDArray[np.int64], edges: NDArray[np.float64], tolerances: NDArray[np.float64]
) -> list[int]:
    """Which of N boxes to keep, so that straight lines between them miss no edge by more than its tolerance.

    From each kept box the line goes to the farthest box that it may reach: the slopes that pass every
    box between within the tolerance form an interval for each edge, which only narrows.

    Args:
        numbers: (N,) ascending.
        edges: (N, 4) positions.
        tolerances: (N,) of each box, in the unit of the edges.

    Returns:
        Indices, ascending; the first and the last box always.
    """
    keep, last = [0], len(numbers) - 1
    while keep[-1] < last:
        start = farthest = keep[-1]
        low, high = np.full(4, -np.inf), np.full(4, np.inf)
        for i in range(start + 1, last + 1):
            span = numbers[i] - numbers[start]
            slope = (edges[i] - edges[start]) / span
            if ((low <= slope) & (slope <= high)).all():
                farthest = i
            low = np.maximum(low, slope - tolerances[i] / span)
            high = np.minimum(high, slope + tolerances[i] / span)
            if (low > high).any():
                break
        keep.append(farthest)
    return keep


def _percents(boxes: Sequence[Box], size: tuple[int, int]) -> NDArray[np.float64]:
    """(N, 4) x, y, width, height in percent, within the frame, as they will be written."""
    height, width = size
    scale = np.array([width, height, width, height]) / 100
    corners = np.clip(np.round(np.array(boxes, np.float64) / scale, DECIMALS), 0, 100)
    spans = np.round(np.maximum(corners[:, 2:] - corners[:, :2], 0), DECIMALS)
    return np.concatenate([corners[:, :2], spans], axis=1)


def _came_from(keyframe: Keyframe, anchor: int) -> bool:
    return isinstance(keyframe.mark, TrackedMark) and keyframe.mark.source == anchor
