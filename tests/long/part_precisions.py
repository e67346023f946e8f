"""Which part tolerates which precision: `python -m tests.long.part_precisions DIST [--clips 20]`.

DIST is what `edgetam export release` wrote of the default weights. One part at a time runs with a package's
own decompressed weights in PyTorch, the rest in float32, over made-up clips that no training has seen: J and
F from the true first mask, IoU with float32's masks, points of J&F lost and their standard error over clips.
Before that all parts at that precision, and in the end every mixed setting that `--mixed` names.

EDGETAM_CLIPS=DIR with `--real` scores one setting on real clips, to report it and not to choose by it.
A setting is `PART=PRECISION,...` or `all=PRECISION`; parts that are not named stay in float32.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from edgetam_model.export.coreml import Precision
from edgetam_model.export.host import HostTracker
from edgetam_model.export.manifest import Manifest, read_manifest
from edgetam_model.export.stored_weights import StoredRuntime
from edgetam_model.masks import Mask, mask_iou
from edgetam_model.model import EdgeTAM
from edgetam_model.scoring import boundary_f, region_similarity
from edgetam_model.training.held_out import follow
from edgetam_model.training.held_out_clips import HeldOutClip, HeldOutOptions, steady_clips
from edgetam_model.training.textures import load_textures
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.weights import load_model
from tests.long.coreml_clips import means, scores

SMALL: tuple[Precision, ...] = ("int8", "palette6", "palette4")
Setting = Mapping[str, str]  # precision by name of the part's file; not named: float32


@dataclass(frozen=True)
class Packages:
    """A release, and the model that it is of."""

    model: EdgeTAM
    folder: Path
    manifest: Manifest  # of its float16 packages

    def tracker(self, setting: Setting) -> VideoTracker:
        """A host whose sessions answer to the same calls."""
        folders = {name: self.folder / f"coreml-{precision}" for name, precision in setting.items()}
        runtime = StoredRuntime(self.model, self.manifest, folders)
        return cast(VideoTracker, HostTracker(runtime, self.manifest))

    def megabytes(self, setting: Setting) -> float:
        """Of the packages, those at float32 counted as float16."""
        sizes = 0
        for file in self.manifest.files:
            of = f"coreml-{setting.get(file.name, 'fp16')}"
            sizes += read_manifest(self.folder / of).file(file.name).bytes
        return sizes / 1e6


def main(typed: argparse.Namespace) -> None:
    folder = Path(typed.folder)
    packages = Packages(load_model("default", device="cpu"), folder, read_manifest(folder / "coreml-fp16"))
    names = [file.name for file in packages.manifest.files]
    if typed.real:
        report_real(packages, parsed(typed.real, names))
        return
    options = HeldOutOptions(clips=typed.clips, frames=typed.frames)
    clips = list(steady_clips(options, load_textures(typed.textures)))
    exact = [follow(packages.tracker({}), clip) for clip in clips]
    plain = tell("fp32", packages, {}, clips, exact, exact)
    for precision in typed.precisions:
        for setting in (dict.fromkeys(names, precision), *({name: precision} for name in names)):
            judge(packages, setting, clips, exact, plain)
    for text in typed.mixed:
        judge(packages, parsed(text, names), clips, exact, plain)


def parsed(text: str, names: Sequence[str]) -> dict[str, str]:
    """`mask_decoder=int8,...`, or `all=int8`."""
    setting = dict(one.split("=") for one in text.split(","))
    if "all" in setting:
        return dict.fromkeys(names, setting["all"])
    assert set(setting) <= set(names), f"parts are {', '.join(names)}"
    return setting


def judge(
    packages: Packages,
    setting: Setting,
    clips: Sequence[HeldOutClip],
    exact: Sequence[list[Mask]],
    plain: np.ndarray,
) -> None:
    tracker = packages.tracker(setting)
    found = [follow(tracker, clip) for clip in clips]
    label = ",".join(f"{name}={precision}" for name, precision in setting.items())
    tell(label, packages, setting, clips, exact, found, plain)


def tell(
    label: str,
    packages: Packages,
    setting: Setting,
    clips: Sequence[HeldOutClip],
    exact: Sequence[list[Mask]],
    found: Sequence[list[Mask]],
    plain: np.ndarray | None = None,
) -> np.ndarray:
    """One line; J&F by clip in points."""
    j, f, iou = (
        np.array([np.mean(one) * 100 for one in rows])
        for rows in zip(*(clip_scores(*one) for one in zip(clips, exact, found, strict=True)), strict=True)
    )
    both: np.ndarray = (j + f) / 2
    figures = {"setting": label, "MB": packages.megabytes(setting), "j": j.mean(), "f": f.mean()}
    figures |= {"jf": both.mean(), "iou_with_fp32": iou.mean() / 100}
    if plain is not None:
        lost = plain - both
        figures |= {"lost": lost.mean(), "standard_error": lost.std(ddof=1) / len(lost) ** 0.5}
    rounded = {key: round(float(v), 4) if key != "setting" else v for key, v in figures.items()}
    print(json.dumps(rounded), flush=True)  # noqa: T201
    return both


def clip_scores(
    clip: HeldOutClip, exact: list[Mask], found: list[Mask]
) -> tuple[list[float], list[float], list[float]]:
    """J, F and IoU with float32's masks, of all frames but the first, which is shown."""
    later = range(1, len(clip.truth))
    return (
        [region_similarity(found[t], clip.truth[t]) for t in later],
        [boundary_f(found[t], clip.truth[t]) for t in later],
        [mask_iou(found[t], exact[t]) for t in later],
    )


def report_real(packages: Packages, setting: Setting) -> None:
    """J, F and J&F of a setting on real clips, and what was lost against float32."""
    exact = means(scores(packages.tracker({}), "mask"))
    found = means(scores(packages.tracker(setting), "mask"))
    lost = {key: exact[key] - found[key] for key in exact}
    print(json.dumps({"setting": dict(setting), "fp32": exact, "found": found, "lost": lost}))  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--textures", type=Path, help="photographs to use beside procedural textures")
    parser.add_argument("--mixed", nargs="*", default=[], metavar="SETTING")
    parser.add_argument("--precisions", nargs="*", default=SMALL, choices=SMALL)
    parser.add_argument("--real", metavar="SETTING")
    main(parser.parse_args())
