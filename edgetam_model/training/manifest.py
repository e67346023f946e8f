"""What a version was trained on: which tasks and annotations, by id and hash. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgetam_model.errors import InputError
from edgetam_model.training.annotations import AnnotatedTask
from edgetam_model.training.splits import Split, SplitOptions

Part = Literal["train", "held_out"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ManifestTask(_Record):
    """One task: its part, the ids of its annotations, and a hash of what was drawn."""

    id: str
    group: str
    part: Part
    annotations: tuple[str, ...]
    objects: int = Field(ge=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Changes(_Record):
    """Ids of tasks that are new, were drawn anew, or are gone, since an earlier manifest."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many tasks differ."""
        return len(self.added) + len(self.changed) + len(self.removed)


class Manifest(_Record):
    """The data behind a version. Tasks are sorted by id: equal data make equal bytes.

    Attributes:
        salt, share, least: of the split.
        ignored: what was left out, and how often.
    """

    format: Literal["edgetam-manifest"] = "edgetam-manifest"
    version: Literal[1] = 1
    salt: str
    share: float
    least: int
    tasks: tuple[ManifestTask, ...]
    ignored: dict[str, int] = {}

    @classmethod
    def of(cls, split: Split, options: SplitOptions, ignored: Mapping[str, int]) -> Self:
        """The manifest of a split made with these options."""
        tasks = [_record(task, "train") for task in split.train]
        tasks += [_record(task, "held_out") for task in split.held_out]
        return cls(
            salt=options.salt,
            share=options.share,
            least=options.least,
            tasks=tuple(sorted(tasks, key=lambda task: task.id)),
            ignored=dict(sorted(ignored.items())),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            InputError: anything else, with the field named.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            raise InputError(".".join(map(str, first["loc"])) or "manifest", first["msg"]) from error

    def to_json(self) -> str:
        """One JSON document that people can read."""
        return self.model_dump_json(indent=1) + "\n"

    def since(self, earlier: Manifest) -> Changes:
        """What differs from an earlier manifest of the same project."""
        before = {task.id: task.sha256 for task in earlier.tasks}
        now = {task.id: task.sha256 for task in self.tasks}
        return Changes(
            added=tuple(name for name in now if name not in before),
            changed=tuple(name for name in now if name in before and now[name] != before[name]),
            removed=tuple(name for name in before if name not in now),
        )


def _record(task: AnnotatedTask, part: Part) -> ManifestTask:
    return ManifestTask(
        id=task.id,
        group=task.group,
        part=part,
        annotations=task.annotations,
        objects=len(task.objects),
        sha256=task.digest,
    )
