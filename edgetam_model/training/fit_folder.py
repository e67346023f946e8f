"""The folder of a fit under way: what a second run goes on from, and who may. No torch.

WORK/project-7/.lock               held while the project is fitted
WORK/project-7/3f2a…/              one training: its state, notes of what is done already, its report
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from edgetam_model.errors import InputError
from edgetam_model.training.fit_options import FitBusyError
from edgetam_model.training.version_files import replace_file
from edgetam_model.training.version_pointer import LOCK, writing

_DIGITS = 24  # of the digest in a folder's name: nobody meets two alike, and paths stay short


@dataclass(frozen=True)
class FitFolder:
    """The folder of one training of a project.

    Attributes:
        path: where; it need not be there yet.
    """

    path: Path

    @property
    def run(self) -> str:
        """What tells this training from all others; its version remembers it."""
        return self.path.name

    @property
    def report(self) -> Path:
        """Folder of pages and pictures."""
        return self.path / "report"

    def make(self) -> None:
        """Have it there.

        Raises:
            WeightsError: it cannot be written.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def note(self, name: str, value: JsonValue) -> None:
        """Remember plain JSON values for a later run, whole or not at all.

        Raises:
            WeightsError: it cannot be written.
        """
        with writing(self.path):
            replace_file(self._note(name), json.dumps(value))

    def noted(self, name: str) -> JsonValue:
        """What `note` was given; None where there is nothing, or it is damaged and has to be found anew."""
        try:
            value: JsonValue = json.loads(self._note(name).read_bytes())
        except (OSError, ValueError):
            return None
        return value

    def clear(self) -> None:
        """Remove it with everything in it.

        Raises:
            WeightsError: it cannot be removed.
        """
        with writing(self.path):
            if self.path.exists():
                shutil.rmtree(self.path)

    def _note(self, name: str) -> Path:
        return self.path / f"{name}.json"


def folder_of(work: Path, project: str, facts: JsonValue) -> FitFolder:
    """The folder of the training that these facts tell from others."""
    return FitFolder(work / project / digest(facts))


def folders(work: Path, project: str) -> tuple[FitFolder, ...]:
    """Those of a project's trainings that left something, in no particular order."""
    try:
        return tuple(FitFolder(path) for path in (work / project).iterdir() if path.is_dir())
    except FileNotFoundError:
        return ()


def digest(facts: JsonValue) -> str:
    """Of plain JSON values, the same in every process."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_DIGITS]


@contextmanager
def alone(work: Path, project: str) -> Iterator[None]:
    """One fit of a project at a time, over all processes and threads; the system frees a dead one's lock.

    Raises:
        FitBusyError: another is under way.
        InputError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # it loads asyncio

    folder = work / project
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FitBusyError(f"a training of {project} is under way") from error
    except OSError as error:
        raise InputError("work", f"cannot write {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
