"""A queue with a name space of its own, workers as processes, and job functions that leave a trace in Redis.

Run as a program, this is a worker: `python -m tests.backend.queue_fixtures URL NAMESPACE`.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.jobs import JSON, JobFunction, JobHandle, JobOptions
from backend.queue import JobQueue, QueueLimits
from backend.queue_store import connect
from backend.worker import Worker
from backend.worker_job import RunningJob, claim

ROOT = Path(__file__).parent.parent.parent
CHECKPOINT_EVERY = 1.0  # seconds, as the product does


def new_queue(url: str, limits: QueueLimits | None = None) -> JobQueue:
    return JobQueue(connect(url, patience=5), limits, namespace=f"test-{uuid.uuid4().hex[:8]}")


def take(queue: JobQueue) -> RunningJob | None:
    """The next job, as a worker would take it."""
    job_id = queue.tickets.next(("interactive", "batch", "fit"), None)
    return None if job_id is None else claim(queue.store, job_id, "w")


def add(queue: JobQueue, options: JobOptions | None = None) -> str:
    return queue.enqueue("k", {"a": 1}, options or JobOptions()).id


def running(queue: JobQueue, options: JobOptions | None = None) -> RunningJob:
    add(queue, options)
    job = take(queue)
    assert job is not None
    return job


def state(queue: JobQueue, job_id: str) -> str:
    status = queue.status(job_id)
    assert status is not None
    return status.state


def lose(queue: JobQueue, job: RunningJob) -> None:
    """Have the sweeper find the job's worker dead, without waiting for it."""
    queue.store.redis.zadd(queue.store.key("running"), {job.id: 0})
    sweep(queue)


def sweep(queue: JobQueue) -> None:
    now = queue._redis_time()
    queue.store.redis.set(queue.store.key("swept"), int(now) - 1000)  # another sweeper was here a second ago
    queue.sweep()


def work(queue: JobQueue, function: JobFunction) -> None:
    """Do all that is due, in this process."""
    Worker(queue, {"k": function}).work(burst=True)


def until(condition: Callable[[], object], seconds: float = 20.0) -> float:
    """Wait for something to become true; how many seconds it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "waited too long"
        time.sleep(0.02)
    return time.monotonic() - start


@contextmanager
def worker_process(queue: JobQueue, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, reaped at the end whatever happened to it."""
    command = [sys.executable, "-m", "tests.backend.queue_fixtures", url, queue.store.namespace]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        until(lambda: any(worker.pid == process.pid for worker in queue.workers()))
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


def frames_done(queue: JobQueue, job_id: str) -> list[int]:
    """Every frame that any attempt did, in order, repeated ones included."""
    return [int(frame) for frame in queue.store.redis.lrange(queue.store.key("frames", job_id), 0, -1)]


def track(queue: JobQueue) -> JobFunction:
    """Does `frames` frames of `step` seconds, hands in what is finished each second, resumes from there."""

    def run(job: JobHandle) -> JSON:
        frames, step = int(str(job.payload["frames"])), float(str(job.payload["step"]))
        first = int(job.last_checkpoint() or b"0")
        kept, finished = time.monotonic(), list[JSON]()

        def hand_in(upto: int) -> None:
            job.partial(list(finished))
            finished.clear()
            job.checkpoint(b"%d" % upto)

        for frame in range(first, frames):
            if job.cancelled():
                hand_in(frame)
                return {"frames": frame}
            time.sleep(step)
            queue.store.redis.rpush(queue.store.key("frames", job.id), frame)
            finished.append(frame)
            job.progress(frame + 1, frames, "tracking")
            if time.monotonic() - kept > CHECKPOINT_EVERY:
                kept = time.monotonic()
                hand_in(frame + 1)
        hand_in(frames)
        return {"frames": frames}

    return run


def deaf(job: JobHandle) -> JSON:
    """Never asks whether it should stop."""
    time.sleep(float(str(job.payload["seconds"])))
    return None


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    own = JobQueue(connect(sys.argv[1], patience=5), namespace=sys.argv[2])
    Worker(own, {"track": track(own), "deaf": deaf}, drain=1.0).work()
