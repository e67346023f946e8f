"""What goes on, as facts for the status page and for scripts: jobs, queues, workers, and what went wrong."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from backend.jobs import QUEUES, JobStatus, QueueStats, WorkerStatus

JOBS = 50  # newest ones that are listed; those that workers hold are listed in any case
LOOK_BACK = 500  # newest jobs of all among which those of one project are looked for
FAILURES = 30


class JobReader(Protocol):
    """What is needed of `JobQueue`."""

    def recent(self, limit: int = ...) -> list[JobStatus]: ...

    def dead(self, limit: int = ...) -> list[JobStatus]: ...

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]: ...

    def workers(self) -> list[WorkerStatus]: ...

    def stats(self) -> QueueStats: ...


class LoggedProblem(Protocol):
    """What is needed of `logs.Problem`: `time` is seconds since 1970."""

    @property
    def time(self) -> float: ...

    @property
    def level(self) -> str: ...

    @property
    def message(self) -> str: ...


@dataclass(frozen=True)
class JobView:
    """A job for people. Times are seconds since 1970, 0 where it has not happened.

    Attributes:
        done, total: frames or steps; 0 of 0 while unknown.
        fraction: 0 to 1; None while unknown.
        rate: frames per second over the last seconds.
        remaining: seconds at that rate; None while unknown, and after the end.
        stopping: it runs, and was asked to stop.
        parts: how many parts of the result are there; a picture of the job is worth asking for from 1 on.
        can_cancel, can_retry: whether that would do something.
    """

    id: str
    kind: str
    queue: str
    state: str
    title: str
    done: float
    total: float
    fraction: float | None
    rate: float
    remaining: float | None
    note: str
    stopping: bool
    attempt: int
    worker: str
    parts: int
    created: float
    started: float
    ended: float
    error: str
    can_cancel: bool
    can_retry: bool


@dataclass(frozen=True)
class QueueView:
    """One priority. `oldest`: seconds that its first job has waited."""

    name: str
    waiting: int
    oldest: float


@dataclass(frozen=True)
class WorkerView:
    """A live worker. `job` is empty, and `title` too, while it waits; `since` is seconds since 1970."""

    name: str
    host: str
    queues: tuple[str, ...]
    job: str
    title: str
    rate: float
    since: float


@dataclass(frozen=True)
class FailureView:
    """Something that went wrong.

    Attributes:
        time: of the last time, seconds since 1970.
        problem: in plain words.
        title: of the job; empty where it was a request.
        job: its id; empty where it was a request.
        level: WARNING or ERROR.
        times: how often it was seen lately.
    """

    time: float
    problem: str
    title: str = ""
    job: str = ""
    level: str = "ERROR"
    times: int = 1


@dataclass(frozen=True)
class ModelView:
    """The model that answers. `state`: loading, ready or failed; `description`: one line for people."""

    version: str
    state: str
    description: str
    device: str


@dataclass(frozen=True)
class Overview:
    """All of it at one moment. `now`: seconds since 1970."""

    now: float
    model: ModelView
    queues: tuple[QueueView, ...]
    running: int
    jobs: tuple[JobView, ...]
    workers: tuple[WorkerView, ...]
    failures: tuple[FailureView, ...]

    def to_json(self) -> dict[str, Any]:
        """As dicts, lists and plain values."""
        return asdict(self)


def overview(
    queue: JobReader, model: ModelView, problems: Sequence[LoggedProblem] = (), project: str = ""
) -> Overview:
    """Ask the queue for everything once.

    Args:
        queue: a `JobQueue`.
        model: what answers.
        problems: of requests, newest first.
        project: the only one whose jobs are told of; empty: all of them. How many wait is told of all.

    Raises:
        QueueUnavailable: the queue cannot be asked.
    """
    stats, workers = queue.stats(), queue.workers()
    newest = of_project(queue.recent(LOOK_BACK if project else JOBS), project)[:JOBS]
    known = {job.id: job for job in newest}
    held = queue.statuses(worker.job for worker in workers if worker.job and worker.job not in known)
    jobs = sorted([*newest, *of_project(held.values(), project)], key=_rank)
    titles = {job.id: job.title for job in jobs}
    return Overview(
        now=time.time(),
        model=model,
        queues=tuple(QueueView(name, stats.waiting[name], stats.oldest[name]) for name in QUEUES),
        running=stats.running,
        jobs=tuple(job_view(job) for job in jobs),
        workers=tuple(_worker_view(worker, titles, hide=bool(project)) for worker in workers),
        failures=failures(of_project(queue.dead(LOOK_BACK if project else FAILURES), project), problems),
    )


def of_project(jobs: Iterable[JobStatus], project: str) -> list[JobStatus]:
    """Those of one project; empty: all of them."""
    return [job for job in jobs if not project or job.project == project]


def _rank(job: JobStatus) -> tuple[int, int, float]:
    """What runs, what waits in the order it is served, what ended lately."""
    if job.is_over:
        return 2, 0, -job.ended
    return int(job.state != "running"), QUEUES.index(job.queue), job.created


def job_view(job: JobStatus) -> JobView:
    """One job for people."""
    fraction = min(1.0, max(0.0, job.done / job.total)) if job.total > 0 else None
    remaining = None if job.state != "running" or job.remaining is None else max(0.0, job.remaining)
    return JobView(
        id=job.id,
        kind=job.kind,
        queue=job.queue,
        state=job.state,
        title=job.title or job.kind,
        done=job.done,
        total=job.total,
        fraction=1.0 if job.state == "done" else fraction,
        rate=job.rate if job.state == "running" else 0.0,
        remaining=remaining,
        note=job.note,
        stopping=job.cancel_requested,
        attempt=job.attempt,
        worker=job.worker,
        parts=job.parts,
        created=job.created,
        started=job.started,
        ended=job.ended,
        error=job.error,
        can_cancel=not job.is_over and not job.cancel_requested,
        can_retry=job.state in {"failed", "cancelled"},
    )


def failures(dead: Iterable[JobStatus], problems: Iterable[LoggedProblem] = ()) -> tuple[FailureView, ...]:
    """Failed jobs and problems of requests, the last one first; the same words are told once, and counted."""
    found = [FailureView(job.ended, job.error, job.title or job.kind, job.id) for job in dead]
    counts: dict[tuple[str, str], FailureView] = {}
    for problem in problems:
        key = problem.level, problem.message
        earlier = counts.get(key)
        last = max(problem.time, earlier.time if earlier else 0.0)
        times = earlier.times + 1 if earlier else 1
        counts[key] = FailureView(last, problem.message, level=problem.level, times=times)
    ordered = sorted([*found, *counts.values()], key=lambda failure: failure.time, reverse=True)
    return tuple(ordered[:FAILURES])


def _worker_view(worker: WorkerStatus, titles: dict[str, str], *, hide: bool) -> WorkerView:
    """`hide`: name no job but those that have a title here."""
    job = "" if hide and worker.job not in titles else worker.job
    title = titles.get(job, "")
    return WorkerView(worker.name, worker.host, worker.queues, job, title, worker.rate, worker.started)
