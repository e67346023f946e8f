"""Fine-tuned versions of a project: names, records, and the rules about them. No torch, no disk."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from edgetam_model.errors import InputError

BASE = "base"
"""What serves a project without a current version: the weights that everybody gets."""

WEIGHTS_NAMES = frozenset({"auto", "default", "edgetam", "untrained"})  # a project may not hide them

Status = Literal["current", "promoted", "candidate"]
"""It serves now; it did once; it never did."""

_PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")  # a folder on any file system
_LABEL = re.compile(r"v([0-9]{4,9})")


@dataclass(frozen=True, order=True)
class VersionName:
    """A version as people and `load_model` call it, such as `project-7/v0003`.

    Attributes:
        project: 1 to 64 of a-z, 0-9, dot, dash and underscore, with a letter or digit at both ends.
        number: from 1; a project never uses one twice.

    Raises:
        InputError: another project name or number.
    """

    project: str
    number: int

    def __post_init__(self) -> None:
        check_project(self.project)
        if not 1 <= self.number < 10**9:
            raise InputError("version", f"expected a number from 1 to 999999999, got {self.number}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `PROJECT/vNNNN`, the one way to write it.

        Raises:
            InputError: anything else.
        """
        project, _, label = text.partition("/")
        match = _LABEL.fullmatch(label)
        if match is None or label != _label(int(match[1])):
            raise InputError("version", f"expected PROJECT/vNNNN, such as project-7/v0003, got {text!r}")
        return cls(project, int(match[1]))

    @property
    def label(self) -> str:
        """The part behind the slash, and the name of the folder."""
        return _label(self.number)

    def __str__(self) -> str:
        return f"{self.project}/{self.label}"


def check_project(name: str) -> str:
    """The name itself, if a project may have it.

    Raises:
        InputError: other characters, too long, or a name that `load_model` knows already.
    """
    if not _PROJECT.fullmatch(name):
        raise InputError(
            "project",
            "expected up to 64 of a-z, 0-9, dot, dash and underscore between letters or digits, "
            f"got {name!r}",
        )
    if name in WEIGHTS_NAMES:
        raise InputError("project", f"{name!r} is the name of weights")
    return name


@dataclass(frozen=True)
class NewVersion:
    """What a training hands over.

    Attributes:
        weights: a file of `save_weights`; it is copied.
        parent: where the training began: a version of the same project, or the name of other weights
            (`model.weights_info.name`).
        config: how it was trained, as plain JSON values.
        manifest: which annotations it saw, with their hashes, as plain JSON values.
        metrics: what it reached, as plain JSON values; numbers on the first level show in lists.
        report: folder of pages and pictures to keep with it; it is copied.
    """

    weights: Path
    parent: str
    config: Mapping[str, JsonValue] = field(default_factory=dict)
    manifest: JsonValue = None
    metrics: Mapping[str, JsonValue] = field(default_factory=dict)
    report: Path | None = None


class _Record(BaseModel):
    """What a file on disk says is checked once, and then fixed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class VersionRecord(_Record):
    """`version.json`: the facts of one version.

    Attributes:
        format_version: of this record.
        name: as `VersionName` writes it.
        kind: what `weights.safetensors` holds. "full": every entry of the model. A low-rank adapter will be
            a kind of its own, over the weights of `parent`; a release that does not know a kind refuses it.
        parent: where the training began, see `NewVersion`.
        created: when.
        fingerprint: SHA-256 over the model's config and tensors, as `WeightsInfo` has it.
        config: how it was trained.
        metrics: what it reached.
    """

    format_version: Literal[1] = 1
    name: str
    kind: Literal["full"] = "full"
    parent: str
    created: AwareDatetime
    fingerprint: str
    config: dict[str, JsonValue]
    metrics: dict[str, JsonValue]

    @property
    def parent_version(self) -> VersionName | None:
        """The parent, where it is a version; None for other weights."""
        return VersionName.parse(self.parent) if "/" in self.parent else None


_Served = Annotated[str, Field(pattern=r"^(base|v[0-9]{4,9})$")]


class Switch(_Record):
    """One change of what serves a project.

    Attributes:
        time: when.
        before: what served, such as "v0002", or "base".
        after: what serves from then on.
        how: which command it was.
        why: for people.
    """

    time: AwareDatetime
    before: _Served
    after: _Served
    how: Literal["promote", "rollback"]
    why: str = ""


class ProjectState(_Record):
    """`current.json`: what serves a project, and everything that ever did.

    Attributes:
        format_version: of this record.
        newest: highest number that a deleted version had; it is not given again.
        switches: oldest first. It only grows, so that two states never have files of one size.
    """

    format_version: Literal[1] = 1
    newest: int = Field(default=0, ge=0)
    switches: tuple[Switch, ...] = ()

    @property
    def current(self) -> str:
        """What serves now, such as "v0003", or "base"."""
        return self.switches[-1].after if self.switches else BASE

    def status(self, name: VersionName) -> Status:
        """What a version of this project is."""
        if name.label == self.current:
            return "current"
        return "promoted" if any(switch.after == name.label for switch in self.switches) else "candidate"


@dataclass(frozen=True)
class VersionRow:
    """One line of `edgetam versions list`.

    Attributes:
        name: of the version.
        status: whether it serves, did, or never did.
        size: bytes on disk.
        record: its facts, None where they cannot be read.
        problem: why not, "" where they can.
    """

    name: VersionName
    status: Status
    size: int
    record: VersionRecord | None = None
    problem: str = ""


@dataclass(frozen=True)
class Retention:
    """How much of a project is kept. What serves and its parent always are.

    Attributes:
        candidates: how many versions that never served, the newest.
        promoted: how many that serve or did, the newest.
        total_bytes: of all versions of the project together; the oldest go first, candidates before promoted.

    Raises:
        InputError: a negative number.
    """

    candidates: int = 3
    promoted: int = 5
    total_bytes: int = 10 * 2**30

    def __post_init__(self) -> None:
        for name in ("candidates", "promoted", "total_bytes"):
            if getattr(self, name) < 0:
                raise InputError(name, f"expected 0 or more, got {getattr(self, name)}")


def surplus(
    rows: Sequence[VersionRow], protected: Collection[VersionName], retention: Retention
) -> tuple[VersionName, ...]:
    """Which versions the rules give up, oldest first; never a protected one."""
    newest_first = sorted(rows, key=lambda row: row.name, reverse=True)
    candidates = [row for row in newest_first if row.status == "candidate"]
    promoted = [row for row in newest_first if row.status != "candidate"]
    too_many = candidates[retention.candidates :] + promoted[retention.promoted :]
    gone = {row.name for row in too_many if row.name not in protected}
    size = sum(row.size for row in rows if row.name not in gone)
    for row in (*reversed(candidates), *reversed(promoted)):
        if size > retention.total_bytes and row.name not in gone and row.name not in protected:
            gone.add(row.name)
            size -= row.size
    return tuple(sorted(gone))


def _label(number: int) -> str:
    return f"v{number:04d}"
