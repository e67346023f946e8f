"""Numbers for a monitor, in Prometheus's text format (version 0.0.4)."""

from __future__ import annotations

import bisect
import os
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from backend.jobs import QueueStats, WorkerStatus

UNEXPECTED = "unexpected"  # the kind of failures that nobody foresaw
# Of a client, of an address, of a project, and what all share: places inside, and the queues.
LIMITS = ("requests", "passwords", "project", "web", "interactive", "batch", "fit")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str]
# Seconds. A click on a known image takes some 0.05; /setup has 3 in Label Studio, all others 100.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class Family:
    """One metric with all its samples.

    Attributes:
        samples: (suffix of the name, labels, value), in the order in which they are written.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Sequence[tuple[str, Labels, float]]

    @classmethod
    def gauge(cls, name: str, help_text: str, value: float) -> Family:
        """One number that goes up and down."""
        return cls(name, "gauge", help_text, [("", {}, value)])


@dataclass
class _Times:
    """Requests of one route by how long they took."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def samples(self, labels: Labels) -> Iterable[tuple[str, Labels, float]]:
        so_far = 0
        for edge, count in zip((*BUCKETS, float("inf")), self.counts, strict=True):
            so_far += count
            yield "_bucket", {**labels, "le": _number(edge)}, so_far
        yield "_sum", labels, self.total
        yield "_count", labels, so_far


class Requests:
    """Counts the requests of this server; may be shared between threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts: dict[tuple[str, int], int] = {}
        self._times: dict[str, _Times] = {}
        self._failures: dict[str, int] = {UNEXPECTED: 0}  # a monitor sees a first one only as a step from 0
        self._limited: dict[str, int] = dict.fromkeys(LIMITS, 0)

    def add(self, route: str, status: int, seconds: float) -> None:
        """Count one request.

        Args:
            route: as registered, never as asked: a scanner must not make a metric of every path it tries.
            status: what it was answered.
            seconds: how long that took.
        """
        with self._guard:
            self._counts[route, status] = self._counts.get((route, status), 0) + 1
            times = self._times.setdefault(route, _Times())
            times.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
            times.total += seconds

    def fail(self, kind: str) -> None:
        """Count one request that ended in an error, by the error's class."""
        with self._guard:
            self._failures[kind] = self._failures.get(kind, 0) + 1

    def limit(self, reason: str) -> None:
        """Count one request that was answered with 429, by what is limited."""
        with self._guard:
            self._limited[reason] = self._limited.get(reason, 0) + 1

    def families(self) -> list[Family]:
        """Requests by route and status, their times by route, failures by kind, refusals by limit."""
        with self._guard:
            counts = [
                ("", {"route": route, "status": str(status)}, float(count))
                for (route, status), count in sorted(self._counts.items())
            ]
            times = [
                sample
                for route, known in sorted(self._times.items())
                for sample in known.samples({"route": route})
            ]
            failures = [("", {"kind": kind}, float(n)) for kind, n in sorted(self._failures.items())]
            limited = [("", {"limit": name}, float(n)) for name, n in sorted(self._limited.items())]
        return [
            Family("edgetam_requests_total", "counter", "Requests answered.", counts),
            Family("edgetam_request_seconds", "histogram", "Seconds until an answer.", times),
            Family("edgetam_failures_total", "counter", "Requests that failed, by the error.", failures),
            Family("edgetam_rate_limited_total", "counter", "Requests answered with 429, by limit.", limited),
        ]


def queue_families(stats: QueueStats, workers: Sequence[WorkerStatus]) -> list[Family]:
    """The queue's numbers."""
    waiting = [("", {"queue": name}, float(count)) for name, count in stats.waiting.items()]
    oldest = [("", {"queue": name}, seconds) for name, seconds in stats.oldest.items()]
    ended = [
        ("", {"kind": kind, "state": state}, float(count))
        for (kind, state), count in sorted(stats.ended.items())
    ]
    rates = [("", {"worker": worker.name}, worker.rate) for worker in workers]
    memory = [("", {"worker": worker.name}, float(worker.memory)) for worker in workers if worker.memory]
    return [
        Family("edgetam_queue_waiting", "gauge", "Jobs that wait.", waiting),
        Family("edgetam_queue_oldest_seconds", "gauge", "Seconds that the first job has waited.", oldest),
        Family.gauge("edgetam_jobs_running", "Jobs that workers hold.", stats.running),
        Family("edgetam_jobs_ended_total", "counter", "Jobs that ended, by how.", ended),
        Family.gauge("edgetam_workers", "Live workers.", stats.workers),
        Family("edgetam_worker_frames_per_second", "gauge", "What a worker does at present.", rates),
        Family("edgetam_worker_memory_bytes", "gauge", "Memory that a worker occupies.", memory),
    ]


def disk_families(folders: Mapping[str, Path]) -> list[Family]:
    """Free space where this process writes.

    Args:
        folders: by the names that the metric gets; one that is not there yet counts as its parent.
    """
    free: list[tuple[str, Labels, float]] = []
    for name, folder in folders.items():
        place = folder.expanduser().absolute()
        with suppress(OSError):  # a disk that is away has no number
            place = next(there for there in (place, *place.parents) if there.exists())
            free.append(("", {"folder": name}, float(shutil.disk_usage(place).free)))
    return [Family("edgetam_disk_free_bytes", "gauge", "Space that is left for files.", free)]


def process_families() -> list[Family]:
    """This process: its release, its processor time, and its memory where the system tells."""
    release = Family(
        "edgetam_build_info", "gauge", "1, with the release.", [("", {"version": _release()}, 1.0)]
    )
    times = os.times()
    cpu = Family(
        "process_cpu_seconds_total",
        "counter",
        "Processor time of the server.",
        [("", {}, times.user + times.system)],
    )
    size = resident_bytes()
    if not size:
        return [release, cpu]
    memory = Family.gauge("process_resident_memory_bytes", "Memory that the server occupies.", size)
    return [release, cpu, memory]


def resident_bytes() -> int:
    """Memory that this process occupies; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _release() -> str:
    try:
        return version("edgetam-labeling")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"


def render(families: Iterable[Family]) -> str:
    """The text of a /metrics answer; families without samples are left out."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {family.help}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for suffix, labels, value in family.samples:
            lines.append(f"{family.name}{suffix}{_labels(labels)} {_number(value)}")
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return "+Inf" if value == float("inf") else f"{value:.15g}"
