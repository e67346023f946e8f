"""What Label Studio's API gives and takes, as frozen records; fields that nobody here needs are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Record(BaseModel):
    """Something that came from Label Studio."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class StoredPrediction(Record):
    """A prediction as Label Studio keeps it."""

    id: int
    task: int
    model_version: str | None = None
    score: float | None = None
    result: Any = None


class Task(Record):
    """A task with everything that hangs on it."""

    id: int
    data: dict[str, Any]
    project: int | None = None
    annotations: tuple[dict[str, Any], ...] = ()
    predictions: tuple[dict[str, Any], ...] = ()
    drafts: tuple[dict[str, Any], ...] = ()


class DrawnTask(Record):
    """A task as far as one learns from it."""

    id: int
    data: dict[str, Any]
    annotations: tuple[dict[str, Any], ...] = ()


class DrawnTasks(Record):
    """A page of the annotated tasks of a project, and how many there are on all pages."""

    total: int
    tasks: tuple[DrawnTask, ...]


class Project(Record):
    """A project and its label config."""

    id: int
    title: str | None = None
    label_config: str | None = None
    task_number: int | None = None
    total_annotations_number: int | None = None


class Backend(Record):
    """An ML backend as a project knows it; state CO is connected, DI disconnected, ER in error."""

    id: int
    url: str
    project: int | None = None
    title: str | None = None
    state: str | None = None
    error_message: str | None = None
    is_interactive: bool = False


class Webhook(Record):
    """A webhook of a project. `headers` may hold passwords, and are not shown."""

    id: int
    url: str
    project: int | None = None
    is_active: bool = True
    send_for_all_actions: bool = True
    actions: tuple[str, ...] = ()
    headers: dict[str, str] = Field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class NewPrediction:
    """A prediction to be stored.

    Attributes:
        result: regions in Label Studio's JSON.
        score: 0 to 1, what the Data Manager sorts by.
        model_version: predictions of one task with the same version replace each other.
    """

    result: Sequence[Mapping[str, Any]]
    score: float
    model_version: str


@dataclass(frozen=True)
class NewBackend:
    """An ML backend to be attached; user and password are what its server asks for, if anything."""

    url: str
    title: str = "EdgeTAM"
    is_interactive: bool = True
    user: str | None = None
    password: SecretStr | None = None
