"""The stack as real processes that can be killed, paused, started anew, and given another clock.

Each process is what a team runs: redis-server, `edgetam serve` and `edgetam worker`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from redis import Redis
from redis.exceptions import RedisError

from backend.embedded_redis import server_program

ROOT = Path(__file__).parent.parent.parent
FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)
STARTED = 240.0  # seconds that a program may take: preparing graphs on a busy machine takes more than 60
STOPPED = 20.0


@dataclass
class Program:
    """One process that comes back: a restart is the same command with the same log.

    Attributes:
        role: redis, server or worker.
        answers: whether it can be used; None: whoever needs it waits.
        process: the present one.
    """

    name: str
    role: str
    command: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    answers: Callable[[], bool] | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while it lives."""
        return self.process.pid if self.process and self.process.poll() is None else None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.pid is not None:
            return
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **self.env},
            )

    def ready(self, seconds: float = STARTED) -> None:
        """Start it and wait until it answers."""
        self.start()
        end = time.monotonic() + seconds
        while self.answers and not self.answers():
            assert self.pid is not None, f"{self.name} ended:\n{self.tail()}"
            assert time.monotonic() < end, f"{self.name} does not answer:\n{self.tail()}"
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        """A signal, where there is a process."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """As the system does that runs out of memory."""
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """As a service manager does; a process that does not end within seconds is killed."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        self.wait()

    def wait(self) -> None:
        """Reap it."""
        if self.process is None:
            return
        try:
            self.process.wait(STOPPED)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.process.wait()

    def tail(self, letters: int = 2000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-letters:]

    def memory(self) -> tuple[float, int] | None:
        """Seconds since it was started, and bytes of memory; None while it is away."""
        with suppress(psutil.Error):
            if self.pid is not None:
                process = psutil.Process(self.pid)
                return time.time() - process.create_time(), process.memory_info().rss
        return None


@dataclass(frozen=True)
class Clock:
    """The wall clock of a program, through libfaketime: as far before or after the true one as a file says.

    Attributes:
        library: None where libfaketime is not installed.
    """

    file: Path
    library: str | None = field(default_factory=lambda: next((p for p in FAKETIME if Path(p).exists()), None))

    def env(self) -> dict[str, str]:
        """For a program that is to have this clock; monotonic time goes on as it is, as in systems."""
        if self.library is None:
            return {}
        self.set(0)
        return {
            "LD_PRELOAD": self.library,
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: float) -> None:
        """Jump: so many seconds from the true time."""
        beside = self.file.with_suffix(".new")
        beside.write_text(f"{seconds:+.0f}\n")
        beside.replace(self.file)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def redis_program(folder: Path, data: Path, clock: Clock | None = None) -> tuple[Program, str]:
    """A Redis that keeps its data in `data`, as the product configures it; and its address."""
    path = folder / "redis.sock"
    options = [
        *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", str(data)),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--databases", "1"),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--auto-aof-rewrite-min-size", "16mb"),
    ]
    url = f"unix://{path}"

    def answers() -> bool:
        with Redis(unix_socket_path=str(path), socket_timeout=1) as client, suppress(RedisError):
            return bool(client.ping())
        return False

    env = clock.env() if clock else {}
    command = [str(server_program()), *options]
    return Program("redis", "redis", command, folder / "redis.log", env, answers), url


def edgetam(*words: str) -> list[str]:
    """The command line of a verb."""
    return [sys.executable, "-m", "edgetam_model.cli", *words]


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[str]:
    """A disk of its own, gone at the end; a plain folder where this is not root on Linux.

    Yields:
        Why it is none, empty where it is.
    """
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    problem = "needs Linux and root"
    if sys.platform == "linux" and os.geteuid() == 0:
        told = subprocess.run(command, check=False, capture_output=True)
        problem = "" if told.returncode == 0 else told.stderr.decode().strip() or "mount failed"
    try:
        yield problem
    finally:
        if not problem:
            subprocess.run(["umount", "-l", str(folder)], check=True)
