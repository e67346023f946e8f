"""`edgetam ablate`: what a part of the model or of the training is worth."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetam_model.commands.terminal import add_json_and_verbose
from edgetam_model.errors import InputError

KINDS = ("perceiver", "distillation")  # a test holds them against variants.KINDS

_DESCRIPTION = """\
Train the same small model several times, with and without a part, from several
seeds, and compare them on held-out clips in one table.

perceiver      what memories are compressed to: global and patch-level latents,
               global ones alone, patch-level ones alone, the mean of each
               patch, and the dense memory; all with equal updates
distillation   without and with a teacher, whose time counts: equal seconds of
               the processor

The model is --config without windows, evidence and refiner, so that nothing but
the memory attention carries an object along. Clips are made up."""

_EPILOG = """\
examples:
  edgetam ablate perceiver --minutes 20 --seeds 2 --jobs 2 --textures photos/ --out perceiver
      5 variants × 2 seeds of 20 minutes each, two at a time: 100 minutes
  edgetam ablate distillation --teacher default --jobs 2 --textures photos/ --out distillation
  edgetam ablate perceiver --only both,pooled --minutes 2 --out try

results in DIR:
  table.md       the table; means over the seeds, in brackets the least and most
  ablation.json  the same for machines
  plan.json      what is trained; the same command goes on with it
  runs/          a training in each folder, see `edgetam train --help`

The same command skips finished runs and goes on with the others. Ctrl-C saves
the runs at hand (exit code 130).
Exit codes: 0 done, 1 failed, 2 bad input, 130 cancelled."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `ablate` to the command line."""
    parser = verbs.add_parser(
        "ablate",
        help="compare trainings with and without a part",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("kind", choices=KINDS, help="what is compared")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--minutes", type=float, default=20.0, metavar="N", help="of one core, for each run (default 20)"
    )
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="runs of each variant (default 2)")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="runs at a time, a process and core each (default 1)"
    )
    parser.add_argument("--config", default="nano", metavar="NAME", help="the model's sizes (default nano)")
    parser.add_argument(
        "--recipe", default="ablation", metavar="NAME|FILE", help="how all are trained (default ablation)"
    )
    parser.add_argument("--only", metavar="A,B", help="only these variants")
    parser.add_argument("--teacher", metavar="W", help="weights to learn from, for distillation")
    parser.add_argument(
        "--textures", type=Path, metavar="DIR", help="photographs and cut-out things for the clips"
    )
    parser.add_argument("--force", action="store_true", help="replace another ablation that is in DIR")
    parser.add_argument("--run", dest="run_name", metavar="NAME", help=argparse.SUPPRESS)
    add_json_and_verbose(parser)


def run(args: argparse.Namespace) -> int:
    """Check what was typed, train and report."""
    if args.jobs < 1:
        raise InputError("jobs", f"expected at least 1, got {args.jobs}")

    from edgetam_model.commands.ablating import AblateJob, run_job, run_one
    from edgetam_model.commands.progress import stderr_meter

    if args.run_name is not None:
        return run_one(args.out, args.run_name)
    job = AblateJob(
        kind=args.kind,
        out=args.out,
        config=args.config,
        recipe=args.recipe,
        minutes=args.minutes,
        seeds=args.seeds,
        jobs=args.jobs,
        textures=args.textures,
        teacher=args.teacher,
        only=() if args.only is None else tuple(part.strip() for part in args.only.split(",")),
        force=args.force,
    )
    with stderr_meter() as meter:
        report = run_job(job, meter)
    return report.print(as_json=args.json)
