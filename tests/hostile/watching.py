"""Whether anybody opens a file: told by the system itself, whichever process it is (Linux's inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

IN_ACCESS, IN_OPEN = 0x1, 0x20
HEAD = struct.Struct("iIII")  # watch, mask, cookie, length of the name


@dataclass(frozen=True)
class Watch:
    """A folder under watch."""

    descriptor: int

    def opened(self) -> list[str]:
        """Names of the files in it that were opened or read since the last call."""
        names: list[str] = []
        try:
            data = os.read(self.descriptor, 2**16)
        except BlockingIOError:
            return names
        while data:
            length = HEAD.unpack_from(data)[3]
            names.append(data[HEAD.size : HEAD.size + length].rstrip(b"\0").decode())
            data = data[HEAD.size + length :]
        return names


@contextmanager
def watched(folder: Path) -> Iterator[Watch]:
    """Watch the files directly in a folder."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    try:
        made = libc.inotify_add_watch(descriptor, os.fsencode(folder), IN_ACCESS | IN_OPEN)
        assert made >= 0, os.strerror(ctypes.get_errno())
        yield Watch(descriptor)
    finally:
        os.close(descriptor)
