"""`edgetam versions list|show|promote|rollback|delete`: what teams have fine-tuned, and which one serves."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from edgetam_model.commands.terminal import add_json_and_verbose, print_json, say

if TYPE_CHECKING:  # pydantic takes 0.2 s to import, and help must not wait for it
    from edgetam_model.training.version_store import VersionStore
    from edgetam_model.training.versions import Switch, VersionRow

_DESCRIPTION = """\
Fine-tuned versions of a project's model. Each is written once and never
changed; one of them serves, or none, and then the weights of everybody do.
Servers and workers follow a switch with their next request."""

_EPILOG = """\
examples:
  edgetam versions list project-7
  edgetam versions show project-7/v0003             facts, history, every file checked
  edgetam versions promote project-7/v0003
  edgetam versions rollback project-7               to the parent of what serves
  edgetam versions rollback project-7 --to v0001    or base: the weights of everybody
  edgetam versions delete project-7/v0002           never what serves, nor its parent

Wherever weights are named, project-7/v0003 is that version and project-7 the one
that serves. Versions live in MODEL_DIR, else EDGETAM_CACHE, below versions/."""

_SHOWN_METRICS = 3  # in a list


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `versions` to the command line."""
    group = verbs.add_parser(
        "versions",
        help="list, promote, roll back or delete fine-tuned versions",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="the versions of a project, or of all")
    listing.add_argument("project", nargs="?", help="such as project-7 (all)")
    listing.set_defaults(run=list_action)

    showing = actions.add_parser("show", help="all about one version, its files checked")
    showing.add_argument("version", help="such as project-7/v0003")
    showing.set_defaults(run=show_action)

    promoting = actions.add_parser("promote", help="let a version serve its project")
    promoting.add_argument("version", help="such as project-7/v0003")
    promoting.add_argument("--over", metavar="V", help="only if this serves now, such as v0002 or base")
    promoting.set_defaults(run=promote_action)

    rolling = actions.add_parser("rollback", help="let what served before serve again")
    rolling.add_argument("project", help="such as project-7")
    rolling.add_argument(
        "--to", metavar="V", help="a version that served before, or base (the parent of what serves)"
    )
    rolling.set_defaults(run=rollback_action)

    deleting = actions.add_parser("delete", help="remove a version that does not serve")
    deleting.add_argument("version", help="such as project-7/v0002")
    deleting.set_defaults(run=delete_action)

    for action in (promoting, rolling):
        action.add_argument("--why", default="", metavar="TEXT", help="a word for the history")
    for action in (listing, showing, promoting, rolling, deleting):
        action.add_argument(
            "--model-dir", type=Path, metavar="DIR", help="the server's folder (MODEL_DIR, else the cache)"
        )
        add_json_and_verbose(action)


def list_action(args: argparse.Namespace) -> int:
    """Show the versions of one project or of all."""
    store = _store(args)
    projects = (args.project,) if args.project else store.projects()
    rows = [row for project in projects for row in store.rows(project)]
    if args.json:
        print_json([_row_document(row) for row in rows])
    elif rows:
        Console().print(_table(rows))
    else:
        say(f"no versions in {store.root}")
    return 0


def show_action(args: argparse.Namespace) -> int:
    """Everything about one version; every byte of it is read."""
    from edgetam_model.training.version_files import check_all, folder_size, read_manifest
    from edgetam_model.training.versions import VersionName

    store, name = _store(args), VersionName.parse(args.version)
    version = store.get(name)
    check_all(version)
    state, record = store.state(name.project), version.record
    switches = [s for s in state.switches if name.label in (s.before, s.after)]
    size = folder_size(version.folder)
    if args.json:
        document: dict[str, Any] = record.model_dump(mode="json")
        document |= {"status": state.status(name), "size": size, "folder": str(version.folder)}
        document |= {"content_hash": version.content_hash, "manifest": read_manifest(version)}
        print_json(document | {"switches": [switch.model_dump(mode="json") for switch in switches]})
        return 0
    facts = {
        "status": state.status(name),
        "parent": record.parent,
        "created": _when(record.created),
        "weights": f"{record.kind}, fingerprint {record.fingerprint}",
        "size": f"{size / 1e6:.1f} MB, every file as it was written",
        "folder": str(version.folder),
        "metrics": _lines(record.metrics),
        "config": _lines(record.config),
        "history": "\n".join(_told(switch) for switch in switches) or "never served",
    }
    say(str(name))
    for key, value in facts.items():
        say(f"  {key:9} " + (value or "none").replace("\n", "\n" + " " * 12))
    return 0


def promote_action(args: argparse.Namespace) -> int:
    """Switch a project to one of its versions."""
    from edgetam_model.training.versions import VersionName

    name = VersionName.parse(args.version)
    over = _label(name.project, args.over)
    return _report(args, name.project, _store(args).promote(name, why=args.why, over=over))


def rollback_action(args: argparse.Namespace) -> int:
    """Switch a project back."""
    target = _label(args.project, args.to)
    return _report(args, args.project, _store(args).rollback(args.project, target, why=args.why))


def delete_action(args: argparse.Namespace) -> int:
    """Remove a version."""
    from edgetam_model.training.versions import VersionName

    name = VersionName.parse(args.version)
    _store(args).delete(name)
    if args.json:
        print_json({"deleted": str(name)})
    else:
        say(f"{name}: deleted")
    return 0


def _store(args: argparse.Namespace) -> VersionStore:
    from edgetam_model.training.version_store import VersionStore

    return VersionStore(args.model_dir / "versions" if args.model_dir else None)


def _label(project: str, version: str | None) -> str | None:
    """`v0002` of `project-7/v0002`: a list shows the whole name, so people type it."""
    return version and version.removeprefix(f"{project}/")


def _report(args: argparse.Namespace, project: str, switch: Switch) -> int:
    """Which version serves from now on."""
    if args.json:
        print_json({"project": project} | switch.model_dump(mode="json"))
    else:
        say(f"{project}: {switch.after} serves (before: {switch.before})")
    return 0


def _row_document(row: VersionRow) -> dict[str, Any]:
    """One version of a list, for machines."""
    facts = {"name": str(row.name), "status": row.status, "size": row.size, "problem": row.problem}
    record = row.record.model_dump(mode="json") if row.record else {}
    return facts | {key: record.get(key) for key in ("kind", "parent", "created", "fingerprint", "metrics")}


def _table(rows: list[VersionRow]) -> Table:
    """The list for people; names and metrics are plain text, not rich's markup."""
    whole = [Column(name, no_wrap=True) for name in ("version", "status", "parent")]
    table = Table(*whole, "created", "size", "metrics")
    for row in rows:
        record = row.record
        cells = (
            str(row.name),
            row.status,
            (_label(row.name.project, record.parent) or "") if record else "",
            _when(record.created) if record else "",
            f"{row.size / 1e6:.1f} MB",
            _shown(record.metrics) if record else row.problem,
        )
        table.add_row(*map(Text, cells))
    return table


def _shown(metrics: Mapping[str, object]) -> str:
    """The first few numbers."""
    numbers = [
        f"{key} {value:.4g}" for key, value in sorted(metrics.items()) if isinstance(value, float | int)
    ]
    return ", ".join(numbers[:_SHOWN_METRICS])


def _lines(values: Mapping[str, object]) -> str:
    return "\n".join(f"{key} {json.dumps(value)}" for key, value in sorted(values.items()))


def _when(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


def _told(switch: Switch) -> str:
    why = f" ({switch.why})" if switch.why else ""
    return f"{_when(switch.time)} {switch.how} {switch.before} → {switch.after}{why}"
