"""How well Core ML packages track real clips: `EDGETAM_CLIPS=DIR python -m tests.long.coreml_clips DIR ...`.

Every DIR holds an export of the default weights; the packages are evaluated in NumPy, float16 rounding
included, some minutes each. Prints J, F and J&F of each and of the model in float32, and what was lost.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import cast

import numpy as np

from edgetam_model.annotated_clips import read_clips
from edgetam_model.evaluation import PROMPTS, evaluate_clip
from edgetam_model.export.host import HostTracker
from edgetam_model.export.mil_evaluator import PackageRuntime
from edgetam_model.scores import ClipScore
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.weights import load_model


def main(folders: list[str], prompt: str) -> None:
    model = VideoTracker(load_model("default", device="cpu"))
    exact = scores(model, prompt)
    tell("fp32", exact, exact)
    for folder in folders:
        runtime = PackageRuntime(folder)
        host = HostTracker(runtime, runtime.manifest)
        # A host's sessions answer to the same calls.
        tell(Path(folder).name, scores(cast(VideoTracker, host), prompt), exact)


def scores(tracker: VideoTracker, prompt: str) -> list[ClipScore]:
    kind = next(one for one in PROMPTS if one == prompt)
    return [evaluate_clip(tracker, clip, kind) for clip in read_clips(Path(os.environ["EDGETAM_CLIPS"]))]


def tell(name: str, found: list[ClipScore], exact: list[ClipScore]) -> None:
    figures = {"name": name, **means(found)}
    figures["lost"] = {key: value - means(found)[key] for key, value in means(exact).items()}
    figures["clips"] = {one.name: round(one.summary.region.mean, 4) for one in found}
    print(json.dumps(figures), flush=True)  # noqa: T201


def means(found: list[ClipScore]) -> dict[str, float]:
    j = float(np.mean([one.summary.region.mean for one in found]))
    f = float(np.mean([one.summary.boundary.mean for one in found]))
    return {"j": j, "f": f, "jf": (j + f) / 2}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--prompt", choices=PROMPTS, default="mask")
    typed = parser.parse_args()
    main(typed.folders, typed.prompt)
