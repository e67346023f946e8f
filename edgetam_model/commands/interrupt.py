"""Ctrl-C while something worth keeping is under way: the first asks, the second insists."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """In the `with` block the first Ctrl-C only makes `requested` true; the second raises KeyboardInterrupt.

    Outside the main thread, where no signals arrive, nothing is installed.

    Args:
        announce: called by the first Ctrl-C, from the signal handler: it may not write or wait.
    """

    def __init__(self, announce: Callable[[], None]) -> None:
        self._requested = False
        self._announce = announce
        self._before: signal.Handlers | Callable[[int, FrameType | None], object] | int | None = None

    def requested(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._requested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        self._announce()
