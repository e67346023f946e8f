"""Converted graphs on disk: each made once for all processes, made anew if damaged, the oldest removed."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from edgetam_model import config, model, nn, parts
from edgetam_model.errors import EdgeTAMError
from edgetam_model.hub import locked
from edgetam_model.runtime.graphs import Graph

KEPT_BYTES = 2 << 30  # a published-size set for one object takes 62 MB
LOCK_S = 600.0  # a conversion takes 2 to 30 s; the others wait for the process that makes it
LOCK, HALF_MADE = ".lock", ".part"

Loaded = TypeVar("Loaded")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphStore:
    """A folder of converted graphs, shared by all processes.

    What belongs to a graph bears its name, with endings of its own: a file, several, or a folder.

    Attributes:
        library: who runs them, for people.
        folder: made when it is first needed.
        suffix: ending of what is loaded, such as ".xml".
        marks: what graphs depend on besides their shapes: weights, precision, code.
        kept: bytes in all, above which the graphs used longest ago are removed.
    """

    library: str
    folder: Path
    suffix: str
    marks: str
    kept: int = KEPT_BYTES

    def prepared(
        self, graph: Graph, make: Callable[[Graph, Path], None], load: Callable[[Path], Loaded]
    ) -> Loaded:
        """The graph, loaded; one that cannot be is taken for damaged, and made anew once.

        Args:
            graph: which.
            make: writes it to a path, in a folder of its own.
            load: reads it from a path.

        Raises:
            EdgeTAMError: it cannot be made, kept or loaded.
        """
        try:
            path = self.path_for(graph, make)
            try:
                return load(path)
            except (OSError, RuntimeError, EdgeTAMError) as error:
                _log.warning("%s cannot be loaded and is made anew: %s", path.name, _last_line(error))
                self._remove(path.stem)
                return load(self.path_for(graph, make))
        except (OSError, RuntimeError, ValueError, EdgeTAMError) as error:
            what = f"{self.library} cannot prepare {graph.part} in {self.folder}: {_last_line(error)}"
            raise EdgeTAMError(f"{what}; EDGETAM_RUNTIME=torch does without") from error

    def path_for(self, graph: Graph, make: Callable[[Graph, Path], None]) -> Path:
        """Where the graph is, made unless it is there; processes that start together make it once.

        Raises:
            WeightsError: another process has been making it for `LOCK_S`, or the folder cannot be written.
            OSError: it cannot be kept.
        """
        digest = hashlib.sha256(f"{self.marks} {graph.name}".encode()).hexdigest()[:32]
        path = self.folder / f"{graph.part}-{digest}{self.suffix}"
        if not _used(path):
            with locked(path.with_suffix(LOCK), LOCK_S):
                if not _used(path):
                    _log.info("preparing %s for %s, once", graph.name, self.library)
                    self._make(graph, path, make)
                    with suppress(FileNotFoundError):  # another process removes too
                        self._shrink(path.stem)
        return path

    def _make(self, graph: Graph, path: Path, make: Callable[[Graph, Path], None]) -> None:
        """Beside its place first: a process that is ended midway leaves nothing that looks whole."""
        half = path.with_suffix(HALF_MADE)
        shutil.rmtree(half, ignore_errors=True)  # of a process that was ended: it held the lock
        half.mkdir()
        make(graph, half / path.name)
        for one in sorted(half.iterdir(), key=lambda one: one.name == path.name):  # what is looked for, last
            one.replace(self.folder / one.name)
        half.rmdir()
        os.utime(path)

    def _shrink(self, stem: str) -> None:
        """Keep the graph that was just made, and of the others those used last."""
        graphs = defaultdict[str, list[Path]](list)
        for path in self.folder.iterdir():
            if path.suffix != LOCK:
                graphs[path.stem].append(path)
        total = _bytes(graphs.pop(stem))
        used = {other: max(path.stat().st_mtime for path in paths) for other, paths in graphs.items()}
        for other in sorted(used, key=used.__getitem__, reverse=True):
            total += _bytes(graphs[other])
            if total > self.kept:
                self._remove(other)

    def _remove(self, stem: str) -> None:
        """All of a graph, first what is looked for; what is in use on Windows stays."""
        paths = (path for path in self.folder.glob(f"{stem}.*") if path.suffix != LOCK)
        for path in sorted(paths, key=lambda one: one.suffix != self.suffix):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


def code_hash(libraries: Sequence[str], made_by: Sequence[Path]) -> str:
    """What graphs depend on besides weights and shapes: the code that they are made from, and what converts.

    Args:
        libraries: names and versions of what converts.
        made_by: files that convert.
    """
    digest = hashlib.sha256(" ".join((*libraries, torch.__version__)).encode())
    folders = [Path(str(one.__file__)).parent for one in (nn, parts)]
    modules = [*made_by, *(Path(str(one.__file__)) for one in (config, model))]
    for file in [*modules, *sorted(file for folder in folders for file in folder.glob("*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _used(path: Path) -> bool:
    """Whether it is there; if so, that it was used is noted."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _bytes(paths: Sequence[Path]) -> int:
    files = (file for path in paths for file in (path, *path.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file())


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
