"""What happens in a project, kept as jobs: whoever trains on annotations begins from them."""

from __future__ import annotations

import logging
from typing import Protocol

from backend.jobs import JSON, Enqueued, JobHandle, JobOptions, JSONDict
from backend.protocol import WebhookRequest, id_of

KIND = "event"  # of the jobs
log = logging.getLogger(__name__)


class EventQueue(Protocol):
    """What is needed of `JobQueue`."""

    def enqueue(self, kind: str, payload: JSONDict, options: JobOptions | None = None) -> Enqueued: ...


def record(event: WebhookRequest, queue: EventQueue) -> str | None:
    """Put an event into the queue of trainings.

    Returns:
        The job's id; None: nobody cares about such events.

    Raises:
        QueueFull, QueueUnavailable: it is not kept.
    """
    if not event.is_known:
        log.info("an event that nothing here is done about: %r", event.action)
        return None
    annotations: list[JSON] = list(event.annotation_ids)
    payload: JSONDict = {
        "action": event.action,
        "project": event.project_id,
        "task": id_of(event.task),
        "annotations": annotations,
    }
    title = f"{event.action.replace('_', ' ').lower()} in project {event.project_id or '?'}"
    return queue.enqueue(KIND, payload, JobOptions(queue="fit", title=title)).id


def keep_event(job: JobHandle) -> JSON:
    """The job's function: the event is the job's result, and readable as long as results are kept."""
    return job.payload
