"""Tracking for the field page: in passes, on the disk as it goes, and stopped between two frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from backend.field.events import Ended, Found, Pass
from backend.field.predicting import FilmLooker, Looker, row_of
from backend.field.work import Work, neighbours
from edgetam_model.field_objects import FieldObject, Row

if TYPE_CHECKING:
    from edgetam_model import FrameResult

Lock = AbstractContextManager[Any]
NOTED_EVERY = 0.5  # seconds between lines of the journal while frames are finished
SAVED_EVERY = 10.0  # seconds between checkpoints; they grow with the video


class Stopped(Exception):  # noqa: N818  no error: somebody asked for it
    """Tracking is to end here; `by_person`: for good, or else because the program ends."""

    def __init__(self, *, by_person: bool) -> None:
        super().__init__()
        self.by_person = by_person


def follow(looker: Looker, work: Work) -> None:
    """Bring a video's session to where the journal stands."""
    if isinstance(looker, FilmLooker):
        looker.follow(one for one in work.now.objects.values() if one.drawn)


def passes_after(before: FieldObject, frame: int) -> list[Pass]:
    """What must be tracked anew after a prompt; nothing where the object has not been tracked yet.

    Args:
        before: the object as it was.
        frame: where it was pointed at.
    """
    others = {f for f, row in before.rows.items() if f != frame and not (row.prompted and not row.kept)}
    if not others:
        return []
    first, last = neighbours(before, frame)
    passes = []
    if last > frame or (first < frame and first in before.prompts):
        start = first if first in before.prompts else frame
        passes.append(Pass(first=start, last=last))
    if first < frame and first not in before.prompts:
        passes.append(Pass(first=frame, last=first, reverse=True))
    return passes


def run_passes(
    looker: FilmLooker,
    work: Work,
    passes: list[Pass],
    progress: Callable[[int, int], None],
    lock: Lock,
) -> None:
    """Go through the passes; what is new or has changed goes into the journal, and at the end a checkpoint.

    Args:
        progress: called with (frames computed, frames to compute) of a pass; may raise `Stopped`.
        lock: of the work.

    Raises:
        EdgeTAMError: the video or the disk fails; what is finished stays.
    """
    with lock:
        follow(looker, work)
    notes = _Notes(work, lock)
    saved = time.monotonic()
    try:
        for one in passes:
            for result in looker.track(one.first, one.last, progress, reverse=one.reverse):
                notes.add(result)
                if time.monotonic() - saved > SAVED_EVERY:
                    notes.write()
                    looker.save()
                    saved = time.monotonic()
        ended = True
    except Stopped as stopped:
        ended = stopped.by_person
    finally:
        notes.write()
    looker.save()
    if ended:
        with lock:
            work.add(Ended())


class _Notes:
    """Rows on their way to the journal."""

    def __init__(self, work: Work, lock: Lock) -> None:
        self._work = work
        self._lock = lock
        self._names = {one.number: one.id for one in work.now.objects.values()}
        self._rows: dict[str, list[tuple[int, Row]]] = {}
        self._written = time.monotonic()

    def add(self, result: FrameResult) -> None:
        """Note what differs from what is known of a frame; prompted frames stay as they are."""
        for number, found in result.objects.items():
            name = self._names.get(number)
            known = self._work.now.objects[name].rows.get(result.frame) if name else None
            if name is None or found.prompted or (known is not None and known.prompted):
                continue
            row = row_of(found)
            if row != known:
                self._rows.setdefault(name, []).append((result.frame, row))
        if time.monotonic() - self._written > NOTED_EVERY:
            self.write()

    def write(self) -> None:
        """Put them on the disk."""
        if self._rows:
            with self._lock:
                self._work.add(Found(rows={name: tuple(rows) for name, rows in self._rows.items()}))
        self._rows = {}
        self._written = time.monotonic()
