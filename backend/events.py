"""What happens in a project, and what follows from it: the model learns from what people drew."""

from __future__ import annotations

import logging

from backend.fit_schedule import FitSchedule, GatheringQueue
from backend.protocol import WebhookRequest, id_of, project_id
from edgetam_model import InputError

DRAWN = frozenset({"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "ANNOTATION_DELETED"})
START = "START_TRAINING"
log = logging.getLogger(__name__)


def record(event: WebhookRequest, queue: GatheringQueue, schedule: FitSchedule) -> str | None:
    """Let an event count towards a training of its project.

    PROJECT_UPDATED trains nothing: a training asks Label Studio for the labeling config as it is then.

    Returns:
        The id of the job; None: nothing follows from such an event.

    Raises:
        InputError: an event about no project, with the field named.
        QueueFull, QueueUnavailable: it is not kept.
    """
    if event.action not in DRAWN and event.action != START:
        log.info("an event that nothing here is done about: %r", event.action)
        return None
    project = _project_number(event)
    if event.action == START:
        return schedule.requested(queue, project)
    # An event that names no annotation still tells of one: it counts by its task.
    return schedule.annotated(queue, project, event.annotation_ids or [f"task {id_of(event.task)}"])


def _project_number(event: WebhookRequest) -> int:
    """Label Studio's number of the project.

    Raises:
        InputError: there is none.
    """
    number = int(project_id(event.project_id) or 0)
    if number < 1:
        field = "project.id" if isinstance(event.project, dict) else "project"
        raise InputError(field, "expected the number of a project")
    return number
