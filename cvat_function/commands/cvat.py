"""`edgetam cvat`: whole stretches of a CVAT task tracked on this machine, and taken back."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # help must not wait for what only a run needs
    from cvat_function.video.login import Login

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_DESCRIPTION = """\
CVAT's own page steps a tracker one frame per request. These verbs track a whole
stretch of a task at once, on this machine, from what you drew on its first
frame, and add the result to the task as new tracks. Nothing that is there is
changed, and `edgetam cvat undo` takes exactly the new tracks back."""

_TRACK = """\
Track what is drawn on frame A of a task through to frame B.

Frames are those that CVAT's player shows: a task counts from 0, whatever frame
of the video it starts with and however many it skips. Deleted frames are left
out. Seeds are all rectangles, polygons and masks on frame A, and all tracks
with a key frame there; a track's further key frames up to B come along as
corrections. Rectangles become tracks of rectangles, polygons tracks of
polygons, masks one mask per frame (CVAT has no tracks of masks). Where an
object is lost the track says `outside`, and where it comes back it is enabled
again. Label, attributes and layer are those of the seed.

The task's jobs get what falls into their frames; with --job only that job is
read and written."""

_TRACK_EPILOG = """\
examples:
  export CVAT_ACCESS_TOKEN=…
  edgetam cvat track --server https://cvat.example.com --task 7 --range 0-200 --dry-run
      what would be tracked, and where it would go
  edgetam cvat track --server https://cvat.example.com --task 7 --range 0-200
  edgetam cvat track --server https://cvat.example.com --job 31 --range 40-80 \\
      --seed track:12 --seed shape:55
      only these two, wherever in the range they are drawn
  edgetam cvat undo cvat-task-7-frames-0-200.json

The seeds themselves stay: delete or hide them in CVAT where they are in the way.
Ctrl-C uploads what is finished. Exit codes: 0 done, 1 failed, 2 bad input,
130 cancelled."""

_ACCESS = """\
Environment: CVAT_ACCESS_TOKEN (a personal access token), or CVAT_USERNAME and
CVAT_PASSWORD (or PASS); CVAT_HOST for --server, CVAT_ORG for --org. A password
that is missing is asked for. Without any of them the profile that
`cvat-cli profile` saved is used."""


def register(verbs: Subparsers) -> None:
    """Add the verb `cvat` to the command line."""
    parser = verbs.add_parser(
        "cvat",
        help="track stretches of a CVAT task, and take them back",
        description=_DESCRIPTION,
        epilog=_ACCESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    _add_track(actions)
    _add_undo(actions)
    _add_upload(actions)


def _add_track(actions: Subparsers) -> None:
    parser = _action(actions, "track", "track a stretch of a task", _TRACK, f"{_TRACK_EPILOG}\n\n{_ACCESS}")
    parser.set_defaults(run=run_track)
    parser.add_argument("--task", type=int, metavar="ID", help="the task (--job alone is enough)")
    parser.add_argument("--job", type=int, metavar="ID", help="only this job of it")
    parser.add_argument("--range", required=True, metavar="A-B", help="frames, both included; A-: to the end")
    parser.add_argument(
        "--seed",
        action="append",
        default=[],
        metavar="KIND:ID",
        help="track:7 or shape:12 instead of all on frame A (repeatable)",
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="NAME", help="only seeds of this label (repeatable)"
    )
    parser.add_argument(
        "--model-made", action="store_true", help="also seeds that a model drew and nobody has touched"
    )
    parser.add_argument(
        "--receipt", type=Path, metavar="FILE", help="where to note what is uploaded (a name in this folder)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would happen, and do nothing")
    parser.add_argument(
        "--weights", metavar="W", help="as `edgetam track` takes them (EDGETAM_WEIGHTS, else auto)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--quality",
        choices=("exact", "fast"),
        help="fast: weights of the published size see 512 pixels, not 1024; without it EDGETAM_QUALITY",
    )


def _add_undo(actions: Subparsers) -> None:
    description = """\
Take an upload of `edgetam cvat track` back: exactly its tracks and shapes that
are still as they were sent. If a person has edited any of them since, nothing is
removed."""
    parser = _action(actions, "undo", "take an upload back", description, _ACCESS)
    parser.set_defaults(run=run_undo)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("receipt", nargs="?", type=Path, metavar="FILE", help="the upload's receipt")
    which.add_argument(
        "--task", type=int, metavar="ID", help="the newest upload to this task with a receipt in this folder"
    )
    parser.add_argument("--keep-edited", action="store_true", help="leave what was edited, remove the rest")
    parser.add_argument("--dry-run", action="store_true", help="show what would be removed, and do nothing")


def _add_upload(actions: Subparsers) -> None:
    description = """\
Send what a receipt holds and the server does not have: after an upload that a
broken connection ended. What has arrived already is not sent twice."""
    parser = _action(actions, "upload", "finish an upload that failed", description, _ACCESS)
    parser.set_defaults(run=run_upload)
    parser.add_argument("receipt", type=Path, metavar="FILE", help="the receipt of the upload")


def _action(
    actions: Subparsers, name: str, summary: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--server", metavar="URL", help="CVAT's address (CVAT_HOST)")
    parser.add_argument("--user", metavar="NAME", help="log in with a password instead of a token")
    parser.add_argument("--org", metavar="SLUG", help="the organization's short name (CVAT_ORG)")
    parser.add_argument("--insecure", action="store_true", help="do not check the server's certificate")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout at the end")
    return parser


def run_track(args: argparse.Namespace) -> int:
    """Plan, show, track, send."""
    from cvat_function.commands import tracking
    from cvat_function.video.frames import parse_range
    from cvat_function.video.seeds import Choice, parse_seed

    first, last = parse_range(args.range)
    choice = Choice(tuple(map(parse_seed, args.seed)), tuple(args.label), args.model_made)
    job = tracking.TrackJob(
        login=_login(args),
        task=args.task,
        job=args.job,
        first=first,
        last=last,
        choice=choice,
        receipt=args.receipt,
        dry_run=args.dry_run,
        weights=args.weights,
        device=args.device,
        quality=args.quality,
    )
    return tracking.run(job, as_json=args.json)


def run_undo(args: argparse.Namespace) -> int:
    """Find the receipt, look at what became of it, take it back."""
    from cvat_function.commands import uploads

    return uploads.run_undo(
        _login(args),
        uploads.Which(args.receipt, args.task),
        keep_edited=args.keep_edited,
        dry_run=args.dry_run,
        as_json=args.json,
    )


def run_upload(args: argparse.Namespace) -> int:
    """Send what is missing."""
    from cvat_function.commands import uploads

    return uploads.run_upload(_login(args), args.receipt, as_json=args.json)


def _login(args: argparse.Namespace) -> Login:
    from cvat_function.video.login import login_of

    return login_of(
        os.environ, server=args.server, user=args.user, organization=args.org, insecure=args.insecure
    )
