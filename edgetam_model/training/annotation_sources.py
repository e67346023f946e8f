"""The door to annotations of installed adapters: each says whether a file is of its kind. No torch."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points
from pathlib import Path

from edgetam_model.errors import InputError
from edgetam_model.training.annotations import AnnotationSet, Reader, ReadOptions

GROUP = "edgetam.sources"  # entry points: readers as `annotations.Reader`

_logger = logging.getLogger(__name__)


def read_annotations(path: str | Path, options: ReadOptions | None = None) -> AnnotationSet | None:
    """The annotations in a file, read by the first adapter that knows its kind.

    Returns:
        None where no adapter knows it; `datasets.open_annotated` may.

    Raises:
        InputError: no such file, or one that its adapter finds damaged or too large.
    """
    file = Path(path)
    if not file.exists():
        raise InputError("from", f"no such file: {file}")
    for reader in readers():
        found = reader(file, options or ReadOptions())
        if found is not None:
            return found
    return None


def readers() -> list[Reader]:
    """Those of installed adapters, by name; one that cannot be imported costs its own kinds alone."""
    found: list[Reader] = []
    for plugin in sorted(entry_points(group=GROUP), key=lambda plugin: plugin.name):
        try:
            found.append(plugin.load())
        except ImportError as error:
            _logger.warning("the source %s (%s) is left out: %s", plugin.name, plugin.value, error)
    return found
