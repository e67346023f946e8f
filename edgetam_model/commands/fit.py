"""`edgetam fit`: the model learns from a team's own annotations."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetam_model.commands.terminal import add_json_and_verbose, add_model_options

MODES = ("adapter", "decoder", "full")  # of `fit_options`, which help must not wait for

_DESCRIPTION = """\
Learn from what a team has drawn. A part of the images and videos is kept to
measure on; the new version serves only if it is better there beyond chance and
has forgotten nothing. Nothing is lost: every version can be rolled back."""

_EPILOG = """\
examples:
  edgetam fit --from cvat-export.zip --dry-run      what is there, how long it takes
  edgetam fit --from cvat-export.zip                train, measure, let the better one serve
  edgetam fit --from project-7.json --media images/ --project project-7
  edgetam fit --from label-studio:7                 the project as it is on the server
  edgetam fit --from clips/ --mode decoder --updates 200

--from takes exports of Label Studio (JSON) and of CVAT (zip or annotations.xml),
COCO instances and tracks (.json), folders of CLIP/frames and CLIP/masks, and
DAVIS folders. Only masks and polygons teach: boxes alone do not say which
pixels are the object's.

modes: adapter (thin additions to the weights; needs the least data and forgets
the least), decoder (only what draws masks), full (everything; needs much data).

Ctrl-C saves what is finished (exit code 130); so does a crash or kill -9: the
same command goes on from there. Exit code 0 also where the new version is not
better: it is kept as a candidate, with a report that says why."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `fit` to the command line."""
    parser = verbs.add_parser(
        "fit",
        help="learn from a team's own annotations",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--from", required=True, dest="source", metavar="PATH", help="the annotations")
    parser.add_argument(
        "--media", type=Path, metavar="DIR", help="folder of images and videos (that of the annotations)"
    )
    parser.add_argument("--project", metavar="NAME", help="such as project-7 (the annotations' own name)")
    parser.add_argument("--mode", choices=MODES, default=MODES[0], help="what of the model learns (adapter)")
    parser.add_argument("--updates", type=int, metavar="N", help="of the weights (by how much there is)")
    parser.add_argument("--minimum", type=int, metavar="N", help="images and videos with masks needed (8)")
    parser.add_argument(
        "--interpolated", action="store_true", help="learn from what lies between key frames too"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    parser.add_argument("--no-promote", action="store_true", help="keep a better version as a candidate too")
    parser.add_argument(
        "--model-dir", type=Path, metavar="DIR", help="the server's folder (MODEL_DIR, else the cache)"
    )
    add_model_options(parser)
    add_json_and_verbose(parser)


def run(args: argparse.Namespace) -> int:
    """Read, plan, train and report."""
    from edgetam_model.commands.fit_run import FitRequest, run_request
    from edgetam_model.commands.progress import stderr_meter
    from edgetam_model.training.fit_options import FitOptions

    minimum = {} if args.minimum is None else {"minimum": args.minimum}
    request = FitRequest(
        source=args.source,
        options=FitOptions(args.mode, args.updates, promote=not args.no_promote, **minimum),
        media=args.media,
        project=args.project,
        weights=args.weights,
        device=args.device,
        model_dir=args.model_dir,
        interpolated=args.interpolated,
        dry_run=args.dry_run,
    )
    with stderr_meter() as meter:
        report = run_request(request, meter)
    return report.print(as_json=args.json)
