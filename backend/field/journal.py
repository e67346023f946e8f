"""Lines that are on the disk before anybody is told so: one JSON document each, only ever added."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgetam_model import InputError

NAME = "journal.jsonl"


class Journal:
    """One file of lines. A line that was cut off by the end of the process was never told, and goes.

    Args:
        path: the file; it and its folder are made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole: int | None = None  # bytes, once the file was read

    def read(self) -> Iterator[Any]:
        """Every whole line, in order.

        Raises:
            InputError: a line that is no JSON stands before others.
        """
        data = self.path.read_bytes() if self.path.is_file() else b""
        whole = data.rfind(b"\n") + 1
        self._whole = whole
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise InputError(str(self.path), f"line {number} is damaged") from error

    def add(self, document: Mapping[str, Any]) -> None:
        """Write a line, and return when it is on the disk.

        Raises:
            InputError: the disk is full, or cannot be written.
        """
        line = json.dumps(document, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            if self._whole is None:
                self._whole = self._end()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            with self.path.open("ab") as file:
                file.truncate(self._whole)  # the rest of a line that was cut off
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if new:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise InputError(str(self.path), f"cannot be written: {error.strerror}") from error
        self._whole += len(line)

    def _end(self) -> int:
        return self.path.read_bytes().rfind(b"\n") + 1 if self.path.is_file() else 0


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file, whole or not at all, and return when it is on the disk.

    Raises:
        InputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(str(path), f"cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _sync_folder(folder: Path) -> None:
    """A new name is on the disk only when its folder is."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
