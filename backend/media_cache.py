"""Fetched files kept on disk: bounded in size, fetched once, never half a file, never taken from a reader.

Several threads and processes may share a folder. Everything rests on locks of the operating system
(`flock`), which end with their holder, however it ends:

- `parts/SOURCE` is locked by whoever fetches that source; it becomes the entry by a rename.
- `entries/SOURCE.VERSION` is locked, shared, by whoever reads it; only what nobody holds is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgetam_model import MediaError

POLL_S = 0.05
DIGEST_LETTERS = 40  # 160 bits of SHA-256: no two sources meet


@dataclass(frozen=True)
class Incoming:
    """A file that is about to be fetched.

    Attributes:
        version: what changes when the file does, as the server tells it (entity tag, date, length).
        write: writes the whole content into an empty file, or raises.
    """

    version: str
    write: Callable[[BinaryIO], object]


Ask = Callable[[], AbstractContextManager[Incoming]]


class MediaBusyError(MediaError):
    """Another fetch of the same file takes longer than was waited: it passes, and is no fault of the file."""


class MediaCache:
    """Files under a folder, at most `max_bytes` of them besides those that are being read.

    Args:
        folder: made when first needed; may be shared by every process of this machine.
        max_bytes: the least recently used files beyond this are removed.
        wait_s: how long to wait for another's fetch of the same file.
    """

    def __init__(self, folder: Path, max_bytes: int, wait_s: float = 900.0) -> None:
        self._entries = folder / "entries"
        self._parts = folder / "parts"
        self._max_bytes = max_bytes
        self._wait_s = wait_s

    @contextmanager
    def hold(self, source: str, ask: Ask) -> Iterator[Path]:
        """The file of a source, which stays as it is until the end of the `with`.

        Args:
            source: where the file comes from, without anything secret or short-lived.
            ask: asks the origin which version it has; its `write` is called only where that version is
                not here. Of several callers with one source, one at a time asks.

        Raises:
            MediaBusyError: another's fetch does not end.
            MediaError: the folder cannot be written.
            whatever `ask` and `write` raise; nothing is kept then.
        """
        try:
            self._entries.mkdir(parents=True, exist_ok=True)
            self._parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError("EDGETAM_CACHE", f"cannot be written: {error.strerror}") from error
        descriptor, path, is_new = self._obtain(_digest(source), ask)
        try:
            if is_new:
                self.trim()
            yield path
        finally:
            os.close(descriptor)
            if is_new:
                self.trim()  # once more: a file larger than the whole cache stays no longer than it is used

    def peek(self, source: str, version: str) -> AbstractContextManager[Path] | None:
        """Hold a version that is known to be here without asking the origin; None where it is gone."""
        path = self._entries / _entry_name(_digest(source), version)
        descriptor = _hold_entry(path)
        return None if descriptor is None else _held(descriptor, path)

    def size(self) -> int:
        """Bytes of all files that are complete."""
        return sum(size for _, size, _ in self._listed())

    def trim(self) -> None:
        """Remove what was not used for longest until the size fits, and what crashes have left behind."""
        for part in _files(self._parts):
            _remove_unheld(part)
        entries = self._listed()
        excess = sum(size for _, size, _ in entries) - self._max_bytes
        for _, size, path in sorted(entries, key=lambda entry: entry[0]):
            if excess <= 0:
                return
            if _remove_unheld(path):
                excess -= size

    def _obtain(self, source: str, ask: Ask) -> tuple[int, Path, bool]:
        """Descriptor that holds the entry, its path, and whether it was fetched just now."""
        give_up = time.monotonic() + self._wait_s
        while True:
            with self._fetching(source, give_up) as part, ask() as incoming:
                path = self._entries / _entry_name(source, incoming.version)
                descriptor = _hold_entry(path)
                if descriptor is not None:
                    return descriptor, path, False
                descriptor = _fill(part, incoming, self._parts / source, path)
            if descriptor is not None:  # else somebody trimmed it in between: once more
                return descriptor, path, True

    @contextmanager
    def _fetching(self, source: str, give_up: float) -> Iterator[int]:
        """Be the only one who fetches this source; gives the descriptor of the empty, locked part."""
        part = self._parts / source
        while True:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o600)
            if _try_lock(descriptor, fcntl.LOCK_EX) and _is_at(descriptor, part):
                break
            os.close(descriptor)
            if time.monotonic() > give_up:
                raise MediaBusyError(
                    "media", f"another request has been fetching this file for {self._wait_s:g} s"
                )
            time.sleep(POLL_S)
        try:
            os.ftruncate(descriptor, 0)  # what a crash left
            yield descriptor
        finally:
            if _is_at(descriptor, part):
                part.unlink()
            os.close(descriptor)

    def _listed(self) -> list[tuple[int, int, Path]]:
        """(last use in ns, bytes, path) of every entry."""
        found = []
        for path in _files(self._entries):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        return found


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


@contextmanager
def _held(descriptor: int, path: Path) -> Iterator[Path]:
    try:
        yield path
    finally:
        os.close(descriptor)


def _fill(part: int, incoming: Incoming, part_path: Path, entry: Path) -> int | None:
    """Fetch into the locked part, make it the entry once it is whole and on the disk, and hold it.

    A duplicate of the part's descriptor shares its lock, so no second one is waited for. None where the entry
    was removed while the lock changed from exclusive to shared, which is not one step.
    """
    try:
        with os.fdopen(os.dup(part), "r+b") as file:
            incoming.write(file)
            file.flush()
            os.fsync(part)
        part_path.replace(entry)
    except OSError as error:
        raise MediaError("EDGETAM_CACHE", f"cannot be written: {error.strerror}") from error
    descriptor = os.dup(part)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if _is_at(descriptor, entry):
        _mark_used(descriptor)
        return descriptor
    os.close(descriptor)
    return None


def _mark_used(descriptor: int) -> None:
    now = time.time_ns()  # the system's own clock of files ticks every few milliseconds
    os.utime(descriptor, ns=(now, now))


def _hold_entry(path: Path) -> int | None:
    """A descriptor with a shared lock on an entry, whose time of use becomes now; None where it is gone."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits only while somebody removes it
        if _is_at(descriptor, path):
            _mark_used(descriptor)
            return descriptor
        os.close(descriptor)


def _remove_unheld(path: Path) -> bool:
    """Remove a file that nobody has locked."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if not _try_lock(descriptor, fcntl.LOCK_EX) or not _is_at(descriptor, path):
            return False
        path.unlink()
        return True
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one with this name: it may have been removed or renamed."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_LETTERS]


def _entry_name(source: str, version: str) -> str:
    return f"{source}.{_digest(version)}"
