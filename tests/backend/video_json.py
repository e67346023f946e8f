"""Video regions as Label Studio sends them, and what its editor shows of a sequence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from backend.frame_map import FrameMap
from backend.video_keyframes import KeyframeOptions, TrackedBox, build_track, region_json
from backend.video_plan import RegionPlan, plan_request
from backend.video_prompts import VideoControl, VideoRegion, read_regions
from edgetam_model.timetable import TimeTable

CONTROL = VideoControl("box", "video", "cmd")
SIZE = (200, 400)  # H, W
COUNT = 300
FRAMES = FrameMap(TimeTable.constant(COUNT, 25), Fraction(25), COUNT)  # number N shows frame N - 1

EVERY_FRAME = KeyframeOptions()
Shape = tuple[float, float, float, float]


def keyframe(frame: int, x: float = 10, **more: Any) -> dict[str, Any]:
    """A person's keyframe, in percent."""
    drawn = {"x": x, "y": 20, "width": 10, "height": 30, "rotation": 0, "enabled": True, "time": frame / 25}
    return {"frame": frame, **drawn, **more}


def region(
    *sequence: Mapping[str, Any], name: str = "a", labels: Sequence[str] = ("Player",)
) -> dict[str, Any]:
    value: dict[str, Any] = {"framesCount": COUNT, "duration": COUNT / 25, "sequence": list(sequence)}
    if labels:
        value["labels"] = list(labels)
    ends = {"from_name": "box", "to_name": "video", "type": "videorectangle", "origin": "manual"}
    return {"id": name, **ends, "value": value}


def command(text: str, name: str = "a") -> dict[str, Any]:
    return {"id": name, "type": "textarea", "from_name": "cmd", "to_name": "video", "value": {"text": [text]}}


def read(*items: Mapping[str, Any]) -> list[VideoRegion]:
    return read_regions(json.loads(json.dumps(items)), CONTROL)


def plan(item: Mapping[str, Any], text: str | None = None, frames: FrameMap = FRAMES) -> RegionPlan:
    items = [item] if text is None else [item, command(text)]
    return plan_request(read(*items), frames, SIZE)[0]


def tracked(
    item: Mapping[str, Any],
    results: Mapping[int, TrackedBox],
    text: str | None = None,
    options: KeyframeOptions = EVERY_FRAME,
    frames: FrameMap = FRAMES,
) -> dict[str, Any]:
    """The region after a press of the button, as Label Studio would send it again."""
    made = plan(item, text, frames)
    track = build_track(made, results, frames, SIZE, job="j", options=options)
    answer: dict[str, Any] = json.loads(json.dumps(region_json(made, track, frames), allow_nan=False))
    return answer


def sequence(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = item["value"]["sequence"]
    return found


def shown(item: Mapping[str, Any], number: int) -> Shape | None:
    """x, y, width, height in percent that the editor shows on a frame; None where it shows nothing.

    Straight lines between keyframes, across hidden spans too; nothing before the first; the last is held;
    a keyframe that is not enabled is seen on its own frame and hides what follows.
    """
    before = [k for k in sequence(item) if k["frame"] <= number]
    after = [k for k in sequence(item) if k["frame"] > number]
    if not before or (before[-1]["frame"] < number and not before[-1]["enabled"]):
        return None
    last = before[-1]
    if last["frame"] == number or not after:
        return last["x"], last["y"], last["width"], last["height"]
    share = (number - last["frame"]) / (after[0]["frame"] - last["frame"])
    x, y, w, h = (last[k] + (after[0][k] - last[k]) * share for k in ("x", "y", "width", "height"))
    return x, y, w, h


def moving(first: int, last: int, score: float = 0.9) -> dict[int, TrackedBox]:
    """Results for frames `first` to `last` of the file: a box of 40 × 60 pixels that goes right."""
    return {i: TrackedBox((40 + i / 2, 40, 80 + i / 2, 100), score) for i in range(first, last + 1)}
