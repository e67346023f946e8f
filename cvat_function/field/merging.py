"""What a kit brings back to CVAT: object by object, once, over nothing that others did since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic import ValidationError

from cvat_function.field.content import Drawing, Labels, PackedJob, TaskContent
from cvat_function.field.deciding import Decision, decide
from cvat_function.field.reading import given_places
from cvat_function.field.writing import Origin, Sheet, wanted_in
from cvat_function.video.receipt import find_again
from cvat_function.video.records import Annotations, LabeledShape, Record, Track
from edgetam_model import InputError
from edgetam_model.field_objects import FieldObject
from edgetam_model.field_places import FieldWork, MergeOptions, Outcome, Return


class Store(Protocol):
    """What of a server a merge needs."""

    def annotations(self, job: int) -> Annotations | None:
        """All that is drawn in a job; None where there is no such job any more."""

    def create(self, job: int, annotations: Annotations) -> Annotations:
        """Add annotations; as the server has them, with ids."""

    def delete(self, job: int, annotations: Annotations) -> None:
        """Remove annotations by their ids."""


class Merged(Record):
    """What a merge left of an object in a job, as the kit remembers it.

    Attributes:
        sent: what it was to be.
        stored: what stands there then, with the server's ids.
    """

    task: int
    job: int
    object: str
    sent: Annotations
    stored: Annotations


@dataclass(frozen=True)
class Change:
    """An object in a job that somebody worked on.

    Attributes:
        name: its id; `words`: for people.
        wanted: what is to stand there.
        base: what the kit knows to stand there.
    """

    name: str
    words: str
    wanted: Annotations
    base: Annotations


@dataclass
class Merger:
    """One merge.

    Args:
        store: the server.
        home: what comes back.
    """

    store: Store
    home: Return
    _memory: dict[tuple[int, str], Merged] = field(default_factory=dict)

    def outcomes(self) -> Iterator[Outcome]:
        """One for each object that was changed, job by job."""
        for line in self.home.memory.read():
            noted = _noted(line)
            self._memory[noted.job, noted.object] = noted
        labels = Labels.read(self.home.project)
        for work in self.home.works:
            sheet = Sheet(TaskContent.of(work.task), work.task.media, labels, self.home.options.shape)
            found = [one for job in sheet.content.jobs for one in self._job(work, job, sheet)]
            yield from found or [Outcome(work.task.id, "nothing", why="nothing was changed")]

    def _job(self, work: FieldWork, job: PackedJob, sheet: Sheet) -> list[Outcome]:
        changes = list(self._changes(work, job, sheet))
        if not changes:
            return []
        now = self.store.annotations(job.id)
        if now is None:
            why = f"job {job.id} is not there any more"
            return [Outcome(work.task.id, "conflict", why=why, object=one.words) for one in changes]
        options = self.home.options
        decided = [(one, decide(one.base, one.wanted, now, job.annotations)) for one in changes]
        done = [(one, made) for one, made in decided if _to_do(made, options)]
        if done and not options.dry_run:
            self._carry_out(work, job, done)
        outcomes = [_outcome(work.task.id, job.id, one, made, options) for one, made in decided]
        return [self._numbered(one, job, outcome) for one, outcome in zip(changes, outcomes, strict=True)]

    def _changes(self, work: FieldWork, job: PackedJob, sheet: Sheet) -> Iterator[Change]:
        known = given_places(sheet.content)
        for name in dict.fromkeys([*work.given, *work.now]):
            given, now = work.given.get(name), work.now.get(name)
            noted = self._memory.get((job.id, name))
            if given == now and noted is None:
                continue
            origin = Origin(given, known[name]) if given is not None else None
            own = origin.place if origin and origin.place.job == job.id else None
            packed = _alone(own.drawing) if own else Annotations()
            wanted = wanted_in(job, now, origin, sheet) if now is not None else Annotations()
            if noted is not None and noted.sent == wanted:
                base = wanted  # nothing new was done since
            else:
                base = noted.stored if noted is not None else packed
            if base.count or wanted.count:
                one = now or given
                assert one is not None
                yield Change(name, _words(one, given), wanted, base)

    def _carry_out(self, work: FieldWork, job: PackedJob, changes: Sequence[tuple[Change, Decision]]) -> None:
        """Add before anything is removed: what a broken connection leaves behind is put right next time."""
        whole = _joined([made.create for _, made in changes])
        there = self.store.create(job.id, whole) if whole.count else Annotations()
        gone = _joined([made.delete for _, made in changes])
        if gone.count:
            self.store.delete(job.id, gone)
        for one, made in changes:
            own, there = _taken(made.create, there)
            stored = _joined([made.stays, own])
            noted = Merged(task=work.task.id, job=job.id, object=one.name, sent=one.wanted, stored=stored)
            self.home.memory.add(noted.model_dump(mode="json"))
            self._memory[job.id, one.name] = noted

    def _numbered(self, change: Change, job: PackedJob, outcome: Outcome) -> Outcome:
        """With the number that an annotation has since it was stored."""
        noted = self._memory.get((job.id, change.name))
        if outcome.what not in ("create", "update") or noted is None or self.home.options.dry_run:
            return outcome
        return replace(outcome, annotation=_number(noted.stored))


def merging(store: Store, home: Return) -> Iterator[Outcome]:
    """Bring works back; see `edgetam_model.field_places.FieldSite.merge`."""
    return Merger(store, home).outcomes()


def _to_do(decision: Decision, options: MergeOptions) -> bool:
    if decision.what == "conflict":
        return options.as_new and decision.create.count > 0
    return decision.what != "nothing"


def _outcome(task: int, job: int, change: Change, made: Decision, options: MergeOptions) -> Outcome:
    what, why = made.what, made.why
    if what == "conflict" and _to_do(made, options):
        what, why = "create", f"beside what {why}"
    number = _number(_joined([made.delete, made.stays, change.base]))
    return Outcome(task, what, number, why, object=f"job {job}, {change.words}")


def _number(annotations: Annotations) -> int | None:
    """The server's, of the first of them."""
    items: list[Track | LabeledShape] = [*annotations.tracks, *annotations.shapes]
    return next((one.id for one in items if one.id is not None), None)


def _words(one: FieldObject, given: FieldObject | None) -> str:
    own = one.id.partition("/")[2] if given is not None else f"new {one.number}"
    return " ".join((own, *one.labels))


def _alone(drawing: Drawing) -> Annotations:
    if isinstance(drawing, Track):
        return Annotations(tracks=(drawing,))
    return Annotations(shapes=(drawing,))


def _joined(parts: Sequence[Annotations]) -> Annotations:
    return Annotations(
        tracks=tuple(track for part in parts for track in part.tracks),
        shapes=tuple(shape for part in parts for shape in part.shapes),
    )


def _taken(sent: Annotations, made: Annotations) -> tuple[Annotations, Annotations]:
    """Of the server's answer what was made of an object, and the rest."""
    tracks, _ = find_again(sent.tracks, made.tracks)
    shapes, _ = find_again(sent.shapes, made.shapes)
    ids = {one.id for one in tracks}, {one.id for one in shapes}
    rest = Annotations(
        tracks=tuple(one for one in made.tracks if one.id not in ids[0]),
        shapes=tuple(one for one in made.shapes if one.id not in ids[1]),
    )
    return Annotations(tracks=tracks, shapes=shapes), rest


def _noted(line: Any) -> Merged:
    try:
        return Merged.model_validate(line)
    except ValidationError as error:
        raise InputError("kit", "a merge was noted by another version of this program") from error
