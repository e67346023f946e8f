"""Programs that a test starts: each with a log file, waited for, and stopped with all that it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

RUN = "EDGETAM_PLATFORM_RUN"  # in the environment of all that one run starts, so that it is found again
RUN_ID = uuid.uuid4().hex


class NotReadyError(Exception):
    """A program ended, or does not answer; its text ends with the last lines of its log."""


@contextmanager
def running(
    command: Sequence[str], log: Path, health: str, seconds: float, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; begins once `health` answers 200.

    Args:
        command: the program and its arguments.
        log: file that its output goes to.
        health: address that answers 200 when it is ready.
        seconds: it may take so long.
        env: added to this process's environment.

    Raises:
        NotReadyError: it ended or did not answer in time.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env, RUN: RUN_ID},
            start_new_session=True,
        )
        try:
            _wait(process, health, seconds, log)
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """End a program as a service manager does, and after `seconds` its whole process group at once."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def left_running() -> list[psutil.Process]:
    """What this run started and is still there, whatever its parent is now."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.pid != os.getpid() and process.environ().get(RUN) == RUN_ID:
                found.append(process)
    return found


def free_port() -> int:
    """A TCP port of this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], health: str, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotReadyError(f"{log.name} ended with {process.returncode}:\n{_tail(log)}")
        with (
            suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(health, timeout=2) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise NotReadyError(f"{health} did not answer within {seconds:.0f} s:\n{_tail(log)}")


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
