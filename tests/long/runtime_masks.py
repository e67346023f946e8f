"""Masks by a runtime against PyTorch's, over whole clips: `python -m tests.long.runtime_masks CLIPS`.

CLIPS holds clips as `edgetam evaluate` reads them. Every object starts from its true first mask; from then on
each runtime remembers its own masks. Prints one line per clip and runtime, and a JSON line last.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from edgetam_model.annotated_clips import LabelledClip, read_clips
from edgetam_model.masks import mask_iou
from edgetam_model.prompts import Prompt
from edgetam_model.runtime.choosing import RuntimeOptions, accelerate, has_bf16_units
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.weights import load_model


def main() -> None:
    """Track every clip by PyTorch and by each runtime, and compare frame by frame."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--weights", default="default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    runtimes = {"openvino fp32": RuntimeOptions("openvino", "fp32", 1)}
    if has_bf16_units():
        runtimes["openvino bf16"] = RuntimeOptions("openvino", "bf16", 1)
    reference = VideoTracker(accelerate(load_model(args.weights, "cpu"), RuntimeOptions("torch")))
    others = {
        name: VideoTracker(accelerate(load_model(args.weights, "cpu"), options))
        for name, options in runtimes.items()
    }
    overlaps: dict[str, list[float]] = {name: [] for name in runtimes}
    for clip in read_clips(args.clips):
        wanted = tracked(reference, clip)
        for name, tracker in others.items():
            found = [mask_iou(a, b) for a, b in zip(wanted, tracked(tracker, clip), strict=True)]
            overlaps[name] += found
            print(f"{clip.name}, {name}: IoU {np.mean(found):.5f}, least {min(found):.5f}", flush=True)  # noqa: T201
    said = {name: {"mean": float(np.mean(found)), "least": min(found)} for name, found in overlaps.items()}
    print(json.dumps(said))  # noqa: T201


def tracked(tracker: VideoTracker, clip: LabelledClip) -> list[np.ndarray]:
    """Masks of every object on every frame from its first one on."""
    masks = []
    with tracker.open(clip.open()) as session:
        for object_id, first in clip.first_frames.items():
            session.add_prompt(first, object_id, Prompt(mask=clip.truth(first, object_id)[0]))
        for result in session.propagate():
            masks += [one.mask for one in result.objects.values()]
    return masks


if __name__ == "__main__":
    main()
