"""`edgetam field`: take tasks to where there is no network, annotate there, and bring the work back."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import webbrowser
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # help must not wait for what only a run needs
    from edgetam_model.field_places import Access, Outcome

_DESCRIPTION = """\
Annotate without a network. `pack` takes tasks of a Label Studio project, or a
CVAT task, with their media, annotations and the weights into one folder or
zip. `run` opens that kit as a page on this machine; every action is saved at
once. `merge` brings the work back: same tasks, regions and tracks, conflicts
are shown and never overwritten, and a second merge changes nothing."""

_EPILOG = """\
examples:
  edgetam field pack --from label-studio:7 --max-side 1280 --out kit.zip
  edgetam field pack --from cvat:7 --range 0-400 --out kit.zip
  edgetam field run kit.zip --open
  edgetam field merge kit --dry-run
  edgetam field merge kit

For Label Studio, LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY stand in for --url
and --token; for CVAT, CVAT_HOST and CVAT_ACCESS_TOKEN (or CVAT_USERNAME and
CVAT_PASSWORD) do. They keep the token out of the list of processes. `run`
needs neither, and no network."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `field` to the command line."""
    parser = verbs.add_parser(
        "field",
        help="annotate without a network: pack, run, merge",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="WHAT", required=True)
    _add_pack(kinds)
    _add_run(kinds)
    _add_merge(kinds)


def _add_pack(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("pack", help="make a kit of a project's or task's images and videos")
    parser.set_defaults(run=run_pack)
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="ADDRESS",
        help="label-studio:PROJECT, cvat:TASK or cvat:job:JOB, by their numbers",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="KIT", help="a new folder, or NAME.zip")
    parser.add_argument("--tasks", default="", metavar="1,2,3", help="Label Studio: these tasks only (all)")
    parser.add_argument("--range", default="", metavar="A-B", help="CVAT: these frames only (all)")
    parser.add_argument(
        "--clip", action="store_true", help="CVAT: a task's images are frames of one video, to track through"
    )
    parser.add_argument(
        "--max-side", type=int, metavar="N", help="longer side of images and videos in pixels (as they are)"
    )
    parser.add_argument("--weights", metavar="W", help="what `edgetam weights list` shows, or a file (auto)")
    parser.add_argument(
        "--build", type=Path, metavar="DIR", help="take along a build for other runtimes (edgetam export)"
    )
    _add_site(parser)


def _add_run(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("run", help="annotate a kit on a page of this machine")
    parser.set_defaults(run=run_run)
    parser.add_argument("kit", type=Path, help="a kit's folder or zip")
    parser.add_argument("--port", type=int, default=0, metavar="P", help="port to listen on (any free one)")
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def _add_merge(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("merge", help="bring a kit's work back to where it came from")
    parser.set_defaults(run=run_merge)
    parser.add_argument("kit", type=Path, help="a kit's folder or zip")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    parser.add_argument(
        "--as-new", action="store_true", help="store what conflicts as an annotation of its own"
    )
    parser.add_argument(
        "--shape",
        default="",
        metavar="S",
        help="CVAT: new objects become polygon, mask or rectangle (as their label says, else polygon)",
    )
    _add_site(parser)


def _add_site(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", "--server", metavar="URL", help="the server's address (the environment's)")
    parser.add_argument("--token", metavar="T", help="an access token (the environment's)")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout at the end")


def run_pack(args: argparse.Namespace) -> int:
    """Make a kit."""
    from backend.field.packing import PackOptions, pack
    from backend.settings import Settings
    from edgetam_model import WeightsError, load_model
    from edgetam_model.field_places import PackWish, platform, split_address

    kind, address = split_address(args.source)
    wish = PackWish(address, _numbers(args.tasks), args.range, args.clip)
    settings = Settings.from_env(os.environ)
    with platform(kind).site(_access(args)) as site:
        name = args.weights or settings.weights or "auto"
        weights = load_model(name, "cpu").weights_info  # loaded here rather than in vain in the field
        path = getattr(weights, "path", None)
        if path is None:
            raise WeightsError("the kit needs weights, and there are none: see `edgetam weights list`")
        known_as = str(getattr(weights, "name", name))
        limits = settings.media_limits()
        options = PackOptions(kind, wish, args.max_side, path, known_as, limits, args.build)
        report = pack(site, options, args.out, _tell)
    for problem in report.left_out:
        _tell(f"left out: {problem}")
    count = len(report.manifest.tasks)
    _tell(f"{report.path}: {count} task{'s' * (count != 1)}, weights {known_as}")
    _tell(f"annotate with: edgetam field run {report.path}")
    if args.json:
        tasks = [task.id for task in report.manifest.tasks]
        _print({"kit": str(report.path), "tasks": tasks, "left_out": list(report.left_out)})
    return 0


def run_run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from backend.field.desk import Desk
    from backend.field.kit import Kit
    from backend.field.serving import listening
    from edgetam_model import InputError, accelerate, load_model, warm_up

    if not 0 <= args.port <= 65535:
        raise InputError("port", f"expected 0 to 65535, got {args.port}")
    kit = Kit.open(args.kit)
    kit.verify()
    weights = kit.path(kit.manifest.weights)
    key = secrets.token_urlsafe(24)
    with ExitStack() as stack:
        stack.enter_context(kit.held())
        desk = Desk(kit, lambda: warm_up(accelerate(load_model(weights, args.device))))
        stack.callback(desk.close)
        with listening(desk, key, args.port) as server:
            url = f"http://127.0.0.1:{server.port}/?key={key}"
            sys.stdout.write(f"edgetam field: {url}\n")
            sys.stdout.flush()
            _tell(f"every action is saved in {kit.root}; Ctrl-C ends it")
            if args.open:
                webbrowser.open(url)
            server.run()
    return 0


def run_merge(args: argparse.Namespace) -> int:
    """Bring the work back; 1 where something conflicts."""
    from backend.field.kit import Kit
    from backend.field.merging import merge
    from edgetam_model.field_places import MergeOptions

    kit = Kit.open(args.kit)
    options = MergeOptions(args.dry_run, args.as_new, args.shape)
    held = nullcontext() if args.dry_run else kit.held()
    with kit.platform().site(_access(args, kit.manifest.source.url)) as site, held:
        outcomes = merge(kit, site, options)
    _show(outcomes, dry_run=args.dry_run)
    conflicts = [outcome for outcome in outcomes if outcome.what == "conflict"]
    if args.json:
        _print({"dry_run": args.dry_run, "tasks": [outcome.to_json() for outcome in outcomes]})
    return 1 if conflicts else 0


def _show(outcomes: list[Outcome], *, dry_run: bool) -> None:
    """The table on stderr."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("task", "what", "annotation", "packed", "on the server", ""):
        table.add_column(title, overflow="fold")
    for one in outcomes:
        what = f"would {one.what}" if dry_run and one.what in ("create", "update", "delete") else one.what
        number = "" if one.annotation is None else str(one.annotation)
        why = ": ".join(part for part in (one.object, one.why) if part)
        table.add_row(str(one.task), what, number, one.packed_at or "", one.server_at or "", why)
    console = Console(stderr=True, highlight=False)
    if outcomes:
        console.print(table)
    else:
        console.print("nothing was done in this kit yet")


def _access(args: argparse.Namespace, known: str = "") -> Access:
    """What was given by hand, and for a kit that goes home the address that it knows."""
    from edgetam_model.field_places import Access

    return Access(args.url, args.token, os.environ, known)


def _numbers(text: str) -> tuple[int, ...]:
    from edgetam_model import InputError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if any(not (part.isascii() and part.isdecimal() and len(part) < 19) for part in parts):
        raise InputError("tasks", f"expected numbers separated by commas, got {text!r:.80}")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _print(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
