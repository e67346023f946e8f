"""Keeps the trainer fed: the next clips are made while the current ones are learned from, and used again."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from edgetam_model.training.feed import ClipSource
from edgetam_model.training.synthetic.clips import ClipBatch

BLOCK = 16  # batches that take turns before one is used again


class Feeder:
    """Batches by their turn; the same turn always gives the same batch.

    With `reuse` above 1 each block of batches goes round so many times; from the second round on, a batch
    is mirrored, played backwards, both or neither.

    Args:
        source: where clips come from; called from a thread of the feeder's own.
        seed: of the clips and of their changes.
        size: clips in a batch.
        reuse: how often a clip is used.
        stride: from one turn that is asked for to the next; more than 1 where others take those between.
    """

    def __init__(self, source: ClipSource, seed: int, size: int, reuse: int, stride: int = 1) -> None:
        self._source = source
        self._seed = seed
        self._size = size
        self._reuse = reuse
        self._stride = stride
        self._thread = ThreadPoolExecutor(1, "edgetam-clips")
        self._made: dict[int, Future[ClipBatch]] = {}

    def batch(self, turn: int, random: torch.Generator) -> ClipBatch:
        """The batch of this turn; `random` decides how one that was used before is changed."""
        number = self._number(turn)
        block = number // BLOCK
        self._made = {n: made for n, made in self._made.items() if n // BLOCK >= block}
        for wanted in (number, self._number(turn + self._stride)):
            if wanted not in self._made:
                start = wanted * self._size
                self._made[wanted] = self._thread.submit(self._source.batch, self._seed, start, self._size)
        batch = self._made[number].result()
        used_before = turn % (BLOCK * self._reuse) >= BLOCK
        return changed(batch, random) if used_before else batch

    def close(self) -> None:
        """End the thread; what it is making is finished first."""
        self._thread.shutdown(cancel_futures=True)

    def _number(self, turn: int) -> int:
        """Which batch, counted without repetitions."""
        block, place = divmod(turn, BLOCK * self._reuse)
        return block * BLOCK + place % BLOCK


def changed(batch: ClipBatch, random: torch.Generator) -> ClipBatch:
    """The batch mirrored or backwards, each with probability 1/2."""
    mirrored, backwards = (torch.rand(2, generator=random) < 0.5).tolist()
    axes = [-1] * mirrored + [1] * backwards
    times = [1] * backwards
    return ClipBatch(
        batch.frames.flip(axes),
        batch.masks.flip(axes),
        batch.present.flip(times),
        batch.objects,
        batch.indices,
    )
