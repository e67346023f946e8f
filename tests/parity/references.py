"""Golden numbers, the weights and roll-outs that they belong to, and the tolerances that they are held to."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgetam_model.config import CONFIGS
from edgetam_model.model import EdgeTAM
from edgetam_model.options import TrackerOptions
from edgetam_model.prompts import Prompt
from edgetam_model.results import FrameResult
from edgetam_model.session import VideoSession
from edgetam_model.video_tracker import VideoTracker
from tests.parity.inputs import disc_mask, entry, frame, sampled, well_conditioned

HERE = Path(__file__).parent
MODULES, VIDEO = 1e-4, 2e-3  # absolute tolerances where nothing amplifies rounding
SPREAD = 4.0  # golden numbers are one more fp32 computation: within this many times the spread of ours
CAP = 0.15  # of logits of ± 5, where the spread allows it; the smallest slip tried moves them by .42
PUBLISHED = {"dynamic_multimask": True, "binarize_prompted_memory": True}
PLAIN = {"dynamic_multimask": False, "binarize_prompted_memory": False}

Arrays = dict[str, NDArray[np.float32]]
RollOut = Callable[[EdgeTAM], Arrays]


@cache
def golden() -> Arrays:
    with np.load(HERE / "golden.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@cache
def independent() -> Arrays:
    """Roll-outs by Hugging Face transformers 5.23 (`EdgeTamVideoModel`, fp32 on a CPU), on `tame` weights."""
    with np.load(HERE / "independent.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@cache
def layout() -> dict[str, list[int]]:
    layout: dict[str, list[int]] = json.loads((HERE / "state_dict.json").read_text())
    return layout


def build(fill: Callable[[str, tuple[int, ...]], NDArray[np.generic]]) -> EdgeTAM:
    model = EdgeTAM(CONFIGS["edgetam"]).eval()
    state = {name: torch.from_numpy(np.asarray(fill(name, tuple(shape)))) for name, shape in layout().items()}
    model.load_state_dict(state, strict=True)
    return model


@cache
def published() -> EdgeTAM:
    return build(entry)


@cache
def tame() -> EdgeTAM:
    """Weights whose mask decoder is well conditioned."""
    return build(well_conditioned)


@cache
def fused() -> EdgeTAM:
    return copy.deepcopy(published()).fuse()


def error(outputs: Arrays, expected: Arrays, name: str) -> float:
    reference = expected[name].reshape(-1)
    return float(np.abs(sampled(outputs[name], reference.size) - reference).max())


def collect(prefix: str, results: Iterable[FrameResult]) -> Arrays:
    return {
        f"{prefix}.frame{r.frame:02d}.obj{i}.{kind}": value
        for r in results
        for i, o in r.objects.items()
        for kind, value in (("logits", o.logits), ("score", np.array([o.object_score], np.float32)))
    }


def tracker(model: EdgeTAM, **options: bool) -> VideoTracker:
    fixed = {"corrections_as_conditioning": False, "non_overlapping": False, "fill_hole_area": 0}
    return VideoTracker(model, TrackerOptions(**fixed, **options))  # type: ignore[arg-type]


def box_and_click(model: EdgeTAM, frames: int, **options: bool) -> VideoSession:
    session = tracker(model, **options).open([frame(t) for t in range(frames)])
    session.add_prompt(0, 1, Prompt(box=[180, 300, 420, 540]))
    session.add_prompt(0, 2, Prompt(points=[[760, 600]], labels=[1]))
    return session


def forward_and_corrected(model: EdgeTAM) -> Arrays:
    session = box_and_click(model, 12, **PLAIN)
    out = collect("video.forward", session.propagate())
    correction = Prompt(points=[[438, 486], [700, 700]], labels=[1, 0])
    out["video.correction.obj1"] = session.add_prompt(6, 1, correction).logits_at_size()
    return out | collect("video.corrected", session.propagate(start=6))


def backward(model: EdgeTAM) -> Arrays:
    session = tracker(model, **PLAIN).open([frame(t) for t in range(12)])
    session.add_prompt(11, 1, Prompt(points=[[553, 541]], labels=[1]))
    return collect("video.backward", session.propagate(reverse=True))


def with_published_options(model: EdgeTAM) -> Arrays:
    return collect("video.published", box_and_click(model, 6, **PUBLISHED).propagate())


def from_mask(model: EdgeTAM) -> Arrays:
    session = tracker(model, **PLAIN).open([frame(t) for t in range(10)])
    session.add_prompt(0, 7, Prompt(mask=disc_mask()))
    return collect("video.from_mask", session.propagate())


def like_the_independent_one(model: EdgeTAM) -> Arrays:
    """A box and a click forward, a click backward, published options."""
    frames = [frame(t) for t in range(6)]
    tracker = VideoTracker(model, TrackerOptions(fill_hole_area=0))
    session = tracker.open(frames)
    session.add_prompt(0, 1, Prompt(box=[180, 300, 420, 540]))
    session.add_prompt(0, 2, Prompt(points=[[760, 600]], labels=[1]))
    out = collect("video.published", session.propagate())
    session = tracker.open(frames)
    session.add_prompt(5, 1, Prompt(points=[[410, 475]], labels=[1]))
    return out | collect("video.backward", session.propagate(reverse=True))


# Roll-out → golden arrays it answers for: logits and score of each object and frame, and one correction.
GOLDEN_ARRAYS: dict[RollOut, int] = {
    forward_and_corrected: 12 * 2 * 2 + 1 + 6 * 2 * 2,
    backward: 12 * 2,
    with_published_options: 6 * 2 * 2,
    from_mask: 10 * 2,
}


def history_of(name: str) -> str:
    """The roll-out and object that an array belongs to: they share a history, and so a spread."""
    run = name.split(".")[1].replace("correction", "corrected")
    return f"{run}, object {name.partition('obj')[2].partition('.')[0]}"


def worst_by_history(found: dict[str, float]) -> dict[str, float]:
    worst: dict[str, float] = defaultdict(float)
    for name, value in found.items():
        worst[history_of(name)] = max(worst[history_of(name)], value)
    return dict(worst)


def video_errors(outputs: Arrays) -> dict[str, float]:
    """Largest error of each history in a roll-out against the golden numbers."""
    runs = {history_of(name) for name in outputs}
    names = [name for name in golden() if name.startswith("video.") and history_of(name) in runs]
    return worst_by_history({name: error(outputs, golden(), name) for name in names})


def independent_errors(outputs: Arrays) -> dict[str, float]:
    """Error of each array of `like_the_independent_one` against the independent numbers."""
    return {name: error(outputs, independent(), name) for name in independent()}
