"""How far the tracking is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 5.0


@contextmanager
def showing(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields what is to be called with the number of frames done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(title, total=total)
        yield lambda done: bars.update(task, completed=done)


def _lines(title: str, total: int) -> Callable[[int], None]:
    start = said = time.monotonic()

    def say(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if done < total and now - said < LINE_SECONDS:
            return
        said = now
        rate = done / max(now - start, 1e-9)
        sys.stderr.write(f"{title}: {done}/{total} frames, {rate:.1f} per second\n")
        sys.stderr.flush()

    return say
