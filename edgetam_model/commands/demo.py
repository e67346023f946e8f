"""`edgetam demo`: the product's own clip, tracked and held against its true masks."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgetam_model.commands.terminal import add_json_and_verbose, add_model_options

if TYPE_CHECKING:  # torch takes a second to import, and help must not wait for it
    from edgetam_model.commands.progress import Meter
    from edgetam_model.commands.report import TrackReport
    from edgetam_model.demo_clip import DemoClip
    from edgetam_model.tracks import Tracks

CLIP = "clip.mp4"

_DESCRIPTION = """\
Render a short clip (a ball rolls under a plank, a ladybird crosses the lawn),
track both objects through it, and say how well that went: the clip's true
masks are known. Needs nothing but weights, and runs without them too."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `demo` to the command line."""
    parser = verbs.add_parser(
        "demo",
        help="track two objects through the product's own clip",
        description=_DESCRIPTION,
        epilog="example:\n  edgetam demo --out try",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("edgetam-demo"),
        metavar="DIR",
        help="folder for clip.mp4, overlay.mp4, contact_sheet.png, masks/ and tracks.json (edgetam-demo)",
    )
    parser.add_argument("--force", action="store_true", help="replace results that are in DIR already")
    add_model_options(parser)
    add_json_and_verbose(parser)


def run(args: argparse.Namespace) -> int:
    """Render, track and compare."""
    from edgetam_model.commands.progress import stderr_meter

    with stderr_meter() as meter:
        report, score = run_demo(args.out, meter, force=args.force, weights=args.weights, device=args.device)
    return report.print(as_json=args.json, mean_iou=score)


def run_demo(
    out: Path,
    meter: Meter,
    *,
    force: bool = False,
    weights: str | None = None,
    device: str = "auto",
) -> tuple[TrackReport, float]:
    """The report of tracking the clip, and the mean IoU of all finished masks with the true ones.

    Raises:
        InputError: results that are in the way.
        WeightsError: no such weights.
        KeyboardInterrupt: Ctrl-C before the first frame, or twice.
    """
    from edgetam_model.commands.outputs import check_free, make_folder
    from edgetam_model.commands.parsing import PlacedPrompt, Target
    from edgetam_model.commands.tracking import TrackJob, run_job
    from edgetam_model.demo_clip import LABELS, render_demo_clip

    clip_path = out / CLIP
    job = TrackJob(str(clip_path), (), out, labels=LABELS, force=force, weights=weights, device=device)
    check_free(out, (CLIP, *job.outputs), force=force)
    make_folder(out)
    meter.stage("rendering the clip")
    clip = render_demo_clip(clip_path)
    placed = tuple(PlacedPrompt(Target(0, number), prompt) for number, prompt in clip.prompts.items())
    report = run_job(replace(job, prompts=placed), meter)
    report = replace(report, outputs={CLIP: clip_path, **report.outputs})
    return report, mean_iou(report.tracks, clip)


def mean_iou(tracks: Tracks, clip: DemoClip) -> float:
    """Intersection over union with the true masks, averaged over all objects and finished frames."""
    import numpy as np

    from edgetam_model.masks import decode_rle, mask_iou

    scores = []
    for track in tracks.objects:
        for record in track.frames:
            truth = decode_rle(clip.masks[record.frame][track.id])
            found = decode_rle(record.mask.rle()) if record.mask else np.zeros_like(truth)
            scores.append(mask_iou(found, truth))
    return sum(scores) / len(scores)
