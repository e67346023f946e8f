"""`edgetam weights list|fetch|verify|import`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from edgetam_model.errors import WeightsError

if TYPE_CHECKING:  # torch takes a second to import, so the functions open this door only when they run
    from edgetam_model import hub
    from edgetam_model.weights import WeightsInfo


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `weights` to the command line."""
    group = verbs.add_parser("weights", help="list, fetch, verify or import the model's weights")
    actions = group.add_subparsers(metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="which weights there are, and which of them are here")
    listing.set_defaults(run=list_action)

    fetching = actions.add_parser("fetch", help="bring the published weights into the cache")
    fetching.add_argument("name", nargs="?", default="edgetam", help="which (edgetam)")
    fetching.add_argument("--url", help="a mirror (EDGETAM_WEIGHTS_URL); the content is checked all the same")
    fetching.add_argument("--force", action="store_true", help="fetch again what the cache has")
    fetching.set_defaults(run=fetch_action)

    verifying = actions.add_parser("verify", help="read weights from end to end and check every byte")
    verifying.add_argument("name", nargs="?", help="a name from the list, or a file (all that are here)")
    verifying.set_defaults(run=verify_action)

    importing = actions.add_parser("import", help="take a checkpoint file into the cache as safetensors")
    importing.add_argument("file", type=Path, help="the published .pt, or safetensors in any accepted layout")
    importing.set_defaults(run=import_action)

    for action in (listing, fetching, verifying, importing):
        action.add_argument("--json", action="store_true", help="print one JSON document")


def list_action(args: argparse.Namespace) -> int:
    """Show every known weights file."""
    from edgetam_model.training.version_store import VersionStore
    from edgetam_model.weights import list_weights

    rows = list_weights()
    if args.json:
        _print_json([asdict(row) for row in rows])
        return 0
    table = Table("name", "here", "size", "sha256", "licence", "where")
    for row in rows:
        here = row.problem or ("yes" if row.present else "no")
        size = f"{row.size / 1e6:.1f} MB" if row.present else ""
        name = row.name if row.trained else f"{row.name} (untrained)"
        table.add_row(name, here, size, row.sha256[:12], row.licence, row.where)
    Console().print(table)
    if projects := VersionStore().projects():
        _say(f"and fine-tuned versions of {', '.join(projects)}: see edgetam versions list")
    return 0


def fetch_action(args: argparse.Namespace) -> int:
    """Fetch the published weights, with a progress bar."""
    from edgetam_model.weights import fetch, verify

    with _progress_bar(f"fetching {args.name}") as progress:
        path = fetch(args.name, url=args.url, progress=progress, force=args.force)
    _report(verify(path), as_json=args.json)
    return 0


def verify_action(args: argparse.Namespace) -> int:
    """Check one weights file, or all that are here; exit code 1 if any is damaged."""
    from edgetam_model.weights import list_weights, verify

    if args.name:
        _report(verify(args.name), as_json=args.json)
        return 0
    results: list[dict[str, Any]] = []
    for row in list_weights():
        if not row.present:
            continue
        try:
            results.append({"name": row.name, "ok": True, "fingerprint": verify(row.name).fingerprint})
        except WeightsError as error:
            results.append({"name": row.name, "ok": False, "problem": str(error)})
    if args.json:
        _print_json(results)
    for result in [] if args.json else results:
        _say(f"{result['name']}: {'ok' if result['ok'] else result['problem']}")
    return 0 if all(result["ok"] for result in results) else 1


def import_action(args: argparse.Namespace) -> int:
    """Convert a checkpoint into the cache."""
    from edgetam_model.weights import import_checkpoint, verify

    _report(verify(import_checkpoint(args.file)), as_json=args.json)
    return 0


def _report(info: WeightsInfo, *, as_json: bool) -> None:
    """One set of weights: a line for people or a document for machines."""
    if as_json:
        _print_json(asdict(info) | {"path": str(info.path)})
    else:
        _say(f"{info}\nfingerprint {info.fingerprint}")


def _say(text: str) -> None:
    """Plain text for people: names and paths are not rich's markup, and long ones stay whole."""
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def _print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


@contextmanager
def _progress_bar(title: str) -> Iterator[hub.Progress]:
    """A download bar on stderr, as a callback."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
