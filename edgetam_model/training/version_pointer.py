"""A project's pointer, `current.json`: read for a stat, replaced at once, one writer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edgetam_model.errors import WeightsError
from edgetam_model.training.version_files import replace_file
from edgetam_model.training.versions import ProjectState

POINTER, LOCK = "current.json", ".lock"
LOCK_WAIT_S = 30.0  # the longest turn hashes one version: below a second for the published size


@dataclass(frozen=True)
class _Seen:
    """A pointer as it was read: inode, size and time of writing of its file, and what serves."""

    mark: tuple[int, int, int]
    current: str


class PointerReader:
    """Remembers what pointers said; may be shared between threads.

    A pointer's file is replaced, and grows with every switch, so one that says something else has another
    mark, even where the clock of the file system is coarse and inodes are used again.
    """

    def __init__(self) -> None:
        self._seen: dict[Path, _Seen] = {}

    def current(self, folder: Path) -> str | None:
        """What serves the project of a folder; None where there is no pointer.

        Raises:
            WeightsError: the pointer is damaged, or cannot be read.
        """
        try:
            stat = (folder / POINTER).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise WeightsError(f"{folder}: cannot be read: {error.strerror}") from error
        mark = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        seen = self._seen.get(folder)
        if seen is None or seen.mark != mark:
            seen = self._seen[folder] = _Seen(mark, read_state(folder).current)
        return seen.current


def read_state(folder: Path) -> ProjectState:
    """What serves the project of a folder, and what did; nothing where there is no pointer.

    Raises:
        WeightsError: the pointer is damaged.
    """
    path = folder / POINTER
    try:
        return ProjectState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return ProjectState()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise WeightsError(
            f"{path}: damaged, or of a later release; without this file no version is current"
        ) from error


def write_state(folder: Path, state: ProjectState) -> None:
    """Replace the pointer. The lock is held.

    Raises:
        WeightsError: it cannot be written; the old one stays.
    """
    with writing(folder):
        replace_file(folder / POINTER, state.model_dump_json(indent=1) + "\n")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer of a project at a time, over all processes and threads; the system frees a dead one's lock.

    Raises:
        WeightsError: another has been writing for too long, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # it loads asyncio; readers never lock

    lock = FileLock(folder / LOCK)
    with writing(folder):
        try:
            lock.acquire(LOCK_WAIT_S)
        except Timeout as error:
            raise WeightsError(f"{folder}: another process has held it for {LOCK_WAIT_S:g} s") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The disk's errors as ours.

    Raises:
        WeightsError: it is full, shut or broken.
    """
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written: {error.strerror or error}") from error
