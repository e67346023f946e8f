"""Label Studio's JSON export as a source of annotations: the entry point of `edgetam.sources`. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from backend.fit_annotations import read_tasks
from backend.label_config import LabelConfig, parse_label_config
from edgetam_model import InputError
from edgetam_model.training.annotations import AnnotationSet, ReadOptions

MAX_BYTES = 2**30  # 1 GiB; 10,000 brush masks of 4K images are as much
CONFIG = "label_config.xml"  # beside the export: the project's config, which the export does not hold


def read_export(path: Path, options: ReadOptions) -> AnnotationSet | None:
    """The annotations of a JSON export; `label_config.xml` beside it, where there is one, is used.

    Returns:
        None for anything but a file with a JSON list whose first entry has `data` and `annotations`.

    Raises:
        InputError: a list that is cut off or too large, tasks without ids, or a config that is no config.
    """
    if not path.is_file() or not _begins_like_a_list(path):
        return None
    if path.stat().st_size > MAX_BYTES:
        raise InputError(path.name, f"expected at most {MAX_BYTES} bytes")
    tasks = _parsed(path)
    first = tasks[0] if tasks else None
    if not (isinstance(first, dict) and "data" in first and "annotations" in first):
        return None
    return read_tasks(tasks, _config(path.with_name(CONFIG)), options)


def _begins_like_a_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _parsed(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # also bytes that are no text, and endless digits
        raise InputError(path.name, f"expected JSON: {' '.join(str(error).split()):.200}") from error
    if not isinstance(found, list):
        raise InputError(path.name, "expected a list of tasks")
    return found


def _config(path: Path) -> LabelConfig | None:
    if not path.is_file():
        return None
    try:
        return parse_label_config(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(path.name, "expected XML in UTF-8") from error
