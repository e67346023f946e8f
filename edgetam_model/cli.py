"""The command `edgetam`: collects the verbs, and makes every expected error one line and an exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import NoReturn

from edgetam_model.commands import (
    ablate,
    bench,
    data,
    evaluate,
    export,
    fit,
    info,
    segment,
    track,
    train,
    versions,
    weights,
)
from edgetam_model.errors import EdgeTAMError, InputError

FAILED, BAD_INPUT, CANCELLED = 1, 2, 130
PLUGINS = "edgetam.commands"  # entry points: functions that take argparse's subparsers, as `register` does

_DESCRIPTION = """\
Segment what is clicked, and follow it through a video."""

_EPILOG = """\
examples:
  edgetam demo                                      see it work on its own clip
  edgetam info dog.mp4                              frames, size, rate
  edgetam segment dog.jpg --point 210,150 --out dog.png
  edgetam track dog.mp4 --box 120,80,300,260 --out dog
  edgetam fit --from cvat-export.zip                learn from what you have drawn
  edgetam weights list                              which weights are here
  edgetam track --help                              all about one verb

Everywhere: coordinates are pixels, frames count from 0, nothing is overwritten
without --force, --json prints one JSON document on stdout, progress and
warnings go to stderr.
Exit codes: 0 done, 1 failed, 2 bad input, 130 cancelled.
Environment: EDGETAM_WEIGHTS and EDGETAM_DEVICE (defaults of --weights and
--device), EDGETAM_CACHE (folder of fetched weights), EDGETAM_OFFLINE=1."""


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End with the exit code of bad input."""
        if message.endswith("expected one argument"):  # argparse takes -5,3 for an option
            message += " (before a minus sign write =, as in --box=-5,0,20,30)"
        message = message.removeprefix("argument ").removeprefix("--")  # as our own errors name it
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code: 0 done, 1 failed, 2 bad input, 130 cancelled.

    Args:
        argv: the words after `edgetam`; None: those of this process.

    Raises:
        SystemExit: from argparse, after --help, --version and words that it does not take.
    """
    for stream in (sys.stdout, sys.stderr):  # file names may hold what a terminal cannot show
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    _set_up_logging(args.verbose)
    try:
        return int(args.run(args))
    except InputError as error:
        return _end(BAD_INPUT, args.verb, str(error))
    except EdgeTAMError as error:
        return _end(FAILED, args.verb, str(error))
    except BrokenPipeError:  # the reader of stdout, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor may the flush at exit complain
        return FAILED
    except OSError as error:
        return _end(FAILED, args.verb, str(error))
    except KeyboardInterrupt:
        return _end(CANCELLED, args.verb, "cancelled")


def build_parser() -> argparse.ArgumentParser:
    """The parser with every verb: the product's own, then those of installed adapters."""
    parser = Parser(
        prog="edgetam",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgetam {_version()}")
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="show what happens inside (-vv: everything), on stderr",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    for own in (segment, track, info, evaluate, fit, train, ablate, bench, export, data, weights, versions):
        own.register(verbs)
    for plugin in sorted(entry_points(group=PLUGINS), key=lambda plugin: plugin.name):
        _add_plugin(plugin, verbs)
    return parser


def _add_plugin(plugin: EntryPoint, verbs: argparse._SubParsersAction[Parser]) -> None:
    """An adapter that cannot be imported costs its own verbs, not the others."""
    try:
        register = plugin.load()
    except ImportError as error:
        sys.stderr.write(f"edgetam: the verb {plugin.name} ({plugin.value}) is left out: {error}\n")
        return
    register(verbs)


def _version() -> str:
    try:
        return version("edgetam-labeling")
    except PackageNotFoundError:
        return "(not installed)"


def _set_up_logging(verbose: int) -> None:
    """Errors only, unless asked: verbs say themselves what their users must know."""
    level = (logging.ERROR, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(name)s: %(message)s")


def _end(code: int, verb: str, message: str) -> int:
    """One line, whatever the message."""
    sys.stderr.write(f"edgetam {verb}: {' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
