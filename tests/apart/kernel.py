"""Which fences the kernel beneath these tests has, by its own word."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

LANDLOCK_CREATE, TELL_VERSION = 444, 1


def offered() -> tuple[str, ...]:
    """Names of fences, as decoders tell them."""
    if sys.platform != "linux":
        return ()
    landlock = ctypes.CDLL(None).syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), TELL_VERSION) >= 1
    seccomp = Path("/proc/sys/kernel/seccomp/actions_avail").exists()
    return ("landlock",) * landlock + ("seccomp",) * seccomp


needs_fences = pytest.mark.skipif(len(offered()) < 2, reason=f"this kernel has but {offered()}")
