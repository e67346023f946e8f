"""What goes wrong, at random but by a seed: each fault begins, and most of them end by themselves."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.backend.web_fixtures import Answer, Asked
from tests.chaos.programs import Clock, Program

FILLER = "filler"
Fault = Callable[[], None]


@dataclass
class MediaServer:
    """How the videos' server behaves just now; give `answer` to a route."""

    content: bytes
    mood: str = "well"
    served: Counter[str] = field(default_factory=Counter)

    def answer(self, _asked: Asked) -> Answer:
        """No entity tag: what has none is fetched again for every job."""
        self.served[self.mood] += 1
        size = len(self.content)
        return {
            "well": Answer(self.content),
            "slow": Answer(self.content, pause_s=0.02),
            "cut": Answer(self.content, cut=size // 2),
            "failing": Answer(b"no", 503),
            "lying": Answer(self.content, declared=2 * size),
            "page": Answer(b"<html>sign in</html>"),
            "endless": Answer(self.content * 50, declared=-1, pause_s=0.02),
        }[self.mood]


@dataclass
class Faults:
    """Everything that can go wrong with a stack.

    Attributes:
        rng: decides what happens, when, and for how long.
        programs: redis, servers and workers.
        media: how the videos' server answers.
        clock: that of Redis, the only one that the queue uses.
        disks: those that may be filled; none where there are none of their own.
        done: how often each fault happened.
    """

    rng: random.Random
    programs: Sequence[Program]
    media: MediaServer
    clock: Clock
    disks: Sequence[Path] = ()
    done: Counter[str] = field(default_factory=Counter)
    pending: list[tuple[float, Fault]] = field(default_factory=list)
    ahead: float = 0.0  # seconds by which Redis's clock is off

    def kinds(self) -> dict[str, tuple[int, Fault]]:
        """Name → how often among the others, and what happens."""
        found: dict[str, tuple[int, Fault]] = {
            "a worker is killed": (6, lambda: self._killed("worker")),
            "the server is killed": (2, lambda: self._killed("server")),
            "a worker is asked to stop": (3, lambda: self._stopped("worker")),
            "a worker is paused": (3, lambda: self._paused("worker", 1, 9)),
            "the server is paused": (1, lambda: self._paused("server", 1, 3)),
            "Redis is away": (2, self._without_redis),
            "Redis is paused": (2, lambda: self._paused("redis", 1, 4)),
            "the media server misbehaves": (4, self._mood),
        }
        if self.clock.library:
            found["the clock jumps"] = (2, self._jump)
        if self.disks:
            found["a disk is full"] = (2, self._full)
        return found

    def run(self, seconds: float, pace: tuple[float, float] = (0.8, 3.0)) -> None:
        """Let things go wrong for so long, each kind once before any comes again; then all of it is ended."""
        end = time.monotonic() + seconds
        kinds = self.kinds()
        names, weights = list(kinds), [weight for weight, _ in kinds.values()]
        first = self.rng.sample(names, len(names))
        following = time.monotonic()
        while time.monotonic() < end:
            if time.monotonic() >= following:
                name = first.pop() if first else self.rng.choices(names, weights)[0]
                kinds[name][1]()
                self.done[name] += 1
                following = time.monotonic() + self.rng.uniform(*pace)
            self._end_what_is_due(time.monotonic())
            time.sleep(0.02)
        self.heal()

    def heal(self) -> None:
        """Nothing is wrong any more; the clock stays where it is."""
        self._end_what_is_due(float("inf"))
        self.media.mood = "well"
        for program in self.programs:
            program.send(signal.SIGCONT)
            program.ready()

    def _later(self, low: float, high: float, action: Fault) -> None:
        self.pending.append((time.monotonic() + self.rng.uniform(low, high), action))

    def _end_what_is_due(self, now: float) -> None:
        due = [entry for entry in self.pending if entry[0] <= now]
        self.pending = [entry for entry in self.pending if entry[0] > now]
        for _, action in sorted(due, key=lambda entry: entry[0]):
            action()

    def _one(self, role: str) -> Program | None:
        there = [program for program in self.programs if program.role == role and program.pid]
        return self.rng.choice(there) if there else None

    def _killed(self, role: str) -> None:
        program = self._one(role)
        if program:
            program.kill()
            self._later(0, 2, program.start)

    def _stopped(self, role: str) -> None:
        program = self._one(role)
        if program:
            program.send(signal.SIGTERM)
            self._later(6, 8, lambda: _again(program))

    def _paused(self, role: str, low: float, high: float) -> None:
        program = self._one(role)
        if program:
            program.send(signal.SIGSTOP)
            self._later(low, high, lambda: program.send(signal.SIGCONT))

    def _without_redis(self) -> None:
        program = self._one("redis")
        if program:
            program.stop()
            self._later(0.3, 4, program.start)

    def _mood(self) -> None:
        self.media.mood = self.rng.choice(("slow", "cut", "failing", "lying", "page", "endless"))
        self._later(2, 5, self._well)

    def _well(self) -> None:
        self.media.mood = "well"

    def _jump(self) -> None:
        """Up to an hour, either way, and often back: a clock that runs away says nothing new."""
        far = 0.0 if self.ahead and self.rng.random() < 0.5 else self.rng.uniform(-3600, 3600)
        self.ahead = far
        self.clock.set(far)

    def _full(self) -> None:
        disk = self.rng.choice(list(self.disks))
        filler = disk / FILLER
        with filler.open("wb") as file, suppress(OSError):
            free = os.statvfs(disk)
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
        self._later(1, 4, lambda: filler.unlink(missing_ok=True))


def _again(program: Program) -> None:
    """A service manager's restart."""
    program.stop()
    program.start()
