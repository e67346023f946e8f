"""`edgetam evaluate`: how good a model is on clips whose true masks are known."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetam_model.commands.terminal import add_json_and_verbose, add_model_options
from edgetam_model.errors import InputError

PROMPTS = ("mask", "box", "click", "3clicks")  # a test holds them against evaluation.PROMPTS
SYNTHETIC = "synthetic"

_DESCRIPTION = """\
Track the objects of annotated clips and score the masks as DAVIS 2017 does.

DIR holds clips in one of two layouts:
  JPEGImages/[480p/]CLIP/*.jpg beside Annotations/[480p/]CLIP/*.png (DAVIS), with
  the clips of ImageSets/.../val.txt where there is such a list
  CLIP/frames/*.jpg beside CLIP/masks/*.png
Masks are palette or grey PNGs of object ids (255: neither right nor wrong), or
1-bit ones of one object. Frames without a mask are tracked and not scored, nor
are the first and the last one with a mask. Every object is shown to the model
on its first frame, by its true mask or as somebody who knows it would.

With the word synthetic in place of DIR (a folder of that name: ./synthetic) the
clips are made up, from a seed that trainings do not use. Their main object is
shown by its true mask. In one half it stays in view, and J is told frame by
frame; in the other it is hidden for 10 to 12 frames, outside the frame or behind
something, and comes back."""

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

figures of synthetic clips:
  first mask copied   J of an object that never moved
  found again         share of clips with J of 0.5 or more on one of the first 5
                      frames after the return that show half of the object or more
  masks while hidden  share of the frames without the object that have a mask

examples:
  edgetam evaluate clips --prompt box
  edgetam evaluate DAVIS --clips bike-packing,dogs-jump --floors --plot j.png --sheet worst.png
  edgetam evaluate clips --interactive --json > figures.json
  edgetam evaluate synthetic --weights mine.safetensors --textures photos/

Ctrl-C stops after the frame at hand (the clip, where it is made up) and reports
the clips that are finished (exit code 130).
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
    parser.add_argument("dir", metavar="DIR", help="folder of annotated clips, or the word synthetic")
    parser.add_argument(
        "--prompt",
        choices=PROMPTS,
        help="how each object is shown: its true mask (default), the box around it, a click on its "
        "middle, or that and two corrections",
    )
    parser.add_argument(
        "--clips", metavar="A,B|N", help="only these clips; of synthetic ones, how many of each half (64)"
    )
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
    synthetic = parser.add_argument_group("synthetic clips")
    synthetic.add_argument("--frames", type=int, metavar="N", help="of the clips without absence (16)")
    synthetic.add_argument("--size", type=int, metavar="PIXELS", help="side of the frames (256)")
    synthetic.add_argument("--seed", type=int, help="another one than the default: other clips")
    synthetic.add_argument(
        "--textures", type=Path, metavar="DIR", help="photographs to use beside procedural textures"
    )
    add_model_options(parser)
    add_json_and_verbose(parser)


def run(args: argparse.Namespace) -> int:
    """Parse what was typed, evaluate and report."""
    if args.dir == SYNTHETIC:
        return _run_synthetic(args)
    _refuse(args, ("frames", "size", "seed", "textures"), "goes with made-up clips (the word synthetic) only")
    names = None if args.clips is None else tuple(part.strip() for part in args.clips.split(","))
    if names is not None and not all(names):
        raise InputError("clips", f"expected names with commas between them, got {args.clips!r}")

    from edgetam_model.commands.evaluating import EvaluateJob, run_job
    from edgetam_model.commands.progress import stderr_meter

    job = EvaluateJob(
        folder=Path(args.dir),
        prompt="mask" if args.prompt is None else args.prompt,
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


def _run_synthetic(args: argparse.Namespace) -> int:
    _refuse(
        args,
        ("prompt", "floors", "interactive", "plot", "sheet", "force"),
        "goes with a folder of clips only",
    )
    from edgetam_model.commands.held_out import HeldOutJob, run_job
    from edgetam_model.commands.progress import stderr_meter
    from edgetam_model.training.held_out_clips import HeldOutOptions

    clips = None if args.clips is None else _how_many(args.clips)
    typed = {"clips": clips, "frames": args.frames, "size": args.size, "seed": args.seed}
    options = HeldOutOptions(**{name: value for name, value in typed.items() if value is not None})
    job = HeldOutJob(options, textures=args.textures, weights=args.weights, device=args.device)
    with stderr_meter() as meter:
        report = run_job(job, meter)
    return report.print(as_json=args.json)


def _how_many(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InputError("clips", f"expected how many clips to make up, got {text!r}") from error


def _refuse(args: argparse.Namespace, names: tuple[str, ...], problem: str) -> None:
    for name in names:
        given = getattr(args, name)
        if given is not None and given is not False:  # 0 is a value
            raise InputError(name, problem)
