"""Where the work on one task stands: the objects, and how each action changes them. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from backend.field.events import (
    EVENT,
    Begun,
    Confirmed,
    Deleted,
    Done,
    Ended,
    Event,
    Found,
    Pass,
    Pointed,
    Relabelled,
    Tracked,
    Undone,
)
from backend.field.journal import Journal
from edgetam_model import InputError
from edgetam_model.field_objects import FieldObject

MOST_UNDO = 100  # actions that can be taken back


@dataclass(frozen=True)
class Standing:
    """Where a task stands after some action."""

    objects: Mapping[str, FieldObject]
    done: bool = False
    used: int = 0  # numbers given to objects


class Work:
    """The journal of a task, and where it leads.

    Args:
        journal: its lines are read now.
        given: the objects that came with the kit.

    Raises:
        InputError: a journal that is damaged.
    """

    def __init__(self, journal: Journal, given: Sequence[FieldObject]) -> None:
        self._journal = journal
        self._past: list[Standing] = []
        used = max((one.number for one in given), default=0)
        self.now = Standing({one.id: one for one in given}, used=used)
        self.given = self.now
        self.revision = 0
        self.unfinished: tuple[Pass, ...] = ()
        for line in journal.read():
            self._apply(_event(line, journal))

    @property
    def changed(self) -> bool:
        """Whether anything of the task would be brought back."""
        given, now = self.given.objects, self.now.objects
        return set(given) != set(now) or any(now[name] != given[name] for name in now)

    @property
    def touched(self) -> bool:
        """Whether somebody worked on it."""
        return self.revision > 0

    @property
    def can_undo(self) -> bool:
        """Whether there is something to take back."""
        return bool(self._past)

    def object(self, name: str) -> FieldObject:
        """An object.

        Raises:
            InputError: there is none of that id.
        """
        try:
            return self.now.objects[name]
        except KeyError as error:
            raise InputError("object", "there is no such object (any more)") from error

    def add(self, event: Event) -> None:
        """Note what happened, on the disk first.

        Raises:
            InputError: an object that is not there, or a disk that cannot be written.
        """
        self._check(event)
        self._journal.add({"do": event.do, **event.model_dump(mode="json", exclude_defaults=True)})
        self._apply(event)

    def _check(self, event: Event) -> None:
        if isinstance(event, Deleted | Relabelled | Confirmed):
            self.object(event.object)
        if isinstance(event, Undone) and not self._past:
            raise InputError("undo", "there is nothing to undo")

    def _apply(self, event: Event) -> None:
        self.revision += 1
        if isinstance(event, Found):
            self._find(event)
            return
        if isinstance(event, Begun | Ended):
            self.unfinished = event.passes if isinstance(event, Begun) else ()
            return
        if isinstance(event, Undone):
            self.unfinished = ()
            if self._past:
                self.now = replace(self._past.pop(), used=self.now.used)
            return
        self._past.append(self.now)
        del self._past[:-MOST_UNDO]
        self.now = _after(self.now, event)

    def _find(self, event: Found) -> None:
        """Put rows in; what the standings before held stays."""
        objects = dict(self.now.objects)
        for name, rows in event.rows.items():
            if name in objects:
                known = objects[name]
                objects[name] = replace(known, rows={**known.rows, **dict(rows)})
        self.now = replace(self.now, objects=objects)


def _after(now: Standing, event: Event) -> Standing:
    """The standing after an action."""
    objects = dict(now.objects)
    if isinstance(event, Done):
        return replace(now, objects=objects, done=event.done)
    if isinstance(event, Deleted):
        objects.pop(event.object, None)
        return replace(now, objects=objects)
    if isinstance(event, Tracked):
        for name in event.objects:
            if name in objects:
                objects[name] = replace(objects[name], drawn=True)
        return replace(now, objects=objects)
    if isinstance(event, Pointed):
        known = objects.get(event.object) or FieldObject(event.object, now.used + 1, event.labels)
        objects[event.object] = _pointed(known, event)
        return Standing(objects, now.done, max(now.used, known.number))
    if isinstance(event, Relabelled | Confirmed) and event.object in objects:
        known = objects[event.object]
        if isinstance(event, Relabelled):
            objects[event.object] = replace(known, labels=event.labels)
        else:
            seen = known.confirmed | set(range(event.first, event.last + 1))
            objects[event.object] = replace(known, confirmed=seen)
    return replace(now, objects=objects)


def _pointed(known: FieldObject, event: Pointed) -> FieldObject:
    """What was confirmed before a correction may be wrong after it."""
    return replace(
        known,
        prompts={**known.prompts, event.frame: event.spec},
        rows={**known.rows, event.frame: event.row},
        drawn=True,
        confirmed=frozenset(),
    )


def neighbours(known: FieldObject, frame: int) -> tuple[int, int]:
    """(first, last) that a correction on a frame changes: to the prompts beside it, else all rows."""
    before = max((f for f in known.prompts if f < frame), default=None)
    after = min((f for f in known.prompts if f > frame), default=None)
    first = min(known.rows, default=frame) if before is None else before
    last = max(known.rows, default=frame) if after is None else after
    return min(first, frame), max(last, frame)


def _event(line: Any, journal: Journal) -> Event:
    try:
        return EVENT.validate_python(line)
    except ValidationError as error:
        raise InputError(str(journal.path), "was written by another version of this program") from error
