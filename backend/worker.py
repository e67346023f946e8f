"""The worker: one process, one job at a time, the model stays loaded.

Signs of life come from a thread, so that a long step (loading a model) is not taken for death. SIGTERM and
SIGINT ask the job to stop at its next frame and queue it again; on a second signal, or when it does not stop
within `drain` seconds, it is interrupted where it is and goes on elsewhere from its last checkpoint.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from backend import queue_scripts as scripts
from backend.jobs import (
    QUEUES,
    JobFunction,
    JobLost,
    QueueName,
    QueueUnavailable,
    TryAgain,
    dump_json,
)
from backend.metrics import resident_bytes
from backend.queue import JobQueue
from backend.queue_store import reaching_redis
from backend.queue_sweeper import Ticker
from backend.worker_job import PART_LIMIT, RunningJob, Verb, claim
from edgetam_model import EdgeTAMError

BEAT = 0.5  # seconds between two signs of life
POLL = 1  # whole seconds to wait for a ticket before looking at the signals again
PAUSE = 0.5  # seconds before the next try while Redis is away
log = logging.getLogger(__name__)


class Interrupted(BaseException):
    """Raised by the alarm inside a job; not an Exception, so that no job function catches it by chance."""


class Worker:
    """Runs jobs until told to stop. `work` must be called from the main thread, which gets the signals.

    Args:
        queue: the queue; its Redis client should have some seconds of patience.
        kinds: the functions, by the names under which their jobs are enqueued.
        queues: which queues to serve.
        drain: seconds that a job has to stop after SIGTERM.
        name: how the status page calls this worker; by default host, process and a random word.
    """

    def __init__(
        self,
        queue: JobQueue,
        kinds: Mapping[str, JobFunction],
        queues: Sequence[QueueName] = QUEUES,
        drain: float = 5.0,
        name: str = "",
    ) -> None:
        self.queue = queue
        self.kinds = kinds
        self.queues = tuple(name for name in QUEUES if name in queues)
        self.drain = drain
        self.host = socket.gethostname()
        self.name = name or f"{self.host}-{os.getpid()}-{uuid.uuid4().hex[:4]}"
        self._stopping = threading.Event()
        self._job: RunningJob | None = None
        self._deadline = 0.0  # of the running job, on the monotonic clock
        self._inside = False  # whether a job's function runs just now, and may be interrupted

    def work(self, *, burst: bool = False) -> None:
        """Serve until SIGTERM or SIGINT; with `burst`, until no ticket is left."""
        log.info("worker %s serves %s", self.name, ", ".join(self.queues))
        with self._signals(), Ticker("signs of life", BEAT, self._tick):
            while not self._stopping.is_set():
                if not self._step(wait=None if burst else POLL) and burst:
                    break
        self._leave()
        log.info("worker %s stops", self.name)

    def stop(self) -> None:
        """Ask the worker to end: the running job stops at its next frame and is queued again."""
        self._stopping.set()
        job = self._job
        if job is not None:
            job.stop("shutdown")

    def _step(self, wait: int | None) -> bool:
        """Wait for a ticket and run its job; False: there was none."""
        try:
            job_id = self.queue.tickets.next(self.queues, wait)
            if job_id is None:
                return False
            job = claim(self.queue.store, job_id, self.name, self.queues)
        except QueueUnavailable as error:
            log.warning("worker %s: %s", self.name, error)
            self._stopping.wait(PAUSE)
            return True
        if job is not None:
            self._run(job)
        return True

    def _run(self, job: RunningJob) -> None:
        log.info("job %s (%s), attempt %d, starts", job.id, job.kind, job.attempt)
        self._job = job
        if self._stopping.is_set():  # the signal came between the claim and here
            job.stop("shutdown")
        try:
            verb, text = self._outcome(job)
            self._settle(job, verb, text)
        finally:
            self._job = None

    def _outcome(self, job: RunningJob) -> tuple[Verb, str]:
        """Run the job's function; how its attempt ended, and the result or the reason in plain words."""
        try:
            return self._call(job)
        except Interrupted:
            return self._interrupted(job)
        except JobLost:
            return "release", ""
        except (TryAgain, QueueUnavailable) as error:
            return "retry", str(error)
        except EdgeTAMError as error:
            return "failed", str(error)
        except Exception as error:  # whatever a job does, the worker lives on
            log.exception("job %s failed", job.id)
            return "retry", f"unexpected {type(error).__name__}; the log of {self.name} tells more"

    def _call(self, job: RunningJob) -> tuple[Verb, str]:
        function = self.kinds.get(job.kind)
        if function is None:
            return "failed", f"no function for the kind {job.kind!r}: is the worker older than the server?"
        with self._alarm(job.timeout):
            result = function(job)
        text = dump_json("result", result, PART_LIMIT)
        if job.told in {"cancelled", "superseded"}:
            return "cancelled", text
        return ("release", "") if job.told else ("done", text)

    def _interrupted(self, job: RunningJob) -> tuple[Verb, str]:
        if self._stopping.is_set():
            return "release", ""
        return "failed", f"it took longer than the {job.timeout} s that it may"

    def _settle(self, job: RunningJob, verb: Verb, text: str) -> None:
        """Record the end. Redis may be away: the job stays ours meanwhile, as nobody can take it."""
        while True:
            try:
                counted = job.settle(verb, text)
                break
            except QueueUnavailable as error:
                log.warning("job %s cannot be recorded as %s yet: %s", job.id, verb, error)
                if self._stopping.wait(PAUSE):  # the sweeper will find it, and another worker resume it
                    return
        log.info("job %s: %s", job.id, verb if counted else f"{verb}, but it is another worker's now")
        if verb == "release" and counted:
            with suppress(QueueUnavailable):  # otherwise the next sweeper issues the ticket
                self.queue.sweep(at_once=True)

    def _leave(self) -> None:
        with suppress(QueueUnavailable), reaching_redis():
            self.queue.store.redis.zrem(self.queue.store.key("workers"), self.name)

    def _tick(self) -> None:
        """Signs of life of the job and of the worker, and a look at everybody else's."""
        job = self._job
        if job is not None:
            job.beat()
        self.queue.store.run(
            scripts.GREET,
            *(self.name, self.host, os.getpid(), ",".join(self.queues)),
            *(job.id if job else "", round(job.rate, 3) if job else 0, resident_bytes()),
        )
        self.queue.sweep()

    @contextmanager
    def _alarm(self, seconds: float) -> Iterator[None]:
        """Interrupt what runs inside after so many seconds, or `drain` seconds after a signal."""
        self._deadline = time.monotonic() + seconds
        self._inside = True
        _arm(min(seconds, self.drain) if self._stopping.is_set() else seconds)
        try:
            yield
        finally:
            self._inside = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def asked(_number: int, _frame: FrameType | None) -> None:
            again = self._stopping.is_set()
            self.stop()
            if self._inside:
                _arm(0 if again else min(self.drain, self._deadline - time.monotonic()))

        def alarmed(_number: int, _frame: FrameType | None) -> None:
            if self._inside:
                raise Interrupted

        wanted = {signal.SIGTERM: asked, signal.SIGINT: asked, signal.SIGALRM: alarmed}
        before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _arm(seconds: float) -> None:
    """Set the alarm, and again each second after, should it fall on deaf ears."""
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds), 1.0)
