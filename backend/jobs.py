"""The words of the job queue, free of Redis: what a job sees, what readers see, what can go wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from edgetam_model import EdgeTAMError, InputError

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
JSONDict: TypeAlias = dict[str, JSON]
QueueName = Literal["interactive", "batch", "fit"]
QUEUES: tuple[QueueName, ...] = ("interactive", "batch", "fit")  # the first is served first
JobState = Literal["queued", "running", "done", "cancelled", "failed"]
PICTURE_LIMIT = 20_000  # bytes: of 10,000 jobs that are kept, 200 MB of Redis
ENDED: frozenset[JobState] = frozenset({"done", "cancelled", "failed"})
# Why a running job is asked to stop. After the first two it ends as cancelled; after `shutdown` (its worker
# leaves) and `yield` (a more urgent job waits) it is queued again; `lost` means that it now belongs to
# another worker, and nothing that it writes counts any more.
StopReason = Literal["", "cancelled", "superseded", "shutdown", "yield", "lost"]


class QueueUnavailable(EdgeTAMError):  # noqa: N818  a state of the service, as its neighbours
    """Redis cannot be reached, or refuses."""


class QueueFull(EdgeTAMError):  # noqa: N818
    """As many jobs wait as are allowed, in a queue or of one project in it.

    `retry_after` is the number of seconds to wait before another try, `reason` the queue, or `project`.
    """

    def __init__(self, queue: str, waiting: int, retry_after: int, project: str = "") -> None:
        whose = f" of project {project}, as many as one may have," if project else ""
        super().__init__(f"{waiting} {queue} jobs{whose} are waiting already; try again in {retry_after} s")
        self.retry_after = retry_after
        self.reason = "project" if project else queue


class TryAgain(EdgeTAMError):  # noqa: N818
    """Raised by a job's function for what may pass, such as a server that does not answer."""


class JobLost(EdgeTAMError):  # noqa: N818
    """The job belongs to another worker now: stop, nothing that is written counts any more."""


class JobHandle(Protocol):
    """What a job's function is given. Results outlive the worker only through `partial` and `checkpoint`."""

    @property
    def id(self) -> str: ...

    @property
    def payload(self) -> JSONDict:
        """What was enqueued."""

    @property
    def attempt(self) -> int:
        """1 for the first worker that has the job; grows with every worker that takes it up."""

    @property
    def stop_reason(self) -> StopReason:
        """Why the job should stop; empty while it should not."""

    @property
    def dropped(self) -> frozenset[str]:
        """What of its work the job should leave out from now on, in the words of who enqueued it; grows."""

    def progress(self, done: float, total: float, note: str = "") -> None:
        """Frames (or steps) done so far, of how many, and what goes on in plain words. Costs no I/O."""

    def cancelled(self) -> bool:
        """Whether to stop now; ask before every frame, it costs no I/O.

        Once it is true: hand in what is finished (`partial`, `checkpoint`) and return within a few seconds.
        What is returned then is the result if the job was cancelled, and ignored if it goes on elsewhere.
        """

    def checkpoint(self, blob: bytes) -> None:
        """Keep the state to resume from, together with all parts handed in so far; replaces the last one.

        Raises:
            InputError: more bytes than the limit.
            JobLost: the job belongs to another worker.
        """

    def last_checkpoint(self) -> bytes | None:
        """The state to resume from; None: start at the beginning."""

    def partial(self, part: JSON) -> None:
        """Append finished results. Parts after the last checkpoint are dropped when another worker resumes.

        Raises:
            JobLost: the job belongs to another worker.
        """

    def partials(self) -> list[JSON]:
        """All parts so far, those of earlier attempts included."""

    def picture(self, jpeg: bytes) -> None:
        """Show people how it stands; replaces the last one.

        Raises:
            InputError: more than `PICTURE_LIMIT` bytes.
            JobLost: the job belongs to another worker.
        """


JobFunction = Callable[[JobHandle], JSON]


@dataclass(frozen=True)
class JobOptions:
    """How a job is queued.

    Attributes:
        queue: who is served first: interactive, then batch, then fit.
        key: two jobs of the same key are one job, as long as that one waits, runs, or its result is kept,
            and leaves nothing out.
        once: that holds as well where the one of that key failed, was cancelled or leaves something out:
            only `retry` runs it again.
        supersedes: a group; the new job cancels the older ones of the same group.
        project: whose job it is; in the batch queue one project may not take all places.
        title: what people read on the status page.
        timeout: seconds that one attempt may take.
        max_attempts: how often the job may fail, or its worker die, before it counts as failed.
        result_ttl: seconds that an ended job, its result and its parts are kept.
    """

    queue: QueueName = "interactive"
    key: str = ""
    once: bool = False
    supersedes: str = ""
    project: str = ""
    title: str = ""
    timeout: int = 3600
    max_attempts: int = 3
    result_ttl: int = 24 * 3600

    def __post_init__(self) -> None:
        if self.queue not in QUEUES:
            raise InputError("queue", f"expected one of {', '.join(QUEUES)}, got {self.queue!r}")
        for name in ("timeout", "max_attempts", "result_ttl"):
            if getattr(self, name) < 1:
                raise InputError(name, f"expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Gathering:
    """When a job is due for which calls are gathered.

    Attributes:
        lane: of it one job waits and gathers, and one has its turn: two never run at the same time.
        count: so many different things named by calls make it due at once; 0: the call itself does.
        seconds: after the first call it is due in any case.
        unit: what the things are, for people, as in "17 more annotations".

    Raises:
        InputError: no lane, or a negative number.
    """

    lane: str
    count: int = 0
    seconds: float = 0.0
    unit: str = "calls"

    def __post_init__(self) -> None:
        if not self.lane:
            raise InputError("lane", "expected a name")
        for name in ("count", "seconds"):
            if getattr(self, name) < 0:
                raise InputError(name, f"expected at least 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Enqueued:
    """The answer to `enqueue` and `gather`.

    Attributes:
        id: the job, new or already there.
        created: False: a job with the same key, or of the same lane, was there and is the one.
        superseded: older jobs of the same group, cancelled by this one; what they finished is still readable.
    """

    id: str
    created: bool
    superseded: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobStatus:
    """What is known of a job. Times are seconds since 1970 by Redis's clock, 0 where it has not happened.

    Attributes:
        done, total: progress in frames or steps; 0 of 0 while unknown.
        note: what goes on, or what is waited for, in plain words.
        rate: frames per second over the last seconds.
        cancel_requested: running, but asked to stop.
        attempt: how many workers took it up.
        failures: how many of them failed or died.
        parts: how many parts are readable. They may become fewer when `attempt` grows.
        error: why it failed, was cancelled or waits for another try, in plain words.
        project: whose job it is; empty where nobody said.
    """

    id: str
    kind: str
    queue: QueueName
    state: JobState
    title: str
    group: str
    done: float
    total: float
    note: str
    rate: float
    cancel_requested: bool
    attempt: int
    failures: int
    worker: str
    parts: int
    created: float
    started: float
    ended: float
    error: str
    project: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it is done, cancelled or failed."""
        return self.state in ENDED

    @property
    def remaining(self) -> float | None:
        """Seconds until done at the present rate; None while unknown."""
        return (self.total - self.done) / self.rate if self.rate > 0 and self.total > 0 else None


@dataclass(frozen=True)
class WorkerStatus:
    """A live worker.

    `job` is empty while it waits; `rate` in frames per second; `started` since 1970; `memory` in bytes, 0
    where its system, or its release, does not tell.
    """

    name: str
    host: str
    pid: int
    queues: tuple[str, ...]
    job: str
    rate: float
    started: float
    memory: int = 0


@dataclass(frozen=True)
class QueueStats:
    """Numbers for a monitor.

    Attributes:
        waiting: jobs per queue; `oldest`: seconds that the first of them has waited.
        running: jobs that workers hold.
        ended: how many jobs ended so far, by (kind, state).
        workers: live workers.
    """

    waiting: dict[QueueName, int]
    oldest: dict[QueueName, float]
    running: int
    ended: dict[tuple[str, JobState], int]
    workers: int


def dump_json(name: str, value: JSON, limit: int) -> str:
    """Strict, compact JSON.

    Raises:
        InputError: not JSON (NaN included), or more than `limit` bytes.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InputError(name, f"expected what JSON can hold: {error}") from error
    if len(text) > limit:
        raise InputError(name, f"expected at most {limit} bytes of JSON, got {len(text)}")
    return text


def checked_picture(jpeg: bytes) -> bytes:
    """The picture as it came.

    Raises:
        InputError: more than `PICTURE_LIMIT` bytes.
    """
    if len(jpeg) > PICTURE_LIMIT:
        raise InputError("picture", f"expected at most {PICTURE_LIMIT} bytes, got {len(jpeg)}")
    return jpeg


@dataclass
class MemoryJob:
    """The in-memory twin of a running job, for tests of job functions and for runs without a queue.

    Attributes:
        stop_after: `cancelled` says yes from this call on (0: at once); None: never.
    """

    payload: JSONDict
    id: str = "job"
    attempt: int = 1
    stop_after: int | None = None
    saved: bytes | None = None
    parts: list[JSON] = field(default_factory=list)
    reports: list[tuple[float, float, str]] = field(default_factory=list)
    stop_reason: StopReason = ""
    dropped: frozenset[str] = frozenset()
    asked: int = 0
    shown: bytes | None = None

    def progress(self, done: float, total: float, note: str = "") -> None:
        self.reports.append((done, total, note))

    def cancelled(self) -> bool:
        if self.stop_after is not None and self.asked >= self.stop_after and not self.stop_reason:
            self.stop_reason = "cancelled"
        self.asked += 1
        return bool(self.stop_reason)

    def checkpoint(self, blob: bytes) -> None:
        self.saved = blob

    def last_checkpoint(self) -> bytes | None:
        return self.saved

    def partial(self, part: JSON) -> None:
        self.parts.append(json.loads(dump_json("part", part, 1 << 30)))

    def partials(self) -> list[JSON]:
        return list(self.parts)

    def picture(self, jpeg: bytes) -> None:
        self.shown = checked_picture(jpeg)
