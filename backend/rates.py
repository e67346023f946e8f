"""How often somebody may ask: token buckets, and the refusal that says when to come again."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from edgetam_model import EdgeTAMError

KEPT = 10_000  # buckets in memory; one that is forgotten counts as full
LONGEST_DEBT = 60.0  # seconds that a client can owe, however much it has charged
# look: change nothing. take: one token where there is one. charge: one token, on credit where there is none.
Verb = Literal["look", "take", "charge"]


class TooManyRequests(EdgeTAMError):  # noqa: N818  a state of a client
    """A client asks too often; `retry_after` is the number of seconds to wait, `reason` what is limited."""

    def __init__(self, reason: Literal["requests", "passwords"], what: str, seconds: float) -> None:
        self.reason = reason
        self.retry_after = max(1, math.ceil(seconds))
        super().__init__(f"{what}; try again in {self.retry_after} s")


@dataclass(frozen=True)
class Rate:
    """So many in a minute, evenly; `burst` of them at once.

    Attributes:
        per_minute: above 0.
        burst: at least 1: what a client that has been quiet may do at once.
    """

    per_minute: float
    burst: float

    @property
    def per_second(self) -> float:
        """Tokens that come back each second."""
        return self.per_minute / 60

    @property
    def floor(self) -> float:
        """The lowest level that charges lead to."""
        return min(0.0, 1 - self.per_second * LONGEST_DEBT)


class Buckets(Protocol):
    """Buckets by name. May be shared between threads; each verb is one step."""

    def ask(self, verb: Verb, name: str, rate: Rate) -> float:
        """Do what the verb says; seconds until there is a token, 0 where there was one."""


class MemoryBuckets:
    """Buckets of this process alone: the twin of `RedisBuckets`, and what counts while Redis is away.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # level, and when it was so
        self._guard = threading.Lock()

    def ask(self, verb: Verb, name: str, rate: Rate) -> float:
        """As `Buckets` says."""
        with self._guard:
            now = self._clock()
            level, since = self._levels.pop(name, (rate.burst, now))
            level = min(rate.burst, level + (now - since) * rate.per_second)
            wait = max(0.0, (1 - level) / rate.per_second)
            if verb == "charge" or (verb == "take" and wait == 0):
                level = max(rate.floor, level - 1)
            self._levels[name] = level, now
            if len(self._levels) > KEPT:
                self._levels.popitem(last=False)
        return wait
