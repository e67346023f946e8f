"""What a fit is asked to do, who listens to it, and what comes of it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import JsonValue

from edgetam_model.errors import EdgeTAMError, InputError
from edgetam_model.training.annotations import AnnotationSet
from edgetam_model.training.task_clips import OpenMedia
from edgetam_model.training.versions import Retention, VersionName, check_project

if TYPE_CHECKING:  # recipes load torch
    from edgetam_model.training.fit_recipe import Mode
    from edgetam_model.training.version_store import VersionStore

MODES: tuple[Mode, ...] = ("adapter", "decoder", "full")

FITS = "fits"  # folder of trainings under way, beside the folder of versions
# Other pictures for each object. Cells that hardly show, learned rightly: 4.7 standard errors better on their
# own picture than on three others, 3.8 than on one; learned from masks of other pictures: 0.4 and −1.6.
OTHER_PICTURES = 3
MOST_FRAMES = 150  # of a held-out video, over which an object is followed


class TooFewError(InputError):
    """There is not enough to learn from and to measure on."""


class FitBusyError(EdgeTAMError):
    """Another process or thread is fitting this project."""


@dataclass(frozen=True)
class FitOptions:
    """How a model learns from annotations.

    Attributes:
        mode: what of it may change: "adapter" (low-rank additions, the safest), "decoder" or "full".
        updates: of the weights; None: as many as the data seem to want.
        minimum: images and videos with masks that there must be.
        promote: let the new version serve where it is better; otherwise it stays a candidate in any case.
        retention: what is kept of the project's versions afterwards.

    Raises:
        InputError: another mode, or numbers that are too small.
    """

    mode: Mode = "adapter"
    updates: int | None = None
    minimum: int = 8
    promote: bool = True
    retention: Retention = field(default_factory=Retention)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError("mode", f"expected one of {', '.join(MODES)}, got {self.mode!r}")
        if self.updates is not None and self.updates < 1:
            raise InputError("updates", f"expected at least 1, got {self.updates}")
        if self.minimum < 2:
            raise InputError(
                "minimum", f"expected at least 2, one to learn from and one to measure on, got {self.minimum}"
            )


@dataclass(frozen=True)
class FitJob:
    """Which annotations a project's model is to learn from.

    Attributes:
        project: its versions are called by this, as in project-7/v0003.
        found: what the team drew.
        media: opens the image or video of a task.
        work: folder of trainings under way; see `FITS`.
        store: where versions live.
        options: how.
        weights: where the first version begins, as `load_model` takes it; later ones go on from what serves.
        device: as `load_model` takes it.

    Raises:
        InputError: not a project's name.
    """

    project: str
    found: AnnotationSet
    media: OpenMedia
    work: Path
    store: VersionStore
    options: FitOptions = FitOptions()
    weights: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        check_project(self.project)


class FitListener(Protocol):
    """Who is told how far a fit is, and may end it; a job of the queue is one."""

    def progress(self, done: float, total: float, note: str) -> None:
        """So much of `total` is done, and what goes on in plain words."""

    def cancelled(self) -> bool:
        """Whether to save and stop; asked after every update and every clip."""


@dataclass(frozen=True)
class FitOutcome:
    """How a fit ended.

    Attributes:
        finished: False where it was cancelled; the same job goes on from there.
        version: the new version; None where there is none.
        promoted: whether it serves now.
        reasons: why, in sentences for people.
        metrics: what the version's record says.
    """

    finished: bool
    version: VersionName | None = None
    promoted: bool = False
    reasons: tuple[str, ...] = ()
    metrics: Mapping[str, JsonValue] = field(default_factory=dict)
