"""What a decoder gives up before it looks at anything: memory, files, privileges, the network.

Limits hold on Linux and macOS (which does not count memory), the rest on Linux, each part as far as the
kernel has it. Nothing here needs privileges.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

OPEN_FILES = 64
DECODER_THREADS = 2  # whose processor time adds up
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION = 0x20080522
READ_ALL = 1 << 2  # CAP_DAC_READ_SEARCH


def confine(memory_bytes: int) -> None:
    """Take so much more memory at most, write no file, leave no core; end when standard input ends.

    Called when everything is imported.
    """
    _die_with_parent()
    with suppress(OSError):  # where memory ends, the kernel ends decoders first
        Path("/proc/self/oom_score_adj").write_text("1000")
    used = _address_space()
    _limit(resource.RLIMIT_AS, used + memory_bytes if used else resource.RLIM_INFINITY)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _drop_capabilities(libc)


def allow_seconds(seconds: float) -> None:
    """Set the limit of processor time anew: what an answer may take. Its owner watches the clock besides."""
    until = int(time.process_time() + DECODER_THREADS * seconds) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = until if hard == resource.RLIM_INFINITY else min(until, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def libraries() -> list[Path]:
    """Folders of code that decoders load from as they go. Wheels keep shared libraries in `*.libs` beside."""
    names = ("os", "numpy", "av", "PIL", "cv2", "edgetam_model")
    files = (getattr(sys.modules.get(name), "__file__", None) for name in names)
    folders = [Path(file).resolve().parent for file in files if file]
    return [*folders, *{libs for folder in folders for libs in folder.parent.glob("*.libs")}]


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Where root serves, whose capabilities raise limits: keep that of reading files of others, at most."""
    for kept in (READ_ALL, 0):
        sets = struct.pack("=6I", kept, kept, 0, 0, 0, 0)  # effective, permitted, inheritable; upper halves
        if libc.capset(struct.pack("=Ii", CAPABILITY_VERSION, 0), sets) == 0:
            return


def _limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    if value == resource.RLIM_INFINITY or (hard != resource.RLIM_INFINITY and value > hard):
        return
    resource.setrlimit(which, (value, value))


def _address_space() -> int:
    """Bytes of address space by now; 0 where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[0]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def _die_with_parent() -> None:
    """Have the kernel end this process when its owner's end of standard input closes, even inside a loop.

    PR_SET_PDEATHSIG would end it with the thread that started it. The signal's default action is death.
    """
    if sys.platform != "linux":
        return
    import fcntl

    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
