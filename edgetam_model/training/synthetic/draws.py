"""Random numbers by counting: a clip's n-th draw depends on (seed, clip's index, n) and on nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ divided by the golden ratio, splitmix64's increment


class Draws:
    """A stream of draws for each of B clips at once; every method returns (B, *shape).

    A hash of counters and not a generator with a state, so that a batch of clips is drawn in one call and
    each clip is still the same alone.

    Args:
        seed: of all clips; any whole number.
        indices: (B,) the clips' own numbers.
    """

    def __init__(self, seed: int, indices: Ints) -> None:
        self._seed, self._indices = seed, indices
        start = np.array([seed % 2**64], np.uint64)
        self._keys = _mixed(_mixed(start + _STEP) ^ (indices.astype(np.uint64) * _STEP))
        self._calls = 0

    def beside(self, number: int) -> Draws:
        """A stream of its own for the same clips: what it is asked for changes nothing in this one."""
        return Draws(self._seed ^ number, self._indices)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Reals:
        """Evenly in [low, high)."""
        self._calls += 1
        counters = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(self._calls << 32)
        bits = _mixed(self._keys[:, None] + counters * _STEP)
        values = (bits >> np.uint64(11)) * 2.0**-53  # the 53 bits that a double holds
        return low + (high - low) * values.reshape(len(self._keys), *shape)

    def log_uniform(self, low: float, high: float, *shape: int) -> Reals:
        """Evenly in the logarithm, within [low, high)."""
        return np.exp(self.uniform(*shape, low=math.log(low), high=math.log(high)))

    def normal(self, *shape: int) -> Reals:
        """Standard normal: the sum of 12 even draws less 6, which ends at ±6 and needs no logarithm."""
        return np.asarray(self.uniform(*shape, 12).sum(axis=-1) - 6)

    def chance(self, probability: float, *shape: int) -> Bools:
        """True with this probability."""
        return self.uniform(*shape) < probability

    def integers(self, count: int, *shape: int) -> Ints:
        """Evenly among 0 … count − 1."""
        return np.floor(self.uniform(*shape) * count).astype(np.int64)

    def order(self, count: int) -> Ints:
        """(B, count): a random order of 0 … count − 1."""
        return np.argsort(self.uniform(count), axis=1, kind="stable")


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finalizer (Steele, Lea, Flood 2014): every bit of the input reaches every bit out."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
