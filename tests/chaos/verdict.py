"""What must hold at the end: each job ended once, results are those of a calm run, memory is flat."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backend.jobs import JobStatus, QueueUnavailable
from backend.queue import JobQueue
from backend.video_work import Found, read_parts
from tests.chaos.load import Load, Track
from tests.chaos.programs import Program

SETTLE = 0.2
LONG = 300.0  # seconds of a run by which memory is judged
YOUNG = 10.0  # seconds in which a process still grows: it loads a model
# Why a job may end in the dead-letter list under these faults. Everything else is a mistake of ours.
REASONS = re.compile(
    r"the worker stopped without a word|Redis cannot be reached or refuses"  # killed; away or full
    r"|was cut off|answered 503|is a web page|stalled|took more than|limit of [\d,]+ bytes|gave no answer"
    r"|EDGETAM_CACHE: cannot be written: No space left on device"
)


@dataclass
class Memory:
    """Samples of processes that are past their start: (when, role, bytes)."""

    samples: list[tuple[float, str, int]] = field(default_factory=list)

    def look(self, programs: Iterable[Program]) -> None:
        """Once."""
        for program in programs:
            seen = program.memory()
            if seen and seen[0] > YOUNG:
                self.samples.append((time.monotonic(), program.role, seen[1]))

    def growth(self, role: str) -> tuple[float, float] | None:
        """Megabytes in the middle of the first and of the last third of the time; None: too few samples."""
        mine = [(when, size / 2**20) for when, kind, size in self.samples if kind == role]
        third = len(mine) // 3
        if third < 3:
            return None
        first, last = ([size for _, size in part] for part in (mine[:third], mine[-third:]))
        return statistics.median(first), statistics.median(last)


@dataclass
class Report:
    """What came of it; `wrong` is empty where all held."""

    seed: int
    seconds: float
    faults: Counter[str]
    skipped: list[str]
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    equal: int = 0
    clicks: int = 0
    deliveries: int = 0
    annotations: int = 0
    revived: int = 0
    memory: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    settled: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people and for a log."""
        memory = ", ".join(
            f"{role} {grown[0]:.0f} → {grown[1]:.0f} MB" if grown else f"{role}: too few samples"
            for role, grown in self.memory.items()
        )
        return [
            f"seed {self.seed}, {self.seconds:.0f} s of chaos: {sum(self.faults.values())} faults "
            f"({', '.join(f'{n} × {name}' for name, n in self.faults.most_common())})",
            f"jobs by end: {dict(self.states)}; settled {self.settled:.1f} s after the last fault; "
            f"attempts of done ones: {dict(sorted(self.attempts.items()))}",
            f"dead letters by reason: {dict(self.reasons)}; {self.revived} of them done after a retry",
            f"{self.equal} tracks equal to the calm run, {self.clicks} clicks likewise; {self.deliveries} "
            f"deliveries of {self.annotations} annotations",
            f"memory, first → last third: {memory}",
            f"answers: {dict(self.statuses.most_common())}",
            *(f"skipped: {reason}" for reason in self.skipped),
            *(f"WRONG: {problem}" for problem in self.wrong),
        ]


def settle(queue: JobQueue, seconds: float) -> float:
    """Wait until no job waits or runs, but those that gather; seconds it took.

    Raises:
        AssertionError: jobs are left then.
    """
    begun = time.monotonic()
    while True:
        try:
            left = [job for job in queue.recent(10_000) if not job.is_over and job.kind != "fit"]
        except QueueUnavailable:
            left = None
        if left is not None and not left:
            return time.monotonic() - begun
        assert time.monotonic() - begun < seconds, f"jobs do not end: {left}"
        time.sleep(SETTLE)


def found_by(queue: JobQueue, job: JobStatus) -> tuple[Found, list[str]]:
    """A job's boxes, and frames that came twice."""
    parts = queue.partials(job.id)
    rows = [row for part in parts if isinstance(part, dict) for row in _rows(part)]
    twice = [f"frame {name} of job {job.id} came twice" for name, n in Counter(rows).items() if n > 1]
    return read_parts(parts)[1], twice


def _rows(part: Mapping[str, object]) -> list[str]:
    frames = part.get("frames")
    named = frames.items() if isinstance(frames, dict) else ()
    return [f"{region}/{row[0]}" for region, rows in named for row in rows]


def judge(report: Report, load: Load, calm: dict[int, Found], answers: dict[int, str]) -> None:
    """Hold every job against what it may be."""
    queue = load.queue
    known = [job for job in queue.recent(10_000) if job.kind == "track"]
    _once(report, queue, known)
    by_task: dict[str, list[JobStatus]] = {}
    for job in known:
        by_task.setdefault(job.title.partition(":")[0], []).append(job)
    for track in load.tracks:
        jobs = by_task.get(f"task {track.task}", [])
        if track.accepted and not jobs:
            report.wrong.append(f"task {track.task} was accepted, and there is no job of it")
        done = [job for job in jobs if job.state == "done"]
        if len(done) > 1:
            report.wrong.append(f"task {track.task} was tracked {len(done)} times")
        for job in done:
            _compare(report, load, track, job, calm[track.variant], answers[track.variant])
    for job in known:
        _dead(report, job)


def _once(report: Report, queue: JobQueue, known: Sequence[JobStatus]) -> None:
    """Ends as the jobs show them, and as they were counted when they happened."""
    report.states = Counter(job.state for job in known)
    counted = {state: n for (kind, state), n in queue.stats().ended.items() if kind == "track"}
    if counted != dict(report.states):
        report.wrong.append(f"ends counted: {counted}, jobs by end: {dict(report.states)}")


def _compare(report: Report, load: Load, track: Track, job: JobStatus, calm: Found, answer: str) -> None:
    report.attempts[job.attempt] += 1
    found, twice = found_by(load.queue, job)
    report.wrong += twice
    if found != calm:
        report.wrong.append(f"task {track.task} (attempt {job.attempt}) has other boxes than in the calm run")
    elif track.task % 4 != 3 and plain(load.answer_of(track), job.id) != answer:
        report.wrong.append(f"the answer of task {track.task} is another one than in the calm run")
    else:
        report.equal += 1


def plain(answer: object, job: str) -> str:
    """An answer as text, without the name of its job."""
    return json.dumps(answer, sort_keys=True).replace(job, "JOB")


def _dead(report: Report, job: JobStatus) -> None:
    if job.state != "failed":
        return
    reason = REASONS.search(job.error)
    report.reasons[reason[0] if reason else job.error] += 1
    if reason is None:
        report.wrong.append(f"job {job.id} failed: {job.error or 'without a reason'}")


def revive(report: Report, load: Load, calm: dict[int, Found], most: int, seconds: float) -> None:
    """Retry dead letters, as people do on the status page, now that nothing is wrong: they must end well."""
    variants = {f"task {track.task}": track.variant for track in load.tracks}
    dead = [job for job in load.queue.dead(most) if job.kind == "track"]
    for job in dead:
        load.post(f"/api/jobs/{job.id}/retry", {})
    settle(load.queue, seconds)
    for job in dead:
        now = load.queue.status(job.id)
        found = found_by(load.queue, job)[0]
        if now is None or now.state != "done" or found != calm[variants[job.title.partition(":")[0]]]:
            report.wrong.append(f"job {job.id} was retried: {now and now.state}, {now and now.error}")
        else:
            report.revived += 1


def gathered(report: Report, load: Load) -> None:
    """Each annotation counts once, however often and in whatever order it was told; then nobody wants it."""
    redis, key = load.queue.store.redis, load.queue.store.key
    waiting = {job.title: job for job in load.queue.recent(10_000) if job.kind == "fit"}
    for project, told in load.events.items():
        job = waiting.get(f"training of project {project}")
        names = redis.smembers(key("gathered", job.id)) if job else set()
        report.annotations += len(told)
        # What was not confirmed any more when the people left may have been counted.
        extra = {int(name) for name in names} - told
        if not {str(number).encode() for number in told} <= names or len(extra) > 1:
            report.wrong.append(f"project {project}: {len(told)} annotations told, {len(names)} counted")
        if job:
            load.post(f"/api/jobs/{job.id}/cancel", {})
            after = load.queue.status(job.id)
            if after is None or after.state != "cancelled":
                report.wrong.append(f"the training of project {project} cannot be cancelled")


def tracebacks(logs: Iterable[Path]) -> list[str]:
    """What no program should have logged."""
    found = []
    for log in logs:
        text = log.read_text(errors="replace")
        places = [match.start() for match in re.finditer(r"Traceback \(most recent call last\)", text)]
        found += [f"{log.name}: {text[max(0, at - 200) : at + 1500]}" for at in places]
    return found


def flat(report: Report, memory: Memory, share: float) -> None:
    """No kind of process may grow beyond this share of what it began with; minutes alone can tell."""
    for role in ("server", "worker", "redis"):
        grown = report.memory[role] = memory.growth(role)
        judged = role != "redis" and report.seconds >= LONG  # Redis holds the results of all that was done
        if judged and grown and grown[1] > share * grown[0]:
            report.wrong.append(f"{role}: {grown[0]:.0f} MB at the beginning, {grown[1]:.0f} MB at the end")
