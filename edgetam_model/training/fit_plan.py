"""What a fit would do, said beforehand: with which annotations, from where, how long. No torch, no media."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from edgetam_model.errors import InputError, WeightsError
from edgetam_model.training.annotations import AnnotatedTask, BoxShape
from edgetam_model.training.fit_folder import digest
from edgetam_model.training.fit_needs import Measuring, Needs, config_of, needs
from edgetam_model.training.fit_options import FitJob, FitOptions, TooFewError
from edgetam_model.training.judging import Rules
from edgetam_model.training.manifest import Changes, Manifest
from edgetam_model.training.splits import Split, SplitOptions, split_tasks
from edgetam_model.training.version_files import read_manifest
from edgetam_model.training.version_store import VersionStore
from edgetam_model.training.versions import BASE, VersionName, VersionRecord

BOXES_ALONE = "images and videos with boxes alone, which give no masks"
LEAST_HELD_OUT = Rules().least_tasks  # groups; by fewer nobody could tell what is better
# Of the weights, where nobody says: at least, at most, and for each mask to learn from. With 90 masks of a
# domain that was new to `nano`, 60 updates taught most of what there was.
UPDATES = (60, 240)
UPDATES_PER_MASK = 1


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Attributes:
        serving: the project's current version, None where there is none.
        weights: else these, as `load_model` takes them.
    """

    serving: VersionName | None
    weights: str

    @property
    def label(self) -> str:
        """What serves the project then, as its pointer has it."""
        return self.serving.label if self.serving else BASE

    def __str__(self) -> str:
        return str(self.serving or self.weights)

    def file(self, store: VersionStore) -> str | Path:
        """For `load_model`.

        Raises:
            WeightsError: the version that serves is damaged.
        """
        return store.weights_file(self.serving) if self.serving else self.weights


@dataclass(frozen=True)
class FitPlan:
    """What a fit would do.

    Attributes:
        project: whose model.
        options: as asked.
        updates: of the weights.
        start: where the training begins.
        split: tasks with masks, each part by id.
        ignored: what is left out and how often, in words.
        changes: since the version that serves, or the newest one; None where there is none.
        unchanged: a version that was made of the same data in the same way; there is nothing to do.
        problem: why there is too little to learn from, "" where there is enough.
        needs: time and memory.
    """

    project: str
    options: FitOptions
    updates: int
    start: Start
    split: Split
    ignored: Mapping[str, int]
    changes: Changes | None
    unchanged: VersionName | None
    problem: str
    needs: Needs

    @property
    def tasks(self) -> tuple[AnnotatedTask, ...]:
        """Those to learn from, then those to measure on."""
        return self.split.train + self.split.held_out

    @property
    def manifest(self) -> Manifest:
        """Of the tasks, before any media are opened."""
        return Manifest.of(self.split, split_options(self.project), self.ignored)

    def facts(self) -> dict[str, JsonValue]:
        """What tells this fit from others of the project."""
        return facts_of(self.manifest, self.options, self.updates, self.start.weights)

    def check(self) -> None:
        """Go on only where there is enough.

        Raises:
            TooFewError: there is not, with what there is and what is needed.
        """
        if self.problem:
            raise TooFewError("annotations", self.problem)

    def sentences(self) -> tuple[str, ...]:
        """The plan for people, a line each."""
        split, masks = self.split, sum(map(mask_count, self.tasks))
        there = f"{_media(self.tasks)} with {_count(masks, 'mask')}"
        parts = f"{len(split.train)} to learn from, {len(split.held_out)} to measure on"
        lines = [f"{self.project}: {there}; {parts}" if masks else f"{self.project}: no masks yet"]
        lines += [f"left out: {count} {what}" for what, count in self.ignored.items()]
        if self.changes is not None and self.changes.count:
            new, redrawn, gone = map(len, (self.changes.added, self.changes.changed, self.changes.removed))
            lines.append(f"since the last version: {new} new, {redrawn} drawn anew, {gone} gone")
        if self.problem:
            return (*lines, f"too few: {self.problem}")
        if self.unchanged:
            return (*lines, f"nothing has changed since {self.unchanged}")
        lines.append(f"training: from {self.start}, {self.options.mode} mode, {self.updates} updates")
        lines.append(f"needs: {self.needs}")
        return tuple(lines)

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain values for JSON."""
        return {
            "project": self.project,
            "mode": self.options.mode,
            "updates": self.updates,
            "start": str(self.start),
            "tasks": len(self.tasks),
            "train": len(self.split.train),
            "held_out": len(self.split.held_out),
            "masks": sum(map(mask_count, self.tasks)),
            "ignored": dict(self.ignored),
            "changes": None if self.changes is None else self.changes.model_dump(mode="json"),
            "unchanged_since": str(self.unchanged) if self.unchanged else None,
            "problem": self.problem,
            "seconds": self.needs.seconds,
            "measuring_seconds": self.needs.measuring,
            "memory_mb": self.needs.memory_mb,
        }


def plan_fit(job: FitJob) -> FitPlan:
    """Look at a job without opening its media or loading its model.

    Raises:
        InputError: two tasks of one id.
        WeightsError: the version that serves the project, or its pointer, is damaged.
    """
    usable = [task for task in job.found.tasks if mask_count(task)]
    _check_ids(usable)
    boxed = len(job.found.tasks) - len(usable)
    ignored = dict(job.found.ignored) | ({BOXES_ALONE: boxed} if boxed else {})
    options = split_options(job.project)
    parted = split_tasks(sorted(usable, key=lambda task: task.id), options)
    start = _start(job)
    updates = job.options.updates or _updates(parted.train)
    manifest = Manifest.of(parted, options, ignored)
    facts = facts_of(manifest, job.options, updates, start.weights)
    measured = Measuring.of(parted.held_out, serving=start.serving is not None)
    return FitPlan(
        project=job.project,
        options=job.options,
        updates=updates,
        start=start,
        split=parted,
        ignored=ignored,
        changes=_changes(job, manifest, start.serving),
        unchanged=made_of(facts, job.store, job.project, start.serving),
        problem=too_few(parted, job.options.minimum, ignored),
        needs=needs(config_of(start.file(job.store)), job.options.mode, updates, measured),
    )


def split_options(project: str) -> SplitOptions:
    """How a project's tasks are parted."""
    return SplitOptions(salt=project, least=LEAST_HELD_OUT)


def facts_of(manifest: Manifest, options: FitOptions, updates: int, weights: str) -> dict[str, JsonValue]:
    """A fit's data and way, for its version's config: two of the same and with the same start end alike."""
    tasks: JsonValue = [[task.id, task.part, task.sha256] for task in manifest.tasks]
    return {"data": digest(tasks), "mode": options.mode, "updates": updates, "weights": weights}


def made_of(
    facts: Mapping[str, JsonValue], store: VersionStore, project: str, serving: VersionName | None
) -> VersionName | None:
    """The newest version with these facts that is what serves, or began there; None where there is none."""
    for name in reversed(store.names(project)):
        record = _record(store, name)
        if record is None or any(record.config.get(key) != value for key, value in facts.items()):
            continue
        if serving in (name, record.parent_version):
            return name
    return None


def too_few(split: Split, minimum: int, ignored: Mapping[str, int]) -> str:
    """Why this is not enough, for people; "" where it is.

    Args:
        split: tasks with masks.
        minimum: how many there must be.
        ignored: what was left out.
    """
    count = len(split.train) + len(split.held_out)
    if count < minimum:
        rest = "; left out: " + ", ".join(f"{n} {what}" for what, n in ignored.items()) if ignored else ""
        return f"expected at least {minimum} images or videos with masks, found {count or 'none'}{rest}"
    if not split.train:
        return f"all {count} images and videos happen to be kept to measure on; annotate some more"
    if not split.held_out:
        return f"all {count} belong together, and nothing else is there to measure on; annotate another video"
    return ""


def mask_count(task: AnnotatedTask) -> int:
    """How many masks were drawn in a task; rectangles are none."""
    return sum(not isinstance(seen.shape, BoxShape) for each in task.objects for seen in each.sightings)


def _start(job: FitJob) -> Start:
    weights = job.weights or os.environ.get("EDGETAM_WEIGHTS") or "auto"
    return Start(job.store.current_of(job.project), weights)


def _updates(train: Sequence[AnnotatedTask]) -> int:
    """Enough to see everything often, and no more than it takes to get over it."""
    low, high = UPDATES
    return max(low, min(high, UPDATES_PER_MASK * sum(map(mask_count, train))))


def _check_ids(tasks: Sequence[AnnotatedTask]) -> None:
    seen: set[str] = set()
    for task in tasks:
        if task.id in seen:
            raise InputError("annotations", f"expected each task once, got {task.id!r:.100} twice")
        seen.add(task.id)


def _changes(job: FitJob, manifest: Manifest, serving: VersionName | None) -> Changes | None:
    names = job.store.names(job.project)
    if not names:
        return None
    earlier = _manifest(job.store, serving or names[-1])
    return None if earlier is None else manifest.since(earlier)


def _manifest(store: VersionStore, name: VersionName) -> Manifest | None:
    """A version's manifest; None where it has none, or none of this release."""
    try:
        return Manifest.model_validate(read_manifest(store.get(name)), strict=False)
    except (WeightsError, InputError, ValueError):
        return None


def _record(store: VersionStore, name: VersionName) -> VersionRecord | None:
    """A version's facts; None where they cannot be read, or it was deleted meanwhile."""
    try:
        return store.get(name).record
    except (WeightsError, InputError):
        return None


def _media(tasks: Sequence[AnnotatedTask]) -> str:
    videos = sum(task.kind == "video" for task in tasks)
    parts = [_count(number, kind) for number, kind in ((len(tasks) - videos, "image"), (videos, "video"))]
    return " and ".join(part for part in parts if not part.startswith("0 ")) or "nothing"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
