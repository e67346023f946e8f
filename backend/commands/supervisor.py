"""The workers of `edgetam serve`: started beside the server, again when they die, and stopped with it."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

LOOK = 0.2  # seconds between two looks at the workers
FIRST_PAUSE = 0.5  # seconds before a worker that died is started again
LONGEST_PAUSE = 30.0  # for one that dies again and again, such as without memory
HEALTHY = 10.0  # seconds after which a worker counts as well, and the next pause is short again
STOP = 7.0  # seconds that workers have to stop: more than a worker's own five for its job
log = logging.getLogger(__name__)


@dataclass
class _Place:
    """One worker and those that came before it. `next_start`: on the monotonic clock."""

    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    next_start: float = 0.0
    pause: float = field(default=FIRST_PAUSE)


class Supervisor:
    """Keeps so many processes of one command running: `with Supervisor(...):`.

    Args:
        command: of one worker. It must stop on SIGTERM, and when its standard input ends.
        count: how many.
        environ: their environment.
        look: called with every round, for what else has to be watched.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        environ: Mapping[str, str],
        look: Callable[[], None] | None = None,
    ) -> None:
        self._command = list(command)
        self._environ = dict(environ)
        self._places = [_Place() for _ in range(count)]
        self._look = look
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def __enter__(self) -> Supervisor:
        for place in self._places:
            self._start(place)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        end = time.monotonic() + STOP
        for place in self._places:
            self._reap(place, end)

    @property
    def pids(self) -> list[int]:
        """Of the live workers."""
        running = (place.process for place in self._places)
        return [process.pid for process in running if process is not None and process.poll() is None]

    def stop(self) -> None:
        """Ask all to stop, and start none again. Does not wait; leaving the `with` does."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            # It may be starting one just now. Not for ever: the signal may have caught us with a lock.
            self._thread.join(timeout=2.0)
        for place in self._places:
            if place.process is not None:
                place.process.terminate()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK):
            for place in self._places:
                self._mind(place)
            if self._look is not None:
                self._look()

    def _mind(self, place: _Place) -> None:
        now = time.monotonic()
        if place.process is not None:
            code = place.process.poll()
            if code is None:
                return
            place.pause = FIRST_PAUSE if now - place.started > HEALTHY else place.pause
            log.warning("a worker ended (%s); another starts in %.1f s", _ending(code), place.pause)
            _close(place.process)
            place.process = None
            place.next_start = now + place.pause
            place.pause = min(LONGEST_PAUSE, 2 * place.pause)
        elif now >= place.next_start:
            self._start(place)

    def _start(self, place: _Place) -> None:
        place.process = subprocess.Popen(  # noqa: S603  our own program
            self._command,
            env=self._environ,
            stdin=subprocess.PIPE,  # ends with this process, however that ends, and so do they
            start_new_session=True,  # Ctrl-C in a terminal is for this process, which passes it on once
        )
        place.started = time.monotonic()

    def _reap(self, place: _Place, end: float) -> None:
        process = place.process
        if process is None:
            return
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("a worker does not stop and is killed; its job goes on elsewhere")
            process.kill()
            process.wait()
        _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
