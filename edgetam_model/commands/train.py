"""`edgetam train`: from a recipe and clips to weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetam_model.commands.terminal import add_json_and_verbose
from edgetam_model.errors import InputError

SYNTHETIC = "synthetic"

_DESCRIPTION = """\
Train a model: stills with boxes, clicks and corrections first, then clips that
are tracked from frame to frame. The recipe says how; the clips are made up on
the device, or they are your own."""

_EPILOG = """\
examples:
  edgetam train --recipe smoke --config tiny --out try
      shows in a minute that everything runs
  edgetam train --recipe mine.toml --config nano --textures photos/ --out nano
  edgetam train --recipe mine.toml --init edgetam --data labels/ --out tuned
      go on from the published weights with your own clips
  edgetam train --recipe mine.toml --config nano --teacher edgetam --out nano
      learn from another model too
  edgetam train --recipe mine.toml --config nano --out nano --resume
      go on after Ctrl-C, a crash or a power cut, to the same weights
  edgetam train --recipe mine.toml --config nano --processes 4 --out nano
      each update's batches (accumulation in the recipe) shared out among four

--data takes folders of CLIP/frames and CLIP/masks, DAVIS folders, COCO
instances (.json) and tracks.json files.

results in DIR:
  weights.safetensors  the averaged weights, once training is finished
  losses.csv           a row per update
  scores.csv           a row per validation, on clips that are held out
  curves.png           both, drawn
  state.safetensors    what --resume goes on from

Ctrl-C finishes the update at hand and saves (exit code 130).
Exit codes: 0 done, 1 failed, 2 bad input, 130 cancelled."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `train` to the command line."""
    parser = verbs.add_parser(
        "train",
        help="train a model, from nothing or from weights",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--recipe", required=True, metavar="NAME|FILE", help="a recipe of the package (smoke) or a TOML file"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--config", metavar="NAME", help="a model of this size with random first weights")
    start.add_argument(
        "--init", metavar="W", help="a model with these first weights (as --weights elsewhere)"
    )
    parser.add_argument("--teacher", metavar="W", help="weights of a model to learn from beside the clips")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[SYNTHETIC],
        metavar="PATH",
        help="annotated clips to learn from; without it, or with the word synthetic, made-up ones",
    )
    parser.add_argument(
        "--held-out",
        nargs="+",
        default=[],
        type=Path,
        metavar="PATH",
        help="annotated clips to validate on; without it every tenth of --data is kept for that",
    )
    parser.add_argument(
        "--textures",
        type=Path,
        metavar="DIR",
        help="photographs for made-up clips; a picture with transparent surroundings gives an actor",
    )
    parser.add_argument("--licence", metavar="ID", help="SPDX identifier to write into the weights")
    parser.add_argument("--resume", action="store_true", help="go on with the training in DIR")
    parser.add_argument("--force", action="store_true", help="replace a training that is in DIR already")
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (auto: EDGETAM_DEVICE, else the best)",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="train with so many processes, on the CPU with a thread each or on the GPUs in turn; "
        "accumulation in the recipe is a multiple of N, and the weights differ by rounding only",
    )
    add_json_and_verbose(parser)


def run(args: argparse.Namespace) -> int:
    """Check what was typed, train and report."""
    synthetic = args.data == [SYNTHETIC]
    if not synthetic and SYNTHETIC in args.data:
        raise InputError("data", "expected paths, or the word synthetic alone")
    if not synthetic and args.textures is not None:
        raise InputError("textures", "only made-up clips have textures: leave out --data or --textures")
    if synthetic and args.held_out:
        raise InputError("held-out", "needs --data: made-up clips are held out by their seed")
    if args.resume and args.force:
        raise InputError("resume", "excludes --force")

    from edgetam_model.commands.progress import stderr_meter
    from edgetam_model.commands.training import TrainJob, run_job

    job = TrainJob(
        recipe=args.recipe,
        out=args.out,
        config=args.config,
        init=args.init,
        teacher=args.teacher,
        data=() if synthetic else tuple(Path(path) for path in args.data),
        held_out=tuple(args.held_out),
        textures=args.textures,
        licence=args.licence,
        resume=args.resume,
        force=args.force,
        device=args.device,
        processes=args.processes,
    )
    with stderr_meter() as meter:
        report = run_job(job, meter)
    return report.print(as_json=args.json)
