"""`edgetam connect`: make a Label Studio project use this server, or make a project that does."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # help must not wait for what only a run needs
    from backend.connect import Connection, Plan, Wish
    from backend.label_studio import LabelStudio
    from backend.settings import Settings

Tell = Callable[[str], None]

_DESCRIPTION = """\
Create a Label Studio project that uses this server, or adapt one that is
there: its labeling config (only what is missing is added), the ML backend,
and the webhook. Running it again changes nothing."""

_EPILOG = """\
examples:
  edgetam connect --url http://localhost:8080 --token T --create Football --labels Player,Ball
  edgetam connect --project 3 --dry-run             show what would change
  edgetam connect --project 3 --backend http://192.168.1.7:9090

LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY stand in for --url and --token, and
keep the token out of the list of processes. BASIC_AUTH_USER and
BASIC_AUTH_PASS, or else EDGETAM_TOKEN, where this server asks for them, are
handed to Label Studio, for the backend and for its webhook; a project that
EDGETAM_PROJECT_TOKENS names gets its own token alone.

Label Studio refuses backends at local addresses (localhost, 192.168.…, 10.…)
unless it is started with LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false and, for the
webhook, LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false.

A project that holds annotations is changed only after you agree to the diff
that is shown; its config as it was is kept in a file."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `connect` to the command line."""
    parser = verbs.add_parser(
        "connect",
        help="make a Label Studio project use this server",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--url", metavar="LS", help="Label Studio's address (LABEL_STUDIO_URL)")
    parser.add_argument("--token", metavar="T", help="token of either kind (LABEL_STUDIO_API_KEY)")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--project", type=int, metavar="ID", help="adapt this project")
    which.add_argument("--create", metavar="TITLE", help="create a project")
    parser.add_argument(
        "--backend",
        metavar="URL",
        help="this server as Label Studio reaches it (http://localhost:9090, or the port in PORT)",
    )
    parser.add_argument(
        "--kind", choices=["video", "image"], help="what is labelled (what the config says; new: video)"
    )
    parser.add_argument("--labels", metavar="A,B", default="", help="classes that must be there")
    parser.add_argument(
        "--backup-dir", type=Path, default=Path(), metavar="DIR", help="where an old config is kept (here)"
    )
    parser.add_argument("--yes", action="store_true", help="agree to the change without being asked")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout at the end")


def run(args: argparse.Namespace) -> int:
    """Plan, show, ask, do."""
    from backend.connect import carry_out, make_plan
    from edgetam_model import InputError

    settings = settings_of(args)
    studio = _studio(settings)
    wish = wish_of(args, settings)
    plan = make_plan(studio, wish)
    tell = _teller(args)
    _show(plan, wish, tell)
    if args.dry_run:
        tell("nothing was changed (--dry-run)")
        return _print(args, plan, None)
    if plan.needs_consent and not args.yes and not _agreed():
        raise InputError(
            "yes", f"project {plan.project} holds {plan.annotations} annotations; agree, or use --yes"
        )
    done = carry_out(studio, wish, plan, args.backup_dir, tell)
    for warning in done.warnings:
        tell(f"note: {warning}")
    tell(f"\n{_next_steps(wish, plan)}\nopen {done.url}")
    return _print(args, plan, done)


def settings_of(args: argparse.Namespace) -> Settings:
    """The environment, with what was given by hand before it."""
    from backend.settings import Settings

    given = {"LABEL_STUDIO_URL": args.url, "LABEL_STUDIO_API_KEY": args.token}
    return Settings.from_env({**os.environ, **{name: text for name, text in given.items() if text}})


def wish_of(args: argparse.Namespace, settings: Settings) -> Wish:
    """What was asked for.

    Raises:
        InputError: an address, or a combination, that cannot be used.
    """
    from backend.access import Access
    from backend.connect import Wish

    user, password = Access.from_settings(settings).pair(args.project) or (None, None)
    return Wish(
        args.backend or f"http://localhost:{settings.port or 9090}",
        args.project,
        args.create,
        args.kind,
        tuple(label for label in args.labels.split(",") if label.strip()),
        user,
        password,
    )


def _studio(settings: Settings) -> LabelStudio:
    from backend.label_studio import LabelStudio
    from edgetam_model import InputError

    studio = LabelStudio.from_settings(settings)
    if studio is None:
        name = "token" if settings.label_studio_url else "url"
        raise InputError(name, "expected --url and --token, or LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY")
    return studio


def _show(plan: Plan, wish: Wish, tell: Tell) -> None:
    if plan.project is None:
        tell(f"project: a new one, “{plan.title}”")
    else:
        tell(f"project: {plan.project} “{plan.title}”, {plan.annotations} annotations")
    tell(f"backend: {wish.url}")
    for change in plan.changes:
        tell(f"config:  + {change}")
    if not plan.changes:
        tell("config:  fits already")
    if plan.project is not None and plan.diff:
        tell(f"\n{plan.diff}\n")
    for warning in plan.warnings:
        tell(f"note: {warning}")


def _agreed() -> bool:
    """Ask, where there is somebody to ask."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write("Change the config of this project? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _next_steps(wish: Wish, plan: Plan) -> str:
    from backend.label_config import parse_label_config

    config = parse_label_config(plan.after)
    if config.video is not None and wish.kind != "image":
        return (
            "Videos that lie in Label Studio: edgetam serve and workers need LABEL_STUDIO_URL and "
            "LABEL_STUDIO_API_KEY. Import tasks with their rate, as in "
            '{"video": "...", "fps": 29.97}; without it Label Studio shows 24 frames a second.\n'
            "In a task: switch Auto-Annotation on, draw a box with its class, select it, press t."
        )
    return "In a task: switch Auto-Annotation on, pick the smart tool (m) and a label, click the object."


def _print(args: argparse.Namespace, plan: Plan, done: Connection | None) -> int:
    """The one document of --json."""
    if args.json:
        document = {
            "project": done.project if done else plan.project,
            "title": plan.title,
            "changes": list(plan.changes),
            "diff": plan.diff,
            "annotations": plan.annotations,
            "done": done is not None,
            "url": done.url if done else None,
            "backup": str(done.backup) if done and done.backup else None,
            "state": done.state if done else None,
            "warnings": list(done.warnings if done else plan.warnings),
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 0


def _teller(args: argparse.Namespace) -> Tell:
    """Lines for people, on stdout where it is not for --json."""
    stream = sys.stderr if args.json else sys.stdout

    def tell(text: str) -> None:
        stream.write(text + "\n")
        stream.flush()

    return tell
