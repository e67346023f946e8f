"""Linux's seccomp: from here on, this process starts no other, reaches none, and opens no connection."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

PR_SET_SECCOMP, MODE_FILTER = 22, 2
# Of struct seccomp_data: number of the call at 0, processor at 4, lower half of the first argument at 16.
NUMBER, PROCESSOR, FIRST_ARGUMENT = 0, 4, 16
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, DENY, KILL = 0x7FFF0000, 0x00050000, 0x80000000
CLONE_THREAD = 0x10000
OTHER_NUMBERING = 0x40000000  # x32 on x86-64: the same calls under other numbers

CLONE3 = 435  # its flags cannot be seen: "not there", and the C library takes `clone`
# Numbered alike everywhere: pidfd_send_signal, io_uring_setup, pidfd_open, pidfd_getfd, process_madvise and
# process_mrelease.
EVERYWHERE = (424, 425, 434, 438, 440, 448)


@dataclass(frozen=True)
class Machine:
    """Numbers of system calls on a processor.

    Attributes:
        processor: the kernel's name for it.
        clone: may make threads.
        tgkill: may signal this process, as `abort` does.
        prlimit64: may limit this process.
        denied: socket, connect, bind, listen, socketpair, accept, execve, execveat, kill, tkill,
            rt_sigqueueinfo, rt_tgsigqueueinfo, ptrace, process_vm_readv and _writev, perf_event_open, bpf,
            userfaultfd, unshare, open_by_handle_at, setpriority, sched_setaffinity, sched_setscheduler,
            sched_setattr; fork and vfork where there are any.
    """

    processor: int
    clone: int
    tgkill: int
    prlimit64: int
    denied: tuple[int, ...]


MACHINES = {
    "x86_64": Machine(
        *(0xC000003E, 56, 234, 302),
        denied=(
            *(41, 42, 49, 50, 53, 43, 59, 322, 62, 200, 129, 297, 101, 310, 311, 298, 321),
            *(323, 272, 304, 141, 203, 144, 314, 57, 58),
        ),
    ),
    "aarch64": Machine(
        *(0xC00000B7, 220, 131, 261),
        denied=(
            *(198, 203, 200, 201, 199, 202, 221, 281, 129, 130, 138, 240, 117, 270, 271, 241, 280),
            *(282, 97, 265, 140, 122, 119, 274),
        ),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def forbid_reaching_out() -> bool:
    """Deny new processes, programs, connections, signals and looks into other processes; threads may start.

    Returns:
        Whether it holds; False on other systems and processors, and where the kernel cannot do it.
    """
    machine = MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        return False
    steps = b"".join(_steps(machine))
    program = _Program(len(steps) // 8, steps)
    return bool(ctypes.CDLL(None).prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _steps(machine: Machine) -> Iterator[bytes]:
    """The filter: instructions of classic BPF; jumps count the instructions to skip."""
    yield _step(LOAD, PROCESSOR)
    yield _step(EQUAL, machine.processor, 1, 0)
    yield _step(RETURN, KILL)
    yield _step(LOAD, NUMBER)
    yield _step(AT_LEAST, OTHER_NUMBERING, 0, 1)
    yield _step(RETURN, DENY | errno.EPERM)
    for number in (*machine.denied, *EVERYWHERE):
        yield _step(EQUAL, number, 0, 1)
        yield _step(RETURN, DENY | errno.EPERM)
    yield _step(EQUAL, CLONE3, 0, 1)
    yield _step(RETURN, DENY | errno.ENOSYS)
    yield from _only_where(machine.clone, ANY_BIT, CLONE_THREAD)
    yield from _only_where(machine.tgkill, EQUAL, os.getpid())
    yield from _only_where(machine.prlimit64, EQUAL, 0)
    yield _step(RETURN, ALLOW)


def _only_where(number: int, test: int, value: int) -> Iterator[bytes]:
    """Allow a call where its first argument passes a test."""
    yield _step(EQUAL, number, 0, 4)
    yield _step(LOAD, FIRST_ARGUMENT)
    yield _step(test, value, 0, 1)
    yield _step(RETURN, ALLOW)
    yield _step(RETURN, DENY | errno.EPERM)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
