"""How far a long job is, on stderr: a bar on a terminal, a plain line per second elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

LINE_SECONDS = 1.0


def describe(done: int, total: int | None, unit: str, seconds: float, begun: int = 0) -> str:
    """What to say after `seconds` of a stage: done of total, speed, and the time left (or taken).

    The speed is of what was done since, on top of what was `begun` before.
    Percent stand alone: they run at no even speed, and who counts in them knows better what is left.
    """
    if total is None:
        return f"{seconds:.0f} s"
    if unit == "%":
        return f"{done} %"
    text = f"{done}/{total} {unit}"
    if done <= begun or seconds <= 0:
        return text
    rate = (done - begun) / seconds
    speed = f"{rate:.1f} fps" if unit == "frames" else f"{rate:.1f} {unit}/s"
    rest = f"{_clock(seconds)} in all" if done >= total else f"{_clock((total - done) / rate)} left"
    return f"{text}, {speed}, {rest}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Meter(ABC):
    """Shows the stages of a job, one after the other; use it in a `with`."""

    @abstractmethod
    def stage(self, title: str, total: int | None = None, unit: str = "frames", begun: int = 0) -> None:
        """Begin a stage of `total` steps (None: unknown), so many of which were done in an earlier run; the
        stage before is over."""

    @abstractmethod
    def reach(self, done: int) -> None:
        """So many steps of this stage are done."""

    @abstractmethod
    def retitle(self, title: str) -> None:
        """Another title for this stage; takes no lock of ours and writes nothing: signal handlers call it."""

    @abstractmethod
    def note(self, text: str) -> None:
        """A line for people that stays."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def stderr_meter() -> Meter:
    """A bar where stderr is a terminal, lines where it is a file or a pipe."""
    console = Console(stderr=True)
    return BarMeter(console) if console.is_terminal else LineMeter(sys.stderr)


class _Facts(ProgressColumn):
    """`describe` as a column of rich's bar."""

    def render(self, task: Task) -> Text:
        total = None if task.total is None else int(task.total)
        unit, begun = str(task.fields["unit"]), int(task.fields["begun"])
        return Text(describe(int(task.completed), total, unit, task.elapsed or 0.0, begun))


class BarMeter(Meter):
    """A bar per stage, redrawn ten times a second by rich's own thread."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(TextColumn("{task.description}"), BarColumn(), _Facts(), console=console)
        self._task: TaskID | None = None
        self._endless = False

    def stage(self, title: str, total: int | None = None, unit: str = "frames", begun: int = 0) -> None:
        """See Meter; a stage without a total disappears when it is over."""
        self._finish()
        self._task = self._bars.add_task(title, total=total, completed=begun, unit=unit, begun=begun)
        self._endless = total is None

    def reach(self, done: int) -> None:
        """See Meter."""
        if self._task is not None:
            self._bars.update(self._task, completed=done)

    def retitle(self, title: str) -> None:
        """See Meter; rich's lock may be taken again by the thread that holds it."""
        if self._task is not None:
            self._bars.update(self._task, description=title)

    def note(self, text: str) -> None:
        """See Meter; names are not rich's markup."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()
        self._bars.stop()

    def _finish(self) -> None:
        if self._task is not None and self._endless:
            self._bars.remove_task(self._task)
        elif self._task is not None:
            self._bars.stop_task(self._task)
        self._task = None


class LineMeter(Meter):
    """A line per second from a thread of its own, so that it comes also while one frame takes longer."""

    def __init__(self, stream: TextIO, seconds: float = LINE_SECONDS) -> None:
        self._stream = stream
        self._seconds = seconds
        self._title = ""
        self._total: int | None = None
        self._unit = ""
        self._start = 0.0
        self._done = 0
        self._begun = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="edgetam-progress", daemon=True)

    def stage(self, title: str, total: int | None = None, unit: str = "frames", begun: int = 0) -> None:
        """See Meter."""
        with self._lock:
            self._finish()
            self._title, self._total, self._unit = title, total, unit
            self._start, self._done, self._begun = time.monotonic(), begun, begun

    def reach(self, done: int) -> None:
        """See Meter."""
        self._done = done

    def retitle(self, title: str) -> None:
        """See Meter; the next line shows it."""
        self._title = title

    def note(self, text: str) -> None:
        """See Meter."""
        with self._lock:
            self._write(text)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:  # else what went wrong is the last line
            self._finish()

    def _tick(self) -> None:
        while not self._stop.wait(self._seconds):
            with self._lock:
                self._say()

    def _finish(self) -> None:
        """The stage's last line; a short one without steps leaves none."""
        if self._total is not None or time.monotonic() - self._start >= self._seconds:
            self._say()

    def _say(self) -> None:
        if self._title:
            seconds = time.monotonic() - self._start
            said = describe(self._done, self._total, self._unit, seconds, self._begun)
            self._write(f"{self._title}: {said}")

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
