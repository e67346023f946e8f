"""Two ways to do the same thing, timed in turn: what disturbs one disturbs the other.

A turn lasts some tenths of a second, however often that repeats the work: what the other way leaves behind,
cold caches and threads that still look for work, is paid once a turn, as it is once in a video.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Work = Callable[[], object]
TURN_S = 0.3


@dataclass(frozen=True)
class Timing:
    """What one way took, in milliseconds; a turn counts as the mean of its runs.

    Attributes:
        median, least, most: of the clock.
        core: median of processor time, over all threads.
    """

    median: float
    least: float
    most: float
    core: float


@dataclass(frozen=True)
class Pair:
    """A reference and a candidate.

    Attributes:
        reference, candidate: what each took.
        ratio: median over rounds of reference / candidate, by the clock; 2 is twice as fast.
        core_ratio: the same of processor time, which other work on the machine disturbs less.
        rounds: turns of each, after a first run that does not count.
    """

    reference: Timing
    candidate: Timing
    ratio: float
    core_ratio: float
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def paired(reference: Work, candidate: Work, rounds: int, turn: float = TURN_S) -> Pair:
    """Run both in turn, so often, for at least `turn` seconds each time."""
    reference()
    candidate()
    taken: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for number in range(rounds):
        if number % 2:  # who comes second finds caches filled by the other
            second = _timed(candidate, turn)
            taken.append((_timed(reference, turn), second))
        else:
            taken.append((_timed(reference, turn), _timed(candidate, turn)))
    first, other = [one for one, _ in taken], [two for _, two in taken]
    return Pair(
        reference=_timing(first),
        candidate=_timing(other),
        ratio=statistics.median(one[0] / two[0] for one, two in taken),
        core_ratio=statistics.median(one[1] / two[1] for one, two in taken),
        rounds=rounds,
    )


def single(work: Work, rounds: int) -> Timing:
    """One way alone, after a first run that does not count."""
    work()
    return _timing([_timed(work, 0) for _ in range(rounds)])


def _timed(work: Work, turn: float) -> tuple[float, float]:
    """Milliseconds of a run, by the clock and of the processor."""
    used, start, runs = time.process_time(), time.perf_counter(), 0
    while not runs or time.perf_counter() - start < turn:
        work()
        runs += 1
    clock, core = time.perf_counter() - start, time.process_time() - used
    return clock / runs * 1e3, max(core, 1e-9) / runs * 1e3


def _timing(taken: Sequence[tuple[float, float]]) -> Timing:
    clock = [one for one, _ in taken]
    core = statistics.median(used for _, used in taken)
    return Timing(statistics.median(clock), min(clock), max(clock), core)
