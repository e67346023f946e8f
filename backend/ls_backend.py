"""EdgeTAM for people who already run label-studio-ml: one class for its 1.0.9 and its 2.x.

Without it there is less to install: `edgetam serve` speaks the same protocol. Otherwise, a `model.py` for
`label-studio-ml init` needs one line:

    from backend.ls_backend import EdgeTAMBackend

Install 2.x, which is not in the package index, with

    pip install 'label-studio-ml @ git+https://github.com/HumanSignal/label-studio-ml-backend.git'

1.0.9, which is, pins a Flask that nothing else can live with; it runs with ours when its pins are ignored:

    pip install --no-deps label-studio-ml==1.0.9
    pip install colorama attrs label-studio-tools lxml appdirs requests

Both need 'edgetam-labeling[server]' beside them. Settings come from the environment, as for `edgetam serve`.
Videos need `edgetam worker` beside it, with the same REDIS_URL, or the same MODEL_DIR. 1.0.9 answers every
project by the labeling config of the one that was opened last, so it needs a server for each project. Tests
run the real 1.0.9; 2.x only in the shape of its base class.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from backend import events
from backend.fit_schedule import FitSchedule
from backend.protocol import EVENTS, PredictRequest, SetupRequest, WebhookRequest, id_of, project_id
from backend.settings import Settings
from edgetam_model import InputError

if TYPE_CHECKING:
    from backend.queue import JobQueue
    from backend.services import Services

try:
    from label_studio_ml.model import LabelStudioMLBase
except ImportError as error:
    raise ImportError(
        "EdgeTAMBackend needs label-studio-ml (`edgetam serve` does not): pip install "
        "'label-studio-ml @ git+https://github.com/HumanSignal/label-studio-ml-backend.git'"
    ) from error

PATIENCE = 1.0  # seconds that a request waits for a Redis that is away

_making = threading.RLock()  # the first requests may come at once, each on a thread of its own


def services() -> Services:
    """The services of this process, made when the first request needs them."""
    with _making:
        return _services()


def job_queue() -> JobQueue:
    """The job queue alone: 1.0.9 handles each event in a process of its own, which needs no model."""
    with _making:
        return _job_queue()


@functools.cache
def _services() -> Services:
    from backend.services import services_for

    services = services_for(_settings(), _job_queue())
    services.model.start()
    return services


@functools.cache
def _job_queue() -> JobQueue:
    from backend.services import queue_for

    held = ExitStack()
    atexit.register(held.close)
    queue, _ = held.enter_context(queue_for(_settings(), PATIENCE))
    return queue


def _settings() -> Settings:
    return Settings.from_env(os.environ)


class EdgeTAMBackend(LabelStudioMLBase):  # type: ignore[misc]  # the package has no types
    """What label-studio-ml serves. 2.x makes one for each request, 1.0.9 one for each project.

    Args:
        project_id: given by 2.x only.
        label_config: the project's.
        hostname, access_token: of Label Studio, given by 1.0.9 only.
        train_output, model_version: given by 1.0.9 only; not needed here.

    Attributes:
        TRAIN_EVENTS: what 1.0.9 calls `fit` for. Its own list lacks START_TRAINING, and ANNOTATIONS_DELETED
            as Label Studio spells it.
    """

    TRAIN_EVENTS = tuple(sorted(EVENTS))

    def __init__(
        self,
        project_id: str | None = None,
        label_config: str | None = None,
        hostname: str = "",
        access_token: str = "",
        train_output: object = None,  # noqa: ARG002
        model_version: object = None,  # noqa: ARG002
    ) -> None:
        self._config = label_config
        self._project = project_id or ""
        super().__init__(project_id=project_id, label_config=label_config)  # calls `setup`
        if hostname:
            token = SecretStr(access_token) if access_token else None
            known = SetupRequest(
                project=self._project, schema=label_config, hostname=hostname, access_token=token
            )
            services().projects.remember(known)

    def setup(self) -> None:
        """Called by 2.x: predictions are stored under this version."""
        self.set("model_version", services().models.serving(project_id(self._project)).version)

    def predict(self, tasks: Sequence[Any], context: Any = None, **_credentials: Any) -> list[Any]:
        """One result per task; none at all where there is nothing to say.

        Args:
            tasks: as Label Studio sends them.
            context: of an interactive request.
            _credentials: `login` and `password`, which nothing here needs.

        Raises:
            InputError: a wrong task or context, with the field named.
        """
        return answers_to(services(), tasks, context, self._config, self._project)

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        """Keep an event. 2.x calls `fit(event, data, …)`, 1.0.9 `fit((), event=…, data=…, …)`."""
        event = event_of(args, kwargs)
        schedule = FitSchedule.from_settings(_settings())
        job = events.record(event, job_queue(), schedule) if event else None
        return {"job_id": job} if job else {}


def answers_to(
    known: Services, tasks: Sequence[Any], context: Any, label_config: str | None, project: str
) -> list[Any]:
    """The results of one call.

    Raises:
        InputError: a wrong task or context, with the field named.
    """
    body = {
        "tasks": tasks,
        "label_config": label_config,
        "project": project,
        "params": {"context": context},
    }
    try:
        request = PredictRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InputError(".".join(str(part) for part in first["loc"])[:200], first["msg"]) from None
    return list(known.answers.predict(request)["results"])


def event_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> WebhookRequest | None:
    """The event in a call of `fit`, whichever version makes it; None: there is none."""
    texts = [arg for arg in args if isinstance(arg, str)]
    action = kwargs.get("event") or next(iter(texts), None)
    data = kwargs.get("data") or next((arg for arg in args if isinstance(arg, Mapping)), {})
    if not isinstance(action, str) or not isinstance(data, Mapping):
        return None
    project = id_of(data.get("project")) or id_of(kwargs.get("project_id"))
    return WebhookRequest(
        action=action[:100],
        project=project,
        task=data.get("task"),
        annotation=data.get("annotation"),
        annotations=data.get("annotations"),
    )
