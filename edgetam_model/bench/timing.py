"""Two ways to do the same thing, timed in turn: what disturbs one disturbs the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """What one way took, in milliseconds.

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
        rounds: how often both were run, after a first time that does not count.
    """

    reference: Timing
    candidate: Timing
    ratio: float
    core_ratio: float
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def paired(reference: Work, candidate: Work, rounds: int) -> Pair:
    """Run both in turn, so often."""
    reference()
    candidate()
    taken: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for number in range(rounds):
        if number % 2:  # who comes second finds caches filled by the other
            second = _timed(candidate)
            taken.append((_timed(reference), second))
        else:
            taken.append((_timed(reference), _timed(candidate)))
    first, other = [one for one, _ in taken], [two for _, two in taken]
    return Pair(
        reference=_timing(first),
        candidate=_timing(other),
        ratio=statistics.median(one[0] / two[0] for one, two in taken),
        core_ratio=statistics.median(one[1] / two[1] for one, two in taken),
        rounds=rounds,
    )


def single(work: Work, rounds: int) -> Timing:
    """One way alone, after a first time that does not count."""
    work()
    return _timing([_timed(work) for _ in range(rounds)])


def _timed(work: Work) -> tuple[float, float]:
    """Milliseconds of the clock and of the processor."""
    used, start = time.process_time(), time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3, max(time.process_time() - used, 1e-9) * 1e3


def _timing(taken: Sequence[tuple[float, float]]) -> Timing:
    clock = [one for one, _ in taken]
    core = statistics.median(used for _, used in taken)
    return Timing(statistics.median(clock), min(clock), max(clock), core)
