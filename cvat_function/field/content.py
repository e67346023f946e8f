"""A CVAT task as it lies in a kit, with all that is drawn in its jobs. No SDK, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from pydantic import ValidationError

from cvat_function.shapes import TYPES
from cvat_function.video.records import Annotations, Label, LabeledShape, Record, Track
from edgetam_model import InputError
from edgetam_model.field_places import FieldTask

Drawing = Track | LabeledShape


class PackedJob(Record):
    """A job and what was drawn in it, with the server's ids.

    Attributes:
        frames: those that there are, as the task counts them, ascending; deleted ones are left out.
    """

    id: int
    frames: tuple[int, ...]
    annotations: Annotations

    @cached_property
    def holds(self) -> frozenset[int]:
        """The same frames, to look them up."""
        return frozenset(self.frames)


class TaskContent(Record):
    """A task, or a stretch of it.

    Attributes:
        frames: those that were packed, as the task counts them, ascending.
        jobs: that they lie in.
    """

    task: int
    frames: tuple[int, ...]
    jobs: tuple[PackedJob, ...]

    @classmethod
    def of(cls, task: FieldTask) -> Self:
        """What a kit's task holds.

        Raises:
            InputError: it is damaged.
        """
        try:
            return cls.model_validate_json(task.content)
        except ValidationError as error:
            raise InputError(f"task {task.id}", "is not the content of a CVAT task") from error


class Labels(Record):
    """The classes of a task."""

    labels: tuple[Label, ...]

    @classmethod
    def read(cls, text: str) -> Self:
        """From a kit's own file.

        Raises:
            InputError: it is damaged.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InputError("kit", "its list of labels is damaged") from error

    @cached_property
    def by_id(self) -> dict[int, Label]:
        """By the server's number."""
        return {label.id: label for label in self.labels}

    def named(self, names: Sequence[str]) -> Label:
        """The label of an object; the first that new ones may have, where it has none.

        Raises:
            InputError: there is no such label.
        """
        found = [one for one in self.labels if one.name in names] if names else self.drawable
        if not found:
            raise InputError("labels", f"the task has no label {', '.join(names) or 'for what is drawn'}")
        return found[0]

    @property
    def drawable(self) -> list[Label]:
        """Those that the field page's shapes may have."""
        kinds = ("any", *TYPES)
        return [label for label in self.labels if label.type in kinds and not label.has_parent]


@dataclass(frozen=True)
class Place:
    """Which of a kit's objects an annotation is.

    Attributes:
        id: of the object: "31/track:7".
    """

    job: int
    drawing: Drawing

    @property
    def id(self) -> str:
        """The object's."""
        kind = "track" if isinstance(self.drawing, Track) else "shape"
        return f"{self.job}/{kind}:{self.drawing.id}"


def places(content: TaskContent) -> list[Place]:
    """Everything that was drawn, shapes before tracks, job by job."""
    found: list[Place] = []
    for job in content.jobs:
        found += [Place(job.id, shape) for shape in job.annotations.shapes]
        found += [Place(job.id, track) for track in job.annotations.tracks]
    return found
