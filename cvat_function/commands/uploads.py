"""`edgetam cvat undo` and `edgetam cvat upload`: what became of an upload, and what to do about it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvat_function.commands.reaching import reach
from cvat_function.video.login import Login
from cvat_function.video.receipt import Receipt, load_receipt, newest_receipt
from edgetam_model import InputError

if TYPE_CHECKING:
    from cvat_function.video.server import CvatServer


@dataclass(frozen=True)
class Which:
    """A receipt's file, or the task whose newest receipt in this folder is meant."""

    path: Path | None
    task: int | None


def run_undo(login: Login, which: Which, *, keep_edited: bool, dry_run: bool, as_json: bool) -> int:
    """Take an upload back; the exit code."""
    if which.path is not None:
        login = _to_its_server(login, load_receipt(which.path))
    with reach(login) as server:
        from cvat_function.video.work import undo

        path = which.path or newest_receipt(Path(), server.address, which.task or 0)
        receipt = _checked(server, path)
        undone = undo(server, receipt, path.absolute(), keep_edited=keep_edited, rehearse=dry_run)
    said = "would be removed (--dry-run)" if dry_run else "removed"
    lines = [f"{path}: {undone.removed} tracks and masks {said}"]
    lines += [f"{undone.missing} were not there any more"] if undone.missing else []
    lines += [f"left as edited: {words}" for words in undone.edited]
    document = {
        "receipt": str(path),
        "task": receipt.task,
        "dry_run": dry_run,
        "removed": undone.removed,
        "missing": undone.missing,
        "edited": list(undone.edited),
    }
    return _say(lines, document, as_json=as_json)


def run_upload(login: Login, path: Path, *, as_json: bool) -> int:
    """Send what a receipt holds and the server lacks; the exit code."""
    login = _to_its_server(login, load_receipt(path))
    with reach(login) as server:
        from cvat_function.video.work import send

        receipt = send(server, _checked(server, path), path.absolute())
    count = sum(upload.annotations.count for upload in receipt.jobs)
    document = {"receipt": str(path), "task": receipt.task, "there": count}
    return _say([f"{path}: all {count} tracks and masks are there"], document, as_json=as_json)


def _to_its_server(login: Login, receipt: Receipt) -> Login:
    """The receipt knows the server, where nobody named one."""
    return login if login.server else replace(login, server=receipt.server)


def _checked(server: CvatServer, path: Path) -> Receipt:
    receipt = load_receipt(path)
    if receipt.server != server.address:
        raise InputError("server", f"expected {receipt.server}, where the upload went, got {server.address}")
    if receipt.taken_back:
        raise InputError("receipt", f"{path} is taken back already")
    return receipt


def _say(lines: list[str], document: dict[str, Any], *, as_json: bool) -> int:
    (sys.stderr if as_json else sys.stdout).write("\n".join(lines) + "\n")
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 0
