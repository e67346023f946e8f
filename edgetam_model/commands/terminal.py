"""What every verb shares: its common options, and the way it speaks."""

from __future__ import annotations

import argparse
import json
import sys
from typing import get_args

from edgetam_model.options import Quality

UNTRAINED = "UNTRAINED WEIGHTS: THE MASKS MEAN NOTHING"  # ASCII: it is drawn into pictures too


def add_json_and_verbose(parser: argparse.ArgumentParser) -> None:
    """--json and -v, which every verb has."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document on stdout at the end, and nothing else"
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=argparse.SUPPRESS,
        help="show what happens inside (-vv: everything), on stderr",
    )


def add_model_options(parser: argparse.ArgumentParser, *, quality: bool = False) -> None:
    """--weights and --device, for verbs that run the model; --quality for those whose masks are wanted."""
    parser.add_argument(
        "--weights",
        metavar="W",
        help="auto (the published weights if they are here or near, else the shipped ones), default, "
        "edgetam, a file, or a name from `edgetam weights list`; without it EDGETAM_WEIGHTS, else auto",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (auto: EDGETAM_DEVICE, else the best)",
    )
    if quality:
        parser.add_argument(
            "--quality",
            choices=get_args(Quality),
            help="fast: weights of the published size see 512 pixels, not 1024; without it EDGETAM_QUALITY",
        )


def say(text: str) -> None:
    """A line for people, on stdout."""
    sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(text + "\n")


def print_json(document: object) -> None:
    """The one document of --json, on stdout; ASCII, so that any terminal takes it."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
