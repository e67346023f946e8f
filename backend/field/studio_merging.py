"""What a kit brings back to Label Studio: a task's annotation, once, over nothing that others did since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from backend.field.content import KnownAnnotation, TaskContent, content_hash, region_ids
from backend.field.manifest import Frozen, Sha256
from backend.field.regions_out import OutOptions, merged_result
from backend.field.site import FieldSite, StoredAnnotation
from backend.field.starting import Project
from backend.label_studio import LabelStudioError
from backend.label_studio_records import DrawnTask
from edgetam_model import InputError
from edgetam_model.field_places import FieldWork, Outcome, Return

THERE = "stands there already"


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


def merge(site: FieldSite, home: Return, shapes: OutOptions) -> Iterator[Outcome]:
    """Bring back every task that somebody worked on, in the order of their ids.

    Raises:
        InputError: a damaged kit.
        LabelStudioError: refused, or not reached; what was merged before stays, and is known next time.
    """
    return _Merger(site, home, shapes).outcomes()


def decide(
    base: KnownAnnotation | None,
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
    base: KnownAnnotation | None, memory: Merged | None, content: str, server: Sequence[StoredAnnotation]
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

    def __init__(self, site: FieldSite, home: Return, shapes: OutOptions) -> None:
        self._site = site
        self._home = home
        self._shapes = shapes
        self._project = Project.read(home.project)
        self._memory = {one.task: one for one in self._remembered()}

    def outcomes(self) -> Iterator[Outcome]:
        """One for each task that was worked on."""
        numbers = [work.task.id for work in self._home.works]
        asked = self._site.tasks(self._home.number, numbers) if numbers else iter(())
        there = {task.id: task for task in asked}
        for work in self._home.works:
            yield self._outcome(work, there.get(work.task.id))

    def _outcome(self, work: FieldWork, there: DrawnTask | None) -> Outcome:
        number, packed = work.task.id, TaskContent.of(work.task)
        wanted = merged_result(work, self._project, self._shapes)
        if content_hash(wanted) == content_hash(packed.result) and number not in self._memory:
            return Outcome(number, "nothing", packed.base.id if packed.base else None, "nothing was changed")
        if there is None:
            return Outcome(number, "conflict", None, "the project has no such task any more")
        if there.data != packed.data:
            return Outcome(number, "conflict", None, "the task's data are others than when it was packed")
        return self._merge(packed, wanted, [one.id for one in work.now.values() if not one.given])

    def _merge(self, packed: TaskContent, wanted: list[Any], new_ids: list[str]) -> Outcome:
        """Look once more, right before anything is written."""
        task, options = packed.id, self._home.options
        try:
            server = self._site.annotations(task)
        except LabelStudioError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return Outcome(task, "conflict", None, "the task is not there any more")
        made = decide(packed.base, self._memory.get(task), wanted, new_ids, server)
        outcome = replace(made, task=task)
        if outcome.what == "conflict" and options.as_new:
            why = f"beside {outcome.annotation}, which {outcome.why}"
            outcome = Outcome(task, "create", None, why, outcome.packed_at, outcome.server_at)
        if options.dry_run or outcome.what not in ("create", "update"):
            return outcome
        if outcome.what == "create":
            stored = self._site.create_annotation(task, wanted)
        else:
            assert outcome.annotation is not None
            stored = self._site.update_annotation(outcome.annotation, wanted)
        self._remember(task, wanted, stored)
        return replace(outcome, annotation=stored.id, server_at=stored.updated_at)

    def _remember(self, task: int, wanted: list[Any], stored: StoredAnnotation) -> None:
        noted = Merged(
            task=task,
            annotation=stored.id,
            sent=content_hash(wanted),
            stored=content_hash(stored.result),
            updated_at=stored.updated_at,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._home.memory.add(noted.model_dump(mode="json"))
        self._memory[task] = noted

    def _remembered(self) -> Iterator[Merged]:
        for line in self._home.memory.read():
            try:
                yield Merged.model_validate(line)
            except ValidationError as error:
                raise InputError("kit", "a merge was noted by another version of this program") from error
