"""The job queue as a server sees it: put jobs in, watch them, cancel them. It survives Redis and its workers.

Redis holds all, RQ carries the tickets (`queue_tickets`), scripts do each step whole (`queue_scripts`).
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from redis import Redis

from backend import queue_scripts as scripts
from backend.jobs import (
    JSON,
    QUEUES,
    Enqueued,
    Gathering,
    JobOptions,
    JobState,
    JobStatus,
    JSONDict,
    QueueFull,
    QueueName,
    QueueStats,
    WorkerStatus,
    dump_json,
)
from backend.queue_store import NAMESPACE, Store, reaching_redis
from backend.queue_tickets import Ticket, Tickets

LEASE = 5000  # ms without a sign of life before a job is taken from its worker; workers give one every 500
WATCH = 3000  # ms without any sweeper before old signs of life mean nothing; sweepers look every 1000
QUIET = 300  # ms after one sweeper in which another has nothing to do
TICKET_GRACE = 2000  # ms between issuing a ticket and missing it
POLL = 0.05  # seconds between two looks of `wait`
WORKER_LEASE = 5.0  # seconds without a sign of life before a worker is not listed any more

_WORDS = (
    *("kind", "queue", "state", "title", "group", "note"),
    *("worker", "error", "cancel", "unit", "project"),
)
_NUMBERS = (
    *("attempt", "failures", "done", "total", "rate", "created", "started", "ended"),
    *("due", "wanted", "gathered"),
)
_FIELDS = (*_WORDS, *_NUMBERS)


@dataclass(frozen=True)
class QueueLimits:
    """Bounds.

    Attributes:
        interactive, batch, fit: waiting jobs.
        project: waiting jobs of one project among the batches; one that waits for another try counts, too,
            but is never refused itself.
        payload: bytes of JSON that a job may carry.
    """

    interactive: int = 50
    batch: int = 1000
    fit: int = 10
    project: int = 800
    payload: int = 64 << 20

    def of(self, queue: QueueName) -> int:
        """The bound of one queue."""
        return {"interactive": self.interactive, "batch": self.batch, "fit": self.fit}[queue]

    def of_project(self, queue: QueueName) -> int:
        """The bound of one project in one queue."""
        return self.project if queue == "batch" else self.of(queue)


class JobQueue:
    """The queue in one Redis. Safe to use from many threads, processes and machines.

    Every method raises `QueueUnavailable` when Redis cannot be reached.

    Args:
        redis: from `queue_store.connect`.
        limits: bounds.
        namespace: what every key begins with.
    """

    def __init__(self, redis: Redis, limits: QueueLimits | None = None, namespace: str = NAMESPACE) -> None:
        self.limits = limits or QueueLimits()
        self.store = Store(redis, namespace)
        self.tickets = Tickets(self.store)

    def enqueue(self, kind: str, payload: JSONDict, options: JobOptions | None = None) -> Enqueued:
        """Put a job in, once per key. One that waits already comes forward into a more urgent queue.

        Args:
            kind: the name under which the workers have its function.
            payload: what the function gets.
            options: queue, key, group, times.

        Raises:
            InputError: a payload that is not JSON or too large.
            QueueFull: too many jobs wait in this queue, or of this project in it.
        """
        options = options or JobOptions()
        text = dump_json("payload", payload, self.limits.payload)
        job_id = uuid.uuid4().hex
        answer = self.store.run(
            scripts.ENQUEUE,
            *(job_id, kind, options.queue, text, options.key, options.supersedes, options.title),
            *(options.timeout, options.max_attempts, options.result_ttl, self.limits.of(options.queue)),
            *(int(options.once), options.project, self.limits.of_project(options.queue)),
        )
        verb = answer[0].decode()
        if verb in ("full", "project"):
            raise _full(options.queue, answer, options.project if verb == "project" else "")
        if verb == "old":
            known, ticket = answer[1].decode(), answer[2].decode()
            if ticket:
                self.tickets.issue([Ticket(known, kind, options.queue, ticket, options.timeout)])
            return Enqueued(known, created=False)
        self.tickets.issue([Ticket(job_id, kind, options.queue, f"{job_id}-0", options.timeout)])
        return Enqueued(job_id, created=True, superseded=tuple(other.decode() for other in answer[2:]))

    def gather(
        self,
        kind: str,
        payload: JSONDict,
        gathering: Gathering,
        things: Sequence[str] = (),
        options: JobOptions | None = None,
    ) -> Enqueued:
        """Have one job do what many calls ask for, once enough of them came or enough time has passed.

        A call joins the job of its lane that waits; one that has begun no longer counts, since it may have
        read what there was already: what comes then is for the next one, which begins when that has ended.

        Args:
            kind, payload: of a new job; one that waits keeps its own.
            gathering: the lane, and when it is due. A call may bring the job forward, never put it off.
            things: what the call is about, each counted once however often it is named.
            options: queue, project, title and times of a new job; its key and group mean nothing here.

        Raises:
            InputError: a payload that is not JSON or too large.
            QueueFull: too many jobs wait in this queue.
        """
        options = options or JobOptions()
        text = dump_json("payload", payload, self.limits.payload)
        answer = self.store.run(
            scripts.GATHER,
            *(uuid.uuid4().hex, kind, options.queue, text, gathering.lane, options.title),
            *(options.timeout, options.max_attempts, options.result_ttl, self.limits.of(options.queue)),
            *(gathering.count, round(gathering.seconds * 1000), gathering.unit, options.project),
            *things,
        )
        verb = answer[0].decode()
        if verb == "full":
            raise _full(options.queue, answer)
        return Enqueued(answer[1].decode(), created=verb == "new")

    def cancel(self, job_id: str) -> bool:
        """Take a waiting job out, or have a running one stop at its next frame; False: over or unknown."""
        state = self.store.run(scripts.CANCEL, job_id, "cancelled").decode()
        return state in {"queued", "running"}

    def drop(self, job_id: str, words: Sequence[str]) -> frozenset[str]:
        """Have a job leave out a part of its work; another one of its key will be a new job then.

        Args:
            words: what to leave out, without spaces; the job's function knows them.

        Returns:
            All that the job leaves out; nothing where it is over or unknown.
        """
        return frozenset(self.store.run(scripts.DROP, job_id, *words).decode().split())

    def retry(self, job_id: str) -> bool:
        """Queue a failed or cancelled job again, from its last checkpoint; False: neither, or unknown."""
        queued = bool(self.store.run(scripts.RETRY, job_id))
        if queued:
            self.sweep(at_once=True)
        return queued

    def status(self, job_id: str) -> JobStatus | None:
        """What is known of a job; None: there is no such job (any more)."""
        return self.statuses([job_id]).get(job_id)

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """`status` of many jobs in one round trip; unknown ones are missing."""
        wanted = list(job_ids)
        with reaching_redis(), self.store.redis.pipeline(transaction=False) as pipe:
            for job_id in wanted:
                pipe.hmget(self.store.key("job", job_id), _FIELDS)
                pipe.llen(self.store.key("parts", job_id))
            answers = pipe.execute()
        found = zip(wanted, answers[::2], answers[1::2], strict=True)
        return {job_id: _status(job_id, row, parts) for job_id, row, parts in found if row[0] is not None}

    def recent(self, limit: int = 50) -> list[JobStatus]:
        """The newest jobs that are still known, newest first."""
        return self._listed("recent", limit)

    def dead(self, limit: int = 50) -> list[JobStatus]:
        """Jobs that failed for good, newest first; `error` says why."""
        return self._listed("dead", limit)

    def result(self, job_id: str) -> JSON:
        """What the function returned, also when it was cancelled; None before, or after the time to live."""
        return cast(JSON, json.loads(self._field(job_id, "result") or b"null"))

    def payload(self, job_id: str) -> JSONDict | None:
        """What was enqueued; None: there is no such job (any more)."""
        text = self._field(job_id, "payload")
        return None if text is None else cast(JSONDict, json.loads(text))

    def partials(self, job_id: str, start: int = 0) -> list[JSON]:
        """Finished parts from number `start` on. Numbers hold within one attempt (`JobStatus.attempt`)."""
        with reaching_redis():
            answer = self.store.redis.lrange(self.store.key("parts", job_id), start, -1)
        return [json.loads(part) for part in self.store.ask(answer, list)]

    def picture(self, job_id: str) -> bytes | None:
        """JPEG of a recent frame of the job; None: there is none (yet, or any more)."""
        with reaching_redis():
            answer = self.store.redis.get(self.store.key("picture", job_id))
        return None if answer is None else self.store.ask(answer, bytes)

    def wait(self, job_id: str, seconds: float) -> JobStatus | None:
        """`status` as soon as the job is over, or after so many seconds."""
        end = time.monotonic() + seconds
        while (status := self.status(job_id)) and not status.is_over and time.monotonic() < end:
            time.sleep(POLL)
        return status

    def workers(self) -> list[WorkerStatus]:
        """Live workers, by name."""
        with reaching_redis():
            oldest = self._redis_time() - WORKER_LEASE * 1000
            names = self.store.redis.zrangebyscore(self.store.key("workers"), oldest, "+inf")
            found = sorted(name.decode() for name in self.store.ask(names, list))
            with self.store.redis.pipeline(transaction=False) as pipe:
                for name in found:
                    pipe.hmget(self.store.key("worker", name), _WORKER_FIELDS)
                answers = pipe.execute()
        return [_worker(name, row) for name, row in zip(found, answers, strict=True) if row[0] is not None]

    def stats(self) -> QueueStats:
        """Numbers for a monitor."""
        key = self.store.key
        with reaching_redis(), self.store.redis.pipeline() as pipe:
            for name in QUEUES:
                pipe.zcard(key("waiting", name))
                pipe.zrange(key("waiting", name), 0, 0, withscores=True)
            pipe.zcard(key("running"))
            pipe.hgetall(key("counts"))
            answers = pipe.execute()
            now = self._redis_time()
        *queues, running, counts = answers
        ended = {tuple(name.decode().rsplit(":", 1)): int(count) for name, count in counts.items()}
        return QueueStats(
            waiting=dict(zip(QUEUES, queues[::2], strict=True)),
            oldest={
                name: max(0.0, now - first[0][1]) / 1000 if first else 0.0
                for name, first in zip(QUEUES, queues[1::2], strict=True)
            },
            running=running,
            ended=cast(dict[tuple[str, JobState], int], ended),
            workers=len(self.workers()),
        )

    def sweep(self, *, at_once: bool = False) -> None:
        """Queue the jobs of dead workers again, and replace lost tickets. Every worker and server does it.

        Args:
            at_once: look even if somebody else has just looked.
        """
        quiet = 0 if at_once else QUIET
        pairs = [part for name in QUEUES for part in (name, self.tickets.queues[name].key)]
        flat = [
            value.decode()
            for value in self.store.run(scripts.SWEEP, LEASE, WATCH, TICKET_GRACE, quiet, *pairs)
        ]
        rows = [flat[i : i + 6] for i in range(0, len(flat), 6)]
        tickets = [
            Ticket(job_id, kind, cast(QueueName, queue), ticket, int(timeout), at_front=attempt != "0")
            for job_id, kind, queue, ticket, timeout, attempt in rows
        ]
        if tickets:
            self.tickets.issue(tickets)

    def _listed(self, name: str, limit: int) -> list[JobStatus]:
        with reaching_redis():
            answer = self.store.redis.zrevrange(self.store.key(name), 0, limit - 1)
        return list(self.statuses(job_id.decode() for job_id in self.store.ask(answer, list)).values())

    def _field(self, job_id: str, name: str) -> bytes | None:
        with reaching_redis():
            answer = self.store.redis.hget(self.store.key("job", job_id), name)
        return None if answer is None else self.store.ask(answer, bytes)

    def _redis_time(self) -> float:
        seconds, micros = self.store.ask(self.store.redis.time(), tuple)
        return float(seconds) * 1000 + float(micros) / 1000


_WORKER_FIELDS = ("host", "pid", "queues", "job", "rate", "started", "memory")


def _full(queue: QueueName, answer: Sequence[bytes], project: str = "") -> QueueFull:
    """The refusal that a script has answered with."""
    return QueueFull(queue, int(answer[1]), _retry_after(float(answer[2]), int(answer[3])), project)


def _retry_after(mean_ms: float, workers: int) -> int:
    """Whole seconds until about one place is free: a mean job's time shared by the workers, 1 to 60."""
    return min(60, max(1, math.ceil(mean_ms / 1000 / max(1, workers))))


def _status(job_id: str, row: Sequence[bytes | None], parts: int) -> JobStatus:
    words = {name: (value or b"").decode() for name, value in zip(_WORDS, row, strict=False)}
    numbers = {name: float(value or 0) for name, value in zip(_NUMBERS, row[len(_WORDS) :], strict=True)}
    state = cast(JobState, words["state"])
    waits = state == "queued" and bool(words["unit"])
    return JobStatus(
        id=job_id,
        kind=words["kind"],
        queue=cast(QueueName, words["queue"]),
        state=state,
        title=words["title"],
        group=words["group"],
        done=numbers["done"],
        total=numbers["total"],
        note=_awaited(words["unit"], numbers) if waits else words["note"],
        rate=numbers["rate"],
        cancel_requested=bool(words["cancel"]) and state == "running",
        attempt=int(numbers["attempt"]),
        failures=int(numbers["failures"]),
        worker=words["worker"],
        parts=parts,
        created=numbers["created"] / 1000,
        started=numbers["started"] / 1000,
        ended=numbers["ended"] / 1000,
        error=words["error"],
        project=words["project"],
    )


def _awaited(unit: str, numbers: Mapping[str, float]) -> str:
    """What a job waits for that gathers calls; empty where it is due. The time is this machine's."""
    missing, due = numbers["wanted"] - numbers["gathered"], numbers["due"] / 1000
    if missing <= 0 or due <= time.time():
        return ""
    until = datetime.fromtimestamp(due).astimezone()
    day = "" if until.date() == datetime.now().astimezone().date() else f"{until:%Y-%m-%d} "
    return f"waits for {missing:.0f} more {unit} or until {day}{until:%H:%M}"


def _worker(name: str, row: Sequence[bytes | None]) -> WorkerStatus:
    host, pid, queues, job, rate, started, memory = ((value or b"").decode() for value in row)
    return WorkerStatus(
        name=name,
        host=host,
        pid=int(pid),
        queues=tuple(queues.split(",")),
        job=job,
        rate=float(rate),
        started=float(started) / 1000,
        memory=int(memory or 0),
    )
