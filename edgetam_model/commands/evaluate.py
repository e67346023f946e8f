"""`edgetam evaluate`: how good a model is on clips whose true masks are known."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetam_model.commands.terminal import add_json_and_verbose, add_model_options
from edgetam_model.errors import InputError

PROMPTS = ("mask", "box", "click", "3clicks")  # a test holds them against evaluation.PROMPTS

_DESCRIPTION = """\
Track the objects of annotated clips and score the masks as DAVIS 2017 does.

DIR holds clips in one of two layouts:
  JPEGImages/[480p/]CLIP/*.jpg beside Annotations/[480p/]CLIP/*.png (DAVIS), with
  the clips of ImageSets/.../val.txt where there is such a list
  CLIP/frames/*.jpg beside CLIP/masks/*.png
Masks are palette or grey PNGs of object ids (255: neither right nor wrong), or
1-bit ones of one object. Frames without a mask are tracked and not scored, nor
are the first and the last one with a mask. Every object is shown to the model
on its first frame, by its true mask or as somebody who knows it would."""

_EPILOG = """\
figures:
  J       intersection over union
  F       how well the boundaries lie on each other, within 0.8 % of the diagonal
  J&F     the mean of the two
  recall  share of frames with J above 0.5
  decay   J of the first quarter of the frames less that of the last
  first   IoU on the prompted frame
  J 10    J over the first 10 scored frames
Means are over frames, then objects, then clips.

examples:
  edgetam evaluate clips --prompt box
  edgetam evaluate DAVIS --clips bike-packing,dogs-jump --floors --plot j.png --sheet worst.png
  edgetam evaluate clips --interactive --json > figures.json

Ctrl-C stops after the frame at hand and reports the clips that are finished
(exit code 130).
Exit codes: 0 done, 1 failed, 2 bad input, 130 cancelled."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `evaluate` to the command line."""
    parser = verbs.add_parser(
        "evaluate",
        help="score a model on clips with true masks",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("dir", type=Path, metavar="DIR", help="folder of annotated clips")
    parser.add_argument(
        "--prompt",
        choices=PROMPTS,
        default="mask",
        help="how each object is shown: its true mask (default), the box around it, a click on its "
        "middle, or that and two corrections",
    )
    parser.add_argument("--clips", metavar="A,B", help="only these clips")
    parser.add_argument(
        "--floors", action="store_true", help="also score what works without a network, from the true mask"
    )
    parser.add_argument(
        "--interactive",
        action="store_true",
        help="also count clicks on stills and correct videos in rounds and in one pass; about ten times "
        "the work",
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw J over time per clip")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw the worst frames, truth outlined")
    parser.add_argument("--force", action="store_true", help="replace pictures that are there already")
    add_model_options(parser)
    add_json_and_verbose(parser)


def run(args: argparse.Namespace) -> int:
    """Parse what was typed, evaluate and report."""
    names = None if args.clips is None else tuple(part.strip() for part in args.clips.split(","))
    if names is not None and not all(names):
        raise InputError("clips", f"expected names with commas between them, got {args.clips!r}")

    from edgetam_model.commands.evaluating import EvaluateJob, run_job
    from edgetam_model.commands.progress import stderr_meter

    job = EvaluateJob(
        folder=args.dir,
        prompt=args.prompt,
        names=names,
        floors=args.floors,
        interactive=args.interactive,
        plot=args.plot,
        sheet=args.sheet,
        force=args.force,
        weights=args.weights,
        device=args.device,
    )
    with stderr_meter() as meter:
        report = run_job(job, meter)
    return report.print(as_json=args.json)
