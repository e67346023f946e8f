"""Something done again and again beside the rest of a process: signs of life, and the sweeper's rounds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from backend.jobs import QueueUnavailable
from backend.queue import JobQueue

SWEEP = 1.0  # seconds between two rounds
log = logging.getLogger(__name__)


class Ticker:
    """Calls a function every so many seconds in a thread of its own, as long as the `with` block lasts.

    A Redis that is away is waited for: the first failure in a row is logged, and so is the return.
    """

    def __init__(self, name: str, seconds: float, tick: Callable[[], None]) -> None:
        self._name, self._seconds, self._tick = name, seconds, tick
        self._end = threading.Event()
        self._away = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            self._once()
            if self._end.wait(self._seconds):
                return

    def _once(self) -> None:
        try:
            self._tick()
        except QueueUnavailable as error:
            if not self._away:
                log.warning("%s: %s", self._name, error)
            self._away = True
        else:
            if self._away:
                log.info("%s: Redis is back", self._name)
            self._away = False


def sweeper(queue: JobQueue) -> Ticker:
    """The sweeper of a server: `with sweeper(queue): ...`. Workers bring their own."""
    return Ticker("sweeper", SWEEP, queue.sweep)
