"""One /predict request: every task to the service that can answer it, and their answers back in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import SecretStr

from backend.jobs import QueueFull, QueueUnavailable
from backend.label_config import LabelConfig, parse_label_config
from backend.loading import ModelNotReady
from backend.predictions import Prediction
from backend.project_models import ProjectModels, Serving
from backend.protocol import KnownProject, PredictRequest, Projects, id_of
from edgetam_model import EdgeTAMError, InputError

BATCH_SECONDS = 80.0  # of all tasks together; Label Studio gives up after 100
SERVICE = (QueueFull, QueueUnavailable, ModelNotReady)  # what is no task's own fault
log = logging.getLogger(__name__)


class ImageAnswers(Protocol):
    """What is needed of `ImageService`."""

    def answer(
        self,
        task: Mapping[str, Any],
        context: Any,
        config: LabelConfig,
        serving: Serving,
        *,
        hostname: str | None = None,
        token: SecretStr | None = None,
        deadline: float | None = None,
    ) -> Prediction | None: ...


class VideoAnswers(Protocol):
    """What is needed of `VideoRequests`."""

    def answer(
        self,
        task: Mapping[str, Any],
        context: Any,
        config: LabelConfig,
        serving: Serving,
        *,
        hostname: str | None,
        interactive: bool,
    ) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Answers:
    """Answers /predict.

    Attributes:
        images, video: who answers.
        projects: what the projects said of themselves.
        models: of the projects.
    """

    images: ImageAnswers
    video: VideoAnswers
    projects: Projects
    models: ProjectModels

    def predict(self, request: PredictRequest) -> dict[str, Any]:
        """The body of the answer: one result per task, in their order; none at all where no task has one.

        All of an answer comes from the weights that served when it was asked for.

        In a batch a task that cannot be answered gets an empty list, and a line in the log.

        Raises:
            InputError: the config is wrong; or, in an interactive request, the task or what was drawn on it.
            QueueFull, QueueUnavailable, ModelNotReady: the service cannot answer now.
        """
        known = self.projects.of(request.project)
        text = request.label_config or known.label_config
        if not request.tasks:
            return {"results": []}
        if not text:
            raise InputError("label_config", "expected the project's labeling config")
        config = parse_label_config(text)
        serving = self.models.serving(request.project_id)
        asked = _Asked(request.context, config, known, serving, time.monotonic() + BATCH_SECONDS)
        if request.context is None:
            return _response(self._batch(request, asked))
        if len(request.tasks) != 1:
            raise InputError("tasks", f"expected one task with a context, got {len(request.tasks)}")
        return _response([self._task(request.tasks[0], asked)])

    def _batch(self, request: PredictRequest, asked: _Asked) -> list[Any]:
        entries: list[Any] = []
        failed: EdgeTAMError | None = None
        for number, task in enumerate(request.tasks):
            if time.monotonic() > asked.deadline:
                log.warning("%d tasks are left out: the time is up", len(request.tasks) - number)
                return entries + [[] for _ in request.tasks[number:]]
            entry: Any = []
            try:
                entry = self._task(task, asked)
            except SERVICE as error:
                failed = failed or error
                log.warning("task %s is left out: %s", id_of(task), error)
            except EdgeTAMError as error:
                log.warning("task %s is left out: %s", id_of(task), error)
            except (RuntimeError, MemoryError):  # of the model's machine: no memory left, a lost device
                log.exception("task %s is left out", id_of(task))
            entries.append(entry)
        if failed is not None and not any(entries):
            raise failed
        return entries

    def _task(self, task: Mapping[str, Any], asked: _Asked) -> Any:
        """A task's entry in the results; an empty list: there is nothing to say about it."""
        if asked.config.images:
            found = self.images.answer(
                task,
                asked.context,
                asked.config,
                asked.serving,
                hostname=asked.project.hostname,
                token=asked.project.token,
                deadline=asked.deadline,
            )
            if found is not None:
                return found.to_json()
        if asked.config.video is None:
            return []
        answer = self.video.answer(
            task,
            asked.context,
            asked.config,
            asked.serving,
            hostname=asked.project.hostname,
            interactive=asked.context is not None,
        )
        return next(iter(answer.get("results", [])), [])


@dataclass(frozen=True)
class _Asked:
    """What holds for all tasks of a request. `deadline`: on the monotonic clock."""

    context: Any
    config: LabelConfig
    project: KnownProject
    serving: Serving
    deadline: float


def _response(entries: list[Any]) -> dict[str, Any]:
    """An empty entry stores nothing; where all are empty, no results are what Label Studio takes best."""
    return {"results": entries if any(entries) else []}
