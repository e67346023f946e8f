"""A project's annotations as Label Studio tells them at one moment, kept for a training that goes on later.

A training may be interrupted many times, by more urgent jobs and by the end of its worker. It goes on with
the annotations that it began with: with those of each new moment it would begin anew each time.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from backend.fit_annotations import read_tasks
from backend.jobs import TryAgain
from backend.label_config import parse_label_config
from backend.label_studio import LabelStudio, LabelStudioError
from backend.settings import Settings
from edgetam_model import InputError
from edgetam_model.training.annotations import AnnotationSet, ReadOptions

NO_KEY = (
    "trainings read annotations from Label Studio: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY for "
    "every `edgetam worker`, and for `edgetam fit`"
)


@dataclass(frozen=True)
class Listing:
    """The annotated tasks of a project.

    Attributes:
        config: the project's labeling config; empty where it has none.
        tasks: objects with `id`, `data` and `annotations`.
    """

    config: str
    tasks: list[dict[str, Any]]

    @classmethod
    def ask(cls, site: LabelStudio, project: int) -> Self:
        """As it is now.

        Raises:
            LabelStudioError: no such project, or Label Studio refuses or is not there.
        """
        config = site.get_project(project).label_config or ""
        return cls(config, [task.model_dump() for task in site.drawn_tasks(project)])

    @classmethod
    def kept_at(cls, path: Path) -> Self | None:
        """As `keep` left it; None where there is nothing, or nothing whole."""
        try:
            found = json.loads(path.read_bytes())
            return cls(found["config"], found["tasks"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, path: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            InputError: the folder cannot be written.
        """
        part = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"config": self.config, "tasks": self.tasks}))
            part.replace(path)
        except OSError as error:
            raise InputError("MODEL_DIR", f"{path.parent} cannot be written: {error.strerror}") from error

    def read(self, options: ReadOptions | None = None) -> AnnotationSet:
        """What a model can learn from it.

        Raises:
            InputError: a labeling config that is none.
        """
        return read_tasks(self.tasks, parse_label_config(self.config) if self.config else None, options)


def configured_site(settings: Settings) -> LabelStudio:
    """The Label Studio of the settings.

    Raises:
        InputError: there is none, or no token for it.
    """
    site = LabelStudio.from_settings(settings)
    if site is None:
        missing = "LABEL_STUDIO_API_KEY" if settings.label_studio_url else "LABEL_STUDIO_URL"
        raise InputError(missing, NO_KEY)
    return site


def may_pass(error: LabelStudioError) -> bool:
    """Whether it is worth another try: Label Studio is not there, or has other troubles of its own."""
    return error.status is None or error.status == 429 or error.status >= 500


def ask_again_later(site: LabelStudio, project: int) -> Listing:
    """`Listing.ask` for a job.

    Raises:
        TryAgain: what may pass.
        LabelStudioError: what will not.
    """
    try:
        return Listing.ask(site, project)
    except LabelStudioError as error:
        if may_pass(error):
            raise TryAgain(str(error)) from error
        raise
