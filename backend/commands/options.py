"""What the verbs of the server share: options over environment variables, and the table of those."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from edgetam_model import EdgeTAMError

# Option → the variable that it stands for; an option wins.
VARIABLES: Mapping[str, str] = {
    "host": "HOST",
    "port": "PORT",
    "weights": "EDGETAM_WEIGHTS",
    "device": "EDGETAM_DEVICE",
    "redis": "REDIS_URL",
    "model_dir": "MODEL_DIR",
    "label_studio_url": "LABEL_STUDIO_URL",
    "image_threads": "EDGETAM_IMAGE_THREADS",
    "log_level": "LOG_LEVEL",
}
SERVER_PACKAGES = ("flask", "redis", "rq", "waitress")  # of the extra "server"
ENVIRONMENT = "{environment}"  # in an epilog: the table of variables
INDENT = 4


class HelpWithEnvironment(argparse.RawDescriptionHelpFormatter):
    """Puts the table in when help is asked for: no other command waits for the settings' imports."""

    def add_text(self, text: str | None) -> None:
        """A description or an epilog."""
        if text and ENVIRONMENT in text:
            text = text.replace(ENVIRONMENT, environment_table())
        super().add_text(text)


def need_server(who: str) -> None:
    """Go on only where what runs the server is installed.

    Args:
        who: needs it, for the message.

    Raises:
        EdgeTAMError: it is not, with the command that brings it.
    """
    if any(find_spec(name) is None for name in SERVER_PACKAGES):
        raise EdgeTAMError(f'{who} needs an extra: pip install "edgetam-labeling[server]"')


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """What server and worker both take."""
    parser.add_argument(
        "--weights",
        metavar="W",
        help="auto (the published weights if they are here or near, else the shipped ones), default, "
        "edgetam, a file, or a name from `edgetam weights list`",
    )
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--redis", metavar="URL", help="redis://, rediss:// or unix:// of the job queue (else a private one)"
    )
    parser.add_argument(
        "--model-dir", type=Path, metavar="DIR", help="folder of fine-tuned versions and of the private Redis"
    )
    parser.add_argument(
        "--label-studio-url",
        metavar="URL",
        help="Label Studio as this machine reaches it; media may come from it",
    )
    parser.add_argument("--log-level", metavar="L", help="DEBUG, INFO (as it is), WARNING or ERROR")
    parser.add_argument("--log-json", action="store_true", help="log lines as JSON objects")


def environment_of(args: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with what was typed put over it: what this process reads, and its workers get."""
    typed = {
        variable: str(getattr(args, option))
        for option, variable in VARIABLES.items()
        if getattr(args, option, None) is not None
    }
    return {**environ, **typed}


def environment_table() -> str:
    """Every variable with its default and meaning, for `--help`."""
    from backend.settings import FALLBACKS, Settings

    lines = ["environment (an option wins over its variable):"]
    for row in Settings.reference():
        default = f" [{row.default}]" if row.default else ""
        also = f" (also {', '.join(FALLBACKS[row.name])})" if row.name in FALLBACKS else ""
        lines.append(f"  {row.name}{default}")
        lines += textwrap.wrap(
            row.meaning + also, 78, initial_indent=" " * INDENT, subsequent_indent=" " * INDENT
        )
    return "\n".join(lines)
