"""Linux's landlock: from here on, this process opens nothing but what is named (kernel 5.13 and later)."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

CREATE, ADD, RESTRICT = 444, 445, 446  # system calls, numbered alike on every processor
VERSION = 1  # flag of CREATE: tell the version alone
PATH_BENEATH = 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
# Rights over files that a version knows (all are given up), as the number of the highest one, and one more.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
NEWEST_FILE_RIGHTS = 16
NETWORK = 0b11  # to bind, to connect; version 4
SCOPES = 0b11  # abstract sockets, signals to others; version 6


def read_only(paths: Iterable[Path]) -> bool:
    """Read these files, and what is in these folders; open, make, change and connect to nothing else.

    Returns:
        Whether it holds; False where the kernel cannot do it.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE, None, ctypes.c_size_t(0), VERSION)
    if version < 1:
        return False
    rights = (1 << FILE_RIGHTS.get(version, NEWEST_FILE_RIGHTS)) - 1
    attributes = struct.pack("=Q", rights)
    if version >= 4:
        attributes += struct.pack("=Q", NETWORK)
    if version >= 6:
        attributes += struct.pack("=Q", SCOPES)
    rules = libc.syscall(CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return False
    try:
        for path in paths:
            _allow(libc, rules, path)
        return bool(libc.syscall(RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: Path) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = READ_FILE | READ_DIR if path.is_dir() else READ_FILE
        libc.syscall(ADD, rules, PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)
