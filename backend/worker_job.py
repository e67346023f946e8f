"""The job that a worker holds: every write names its attempt, so that one who lost it writes nothing."""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Literal, cast

from backend import queue_scripts as scripts
from backend.jobs import (
    JSON,
    QUEUES,
    JobLost,
    JSONDict,
    QueueName,
    StopReason,
    checked_picture,
    dump_json,
)
from backend.queue_store import Store, reaching_redis
from edgetam_model import InputError

CHUNK = 16 << 20  # bytes: Redis answers nobody else while it takes one in (some 10 ms)
UNCOMMITTED_TTL = 3600  # seconds that chunks live whose writer died before it named them in the record
CHECKPOINT_LIMIT = 1 << 30  # bytes
PART_LIMIT = 64 << 20  # bytes of JSON in one part, and in a result
RATE_WINDOW = 5.0  # seconds over which frames per second are measured
RATE_STEP = 0.2  # seconds between two samples of it
Verb = Literal["done", "cancelled", "failed", "retry", "release"]


class RunningJob:
    """A `JobHandle` over Redis; `claim` makes it. Used by one thread, but for `beat` and `stop`.

    Attributes:
        kind: the name of its function.
        timeout: seconds that this attempt may take.
        told: whether the function has been told to stop, and why it was.
    """

    def __init__(self, store: Store, job_id: str, row: Sequence[bytes], urgent: Sequence[QueueName]) -> None:
        attempt, kind, queue, payload, timeout, checkpoint, kept, dropped = row
        names: Sequence[str] = QUEUES
        self.store = store
        self.id = job_id
        self.kind = kind.decode()
        self.attempt = int(attempt)
        self.payload: JSONDict = json.loads(payload)
        self.timeout = int(timeout)
        self.told: StopReason = ""
        self._stop: StopReason = ""
        self._dropped = frozenset((dropped or b"").decode().split())
        self._more_urgent = [name for name in urgent if QUEUES.index(name) < names.index(queue.decode())]
        self._checkpoint = (checkpoint or b"").decode()
        self._written = 0  # checkpoints of this attempt
        self._parts = int(kept or 0)
        self._report = (0.0, 0.0, "")
        self._samples: deque[tuple[float, float]] = deque()  # (monotonic time, done)
        self._rate = (0.0, 0.0)  # when measured, frames per second

    @property
    def stop_reason(self) -> StopReason:
        return self._stop

    @property
    def dropped(self) -> frozenset[str]:
        return self._dropped

    @property
    def rate(self) -> float:
        """Frames per second over the last seconds."""
        measured, rate = self._rate
        return rate if time.monotonic() - measured < RATE_WINDOW else 0.0

    def progress(self, done: float, total: float, note: str = "") -> None:
        """As `JobHandle.progress`: kept here until the next sign of life takes it along."""
        self._report = (float(done), float(total), note)
        now = time.monotonic()
        if self._samples and now - self._samples[-1][0] < RATE_STEP:
            return
        self._samples.append((now, float(done)))
        while now - self._samples[0][0] > RATE_WINDOW:
            self._samples.popleft()
        since, before = self._samples[0]
        if now > since:
            self._rate = (now, max(0.0, (done - before) / (now - since)))

    def cancelled(self) -> bool:
        """As `JobHandle.cancelled`: reads what the last sign of life brought back."""
        self.told = self._stop
        return bool(self.told)

    def stop(self, reason: StopReason) -> None:
        """Have the function stop at its next frame; the first reason counts, but for `lost`."""
        if not self._stop or reason == "lost":
            self._stop = reason

    def beat(self) -> None:
        """Give a sign of life with the progress, and learn whether to stop."""
        done, total, note = self._report
        reason, dropped = self.store.run(
            scripts.BEAT, self.id, self.attempt, done, total, note, round(self.rate, 3), *self._more_urgent
        )
        self._dropped |= frozenset(dropped.decode().split())
        if reason:
            self.stop(cast(StopReason, reason.decode()))

    def checkpoint(self, blob: bytes) -> None:
        """As `JobHandle.checkpoint`. Chunks are written first and count once the record names them."""
        if len(blob) > CHECKPOINT_LIMIT:
            raise InputError("checkpoint", f"expected at most {CHECKPOINT_LIMIT} bytes, got {len(blob)}")
        self._written += 1
        token = f"{self.attempt}-{self._written}"
        pieces = [blob[i : i + CHUNK] for i in range(0, len(blob), CHUNK)] or [b""]
        for number, piece in enumerate(pieces):
            key = self.store.key("chunk", self.id, token, str(number))
            with reaching_redis():
                self.store.redis.set(key, piece, ex=UNCOMMITTED_TTL)
        self._held(self.store.run(scripts.CHECKPOINT, self.id, self.attempt, token, len(pieces)))
        self._checkpoint = f"{token}:{len(pieces)}"

    def last_checkpoint(self) -> bytes | None:
        """As `JobHandle.last_checkpoint`."""
        if not self._checkpoint:
            return None
        token, _, count = self._checkpoint.rpartition(":")
        keys = [self.store.key("chunk", self.id, token, str(number)) for number in range(int(count))]
        with reaching_redis():
            pieces = self.store.ask(self.store.redis.mget(keys), list)
        if None in pieces:  # only another owner of the job removes them
            raise JobLost(f"the checkpoint of job {self.id} has been replaced")
        return b"".join(pieces)

    def partial(self, part: JSON) -> None:
        """As `JobHandle.partial`."""
        text = dump_json("part", part, PART_LIMIT)
        self._held(self.store.run(scripts.APPEND, self.id, self.attempt, self._parts, text))
        self._parts += 1

    def partials(self) -> list[JSON]:
        """As `JobHandle.partials`."""
        with reaching_redis():
            parts = self.store.redis.lrange(self.store.key("parts", self.id), 0, self._parts - 1)
        return [json.loads(part) for part in self.store.ask(parts, list)] if self._parts else []

    def picture(self, jpeg: bytes) -> None:
        """As `JobHandle.picture`."""
        self._held(self.store.run(scripts.PICTURE, self.id, self.attempt, checked_picture(jpeg)))

    def settle(self, verb: Verb, text: str) -> bool:
        """End this attempt, with the progress as it is; False: the job was not ours any more."""
        self.beat()
        return bool(self.store.run(scripts.SETTLE, self.id, self.attempt, verb, text))

    def _held(self, answer: int) -> None:
        if not answer:
            self.stop("lost")
            raise JobLost(f"job {self.id} belongs to another worker now")


def claim(store: Store, job_id: str, worker: str, queues: Sequence[QueueName] = QUEUES) -> RunningJob | None:
    """Take a job that is due; None: it is not, somebody else has it, or it failed as it cannot be read.

    Args:
        store: the queue.
        job_id: from a ticket.
        worker: who takes it.
        queues: those that the worker serves: it makes room for more urgent jobs of these only.
    """
    row = store.run(scripts.CLAIM, job_id, worker, uuid.uuid4().hex)
    if row is None:
        return None
    urgent = [name for name in QUEUES if name in queues]
    try:
        return RunningJob(store, job_id, row, urgent)
    except (AttributeError, TypeError, ValueError) as error:
        reason = f"its record cannot be read ({type(error).__name__}): written by another release?"
        store.run(scripts.SETTLE, job_id, int(row[0]), "failed", reason)
        return None
