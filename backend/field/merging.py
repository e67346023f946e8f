"""`edgetam field merge`: what was done in the field goes back, once, over nothing that others did since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal

from pydantic import ValidationError

from backend.field.journal import NAME, Journal
from backend.field.kit import WORK, Kit
from backend.field.manifest import (
    Frozen,
    PackedAnnotation,
    PackedTask,
    Sha256,
    content_hash,
    region_ids,
)
from backend.field.regions_out import OutOptions, merged_result
from backend.field.site import FieldSite, StoredAnnotation
from backend.field.starting import Project, starting_objects
from backend.field.work import Work
from backend.label_studio import LabelStudioError
from backend.label_studio_records import DrawnTask
from edgetam_model import InputError

What = Literal["create", "update", "nothing", "conflict"]
MEMORY = "merged.jsonl"
THERE = "stands there already"


@dataclass(frozen=True)
class MergeOptions:
    """How to merge.

    Attributes:
        dry_run: tell what would be done, and do nothing.
        as_new: what conflicts becomes an annotation of its own.
        shapes: how shapes are written.
    """

    dry_run: bool = False
    as_new: bool = False
    shapes: OutOptions = field(default_factory=OutOptions)


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        annotation: the one in question, or that was made.
        why: in words.
        packed_at, server_at: when the annotation was changed last, as known here and as there.
    """

    task: int
    what: What
    annotation: int | None = None
    why: str = ""
    packed_at: str | None = None
    server_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Merged(Frozen):
    """What a merge stored, as the kit remembers it.

    Attributes:
        sent, stored: `content_hash` of what went out, and of what Label Studio answered that it keeps.
    """

    task: int
    annotation: int
    sent: Sha256
    stored: Sha256
    updated_at: str | None
    at: str


def merge(kit: Kit, site: FieldSite, options: MergeOptions) -> list[Outcome]:
    """Bring back every task that somebody worked on, in the order of their ids.

    Raises:
        InputError: a damaged kit.
        LabelStudioError: refused, or not reached; what was merged before stays, and is known next time.
    """
    return list(_Merger(kit, site, options).outcomes())


def decide(
    base: PackedAnnotation | None,
    memory: Merged | None,
    wanted: Sequence[Any],
    new_ids: Sequence[str],
    server: Sequence[StoredAnnotation],
) -> Outcome:
    """What is to be done for one task; its `task` is 0.

    Args:
        base: the annotation that was worked on; None: there was none.
        memory: what an earlier merge from this kit stored for the task.
        wanted: the result as it should stand.
        new_ids: ids of regions that were made in the field: they stand in no other annotation.
        server: the task's annotations as they are now.
    """
    content = content_hash(wanted)
    found = _for_known(base, memory, content, server)
    if found is not None and found.what != "conflict":
        return found
    there = next((one for one in server if content_hash(one.result) == content), None)
    if there is not None:
        return Outcome(0, "nothing", there.id, THERE, server_at=there.updated_at)
    if found is not None:
        return found
    marks = set(new_ids)
    other = next((one for one in server if marks & set(region_ids(one.result))), None)
    if other is not None:
        why = "holds regions of this kit, which were changed since"
        return Outcome(0, "conflict", other.id, why, server_at=other.updated_at)
    return Outcome(0, "create")


def _for_known(
    base: PackedAnnotation | None, memory: Merged | None, content: str, server: Sequence[StoredAnnotation]
) -> Outcome | None:
    """What is to be done about the annotation that the kit knows; None: it knows of none."""
    if memory is not None:
        number, stored, then = memory.annotation, memory.stored, memory.updated_at
    elif base is not None:
        number, stored, then = base.id, base.content, base.updated_at
    else:
        return None
    since = "since it was merged from this kit" if memory else "since the kit was packed"
    now = next((one for one in server if one.id == number), None)
    if now is None:
        return Outcome(0, "conflict", number, f"was deleted {since}", then)
    found = content_hash(now.result)
    if found == content or (found == stored and memory is not None and memory.sent == content):
        return Outcome(0, "nothing", number, THERE, then, now.updated_at)
    if found == stored:
        return Outcome(0, "update", number, "", then, now.updated_at)
    return Outcome(0, "conflict", number, f"was changed {since}", then, now.updated_at)


class _Merger:
    """One merge."""

    def __init__(self, kit: Kit, site: FieldSite, options: MergeOptions) -> None:
        self._kit = kit
        self._site = site
        self._options = options
        self._project = Project.of(kit.config())
        self._journal = Journal(kit.root / WORK / MEMORY)
        self._memory = {one.task: one for one in self._remembered()}

    def outcomes(self) -> Iterator[Outcome]:
        """One for each task that was worked on."""
        kit = self._kit
        begun = [task for task in kit.manifest.tasks if (kit.work(task.id) / NAME).exists()]
        numbers = [task.id for task in begun]
        asked = self._site.tasks(kit.manifest.source.project, numbers) if numbers else iter(())
        there = {task.id: task for task in asked}
        for task in sorted(begun, key=lambda task: task.id):
            yield self._outcome(task, there.get(task.id))

    def _outcome(self, task: PackedTask, there: DrawnTask | None) -> Outcome:
        kit = self._kit
        given = starting_objects(kit, task, self._project)
        work = Work(Journal(kit.work(task.id) / NAME), given)
        packed = kit.content(task)
        wanted = merged_result(kit, task, self._project, work, self._options.shapes)
        same = content_hash(wanted) == content_hash(packed.result(task.chosen))
        if same and task.id not in self._memory:
            return Outcome(task.id, "nothing", task.chosen, "nothing was changed")
        if there is None:
            return Outcome(task.id, "conflict", None, "the project has no such task any more")
        if there.data != packed.data:
            return Outcome(task.id, "conflict", None, "the task's data are others than when it was packed")
        return self._merge(task, wanted, [one.id for one in work.now.objects.values() if not one.given])

    def _merge(self, task: PackedTask, wanted: list[Any], new_ids: list[str]) -> Outcome:
        """Look once more, right before anything is written."""
        try:
            server = self._site.annotations(task.id)
        except LabelStudioError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return Outcome(task.id, "conflict", None, "the task is not there any more")
        made = decide(task.base, self._memory.get(task.id), wanted, new_ids, server)
        outcome = Outcome(**{**asdict(made), "task": task.id})
        if outcome.what == "conflict" and self._options.as_new:
            why = f"beside {outcome.annotation}, which {outcome.why}"
            outcome = Outcome(task.id, "create", None, why, outcome.packed_at, outcome.server_at)
        if self._options.dry_run or outcome.what not in ("create", "update"):
            return outcome
        if outcome.what == "create":
            stored = self._site.create_annotation(task.id, wanted)
        else:
            assert outcome.annotation is not None
            stored = self._site.update_annotation(outcome.annotation, wanted)
        self._remember(task, wanted, stored)
        return Outcome(**{**asdict(outcome), "annotation": stored.id, "server_at": stored.updated_at})

    def _remember(self, task: PackedTask, wanted: list[Any], stored: StoredAnnotation) -> None:
        noted = Merged(
            task=task.id,
            annotation=stored.id,
            sent=content_hash(wanted),
            stored=content_hash(stored.result),
            updated_at=stored.updated_at,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._journal.add(noted.model_dump(mode="json"))
        self._memory[task.id] = noted

    def _remembered(self) -> Iterator[Merged]:
        for line in self._journal.read():
            try:
                yield Merged.model_validate(line)
            except ValidationError as error:
                problem = "was written by another version of this program"
                raise InputError(str(self._journal.path), problem) from error
