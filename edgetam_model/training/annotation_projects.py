"""The door to projects where they live, such as `label-studio:7`: adapters open them. No torch."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

from edgetam_model.errors import InputError
from edgetam_model.training.annotations import Opener, OpenProject, ReadOptions

GROUP = "edgetam.projects"  # entry points: openers as `annotations.Opener`, by the word before the colon

_ADDRESS = re.compile(r"([a-z][a-z0-9-]+):(?!//)(.+)")  # a drive of Windows has one letter


def open_project(text: str, options: ReadOptions) -> OpenProject | None:
    """The project that an address means.

    Args:
        text: such as `label-studio:7`.
        options: how annotations are read.

    Returns:
        None where it is no such address: it may be a path.

    Raises:
        InputError: no adapter for this word, or it finds no such project or cannot reach it.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    plugins = {plugin.name: plugin for plugin in entry_points(group=GROUP)}
    if match[1] not in plugins:
        known = ", ".join(f"{name}:" for name in sorted(plugins)) or "none"
        raise InputError("from", f"no such file, and no adapter for {match[1]}: (installed: {known})")
    try:
        opener: Opener = plugins[match[1]].load()
    except ImportError as error:
        raise InputError("from", f"the adapter for {match[1]}: cannot be loaded: {error}") from error
    return opener(match[2], options)
