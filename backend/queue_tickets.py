"""Tickets: the RQ jobs that carry "there is a job for you" to a worker. Nothing is lost with a ticket.

All that matters about a job is in its record, which only scripts change. A ticket may come twice (the second
finds the job taken) or never (the sweeper issues another), so RQ's lists need no guarantee of their own.
RQ brings the lists, their order, and the tools that people know: `rq info` and dashboards show the queues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rq import Queue
from rq.exceptions import DequeueTimeout
from rq.job import Job
from rq.serializers import JSONSerializer

from backend.jobs import QUEUES, QueueName
from backend.queue_store import Store, reaching_redis

TICKET_TTL = 24 * 3600  # seconds; the sweeper replaces one that ran out


@dataclass(frozen=True)
class Ticket:
    """One message. `id` is the job's id, a dash and a number; `timeout` in seconds, for RQ's own tools."""

    job_id: str
    kind: str
    queue: QueueName
    id: str
    timeout: int
    at_front: bool = False


class Tickets:
    """The RQ queues of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.queues = {
            name: Queue(f"{store.namespace}-{name}", connection=store.redis, serializer=JSONSerializer)
            for name in QUEUES
        }

    def issue(self, tickets: Sequence[Ticket]) -> None:
        """Put tickets into their queues, all in one step."""
        with reaching_redis(), self.store.redis.pipeline() as pipe:
            for ticket in tickets:
                self.queues[ticket.queue].enqueue_call(
                    f"{self.store.namespace}.{ticket.kind}",  # a name for people: no worker imports it
                    args=[ticket.job_id],
                    timeout=ticket.timeout,
                    ttl=TICKET_TTL,
                    job_id=ticket.id,
                    at_front=ticket.at_front,
                    pipeline=pipe,
                )
            pipe.execute()

    def next(self, queues: Sequence[QueueName], wait: int | None) -> str | None:
        """The job of the next ticket, which is used up with this; None: there is none.

        Args:
            queues: most urgent first.
            wait: whole seconds to wait for one; None: look once.
        """
        keys = [self.queues[name].key for name in queues]
        with reaching_redis():
            try:
                found = Queue.lpop(keys, timeout=wait, connection=self.store.redis)
            except DequeueTimeout:
                return None
            if found is None:
                return None
            ticket = found[1].decode()
            self.store.redis.delete(Job.key_for(ticket))
        return str(ticket).rpartition("-")[0]
