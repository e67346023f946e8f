"""`edgetam demo`: the server at work on the product's own clip, asked as Label Studio asks it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from backend.commands.options import need_server
from edgetam_model import InputError

LOOK = 5.0  # seconds between two looks whether what is kept still runs

_DESCRIPTION = """\
Start `edgetam serve`, draw boxes around two objects of a short clip (a ball
rolls under a plank, a ladybird crosses the lawn), and press the Track button
as Label Studio does, until both tracks are complete. Where a track goes wrong,
its box is moved once, as a person would do, and the button pressed again. The
clip's true masks are known, so that it can say how well that went. Everything
runs on this machine, on free ports, and is stopped at the end."""

_EPILOG = """\
examples:
  edgetam demo --out try
  edgetam demo --keep             server and status page stay until Ctrl-C
  edgetam demo --label-studio     the same in the real Label Studio, to go on
                                  by hand
Results: clip.mp4; overlay.mp4 and contact_sheet.png with the boxes that Label
Studio draws; thumbnail.jpg with the masks, as on the status page; tracks.json;
label_studio_answer.json.
EDGETAM_WEIGHTS, EDGETAM_DEVICE, EDGETAM_CACHE and EDGETAM_OFFLINE hold as
everywhere; other settings of a server do not reach this one.
Exit codes: 0 done, 1 failed, 2 bad input, 130 cancelled."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `demo` to the command line."""
    parser = verbs.add_parser(
        "demo",
        help="see the server track two objects through the product's own clip",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    _add_results(parser)
    _add_server(parser)


def _add_results(parser: argparse.ArgumentParser) -> None:
    default = Path("edgetam-demo")
    parser.add_argument(
        "--out", type=Path, default=default, metavar="DIR", help="folder of the results (%(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="replace results that are in DIR already")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout at the end")


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", metavar="W", help="auto, default, edgetam, a file, or a name from `edgetam weights list`"
    )
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--port", type=int, default=0, metavar="P", help="port of the server (a free one)")
    parser.add_argument("--keep", action="store_true", help="leave the server running until Ctrl-C")
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="new folder that keeps queue and logs (a temporary one)"
    )
    parser.add_argument(
        "--label-studio",
        action="store_true",
        help="install Label Studio (once, about 1 GB), run it with a connected project, until Ctrl-C",
    )
    parser.add_argument(
        "--environment",
        type=Path,
        metavar="DIR",
        help="virtual environment for Label Studio (below EDGETAM_CACHE)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve, press, show; then end, or wait for Ctrl-C."""
    need_server("the demo")
    from backend.demo import DemoOptions, demo, summary

    _check(args)
    kept = args.keep or args.label_studio
    with _state(args.state) as state, _ended_by_sigterm():
        environment = _environment(args) if args.label_studio else None
        options = DemoOptions(args.out, state, args.weights, args.device, args.port, environment)
        with demo(options, tell) as outcome:
            document = outcome.document(args.out)
            text = json.dumps(document, indent=2) if args.json else summary(document, kept=kept)
            try:  # from the first line on, which tells that it may be pressed
                sys.stdout.write(text + "\n")
                sys.stdout.flush()
                if kept:
                    _watch(document["server"])
            except KeyboardInterrupt:
                if not kept:
                    raise
                tell("stopping")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything starts.

    Raises:
        InputError: a folder or port that cannot be used.
    """
    from backend.demo_results import FILES

    if args.out.exists() and not args.out.is_dir():
        raise InputError("out", f"expected a folder, {args.out} is a file")
    taken = [name for name in FILES if (args.out / name).exists()]
    if taken and not args.force:
        raise InputError("out", f"{', '.join(taken)} in {args.out} would be replaced; give --force")
    if args.state is not None and args.state.exists():
        raise InputError("state", f"expected a new folder, {args.state} exists")
    if not 0 <= args.port <= 65535:
        raise InputError("port", f"expected 0 to 65535, got {args.port}")


def _environment(args: argparse.Namespace) -> Path:
    from backend.demo_label_studio import VERSION
    from backend.settings import Settings

    cache = Settings.from_env(os.environ).cache.expanduser()
    folder: Path = args.environment or cache / f"label-studio-{VERSION}"
    return folder.absolute()


@contextmanager
def _state(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="edgetam-demo-") as temporary:
            yield Path(temporary)
        return
    folder.mkdir(parents=True, mode=0o700)
    yield folder.absolute()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: with all that it started."""

    def asked(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch(url: str) -> NoReturn:
    """Until Ctrl-C.

    Raises:
        ProgramFailed: the server is gone.
    """
    from backend.demo_programs import fetch

    while True:
        time.sleep(LOOK)
        fetch(f"{url}/health")


def tell(line: str) -> None:
    """A line about the progress, on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
