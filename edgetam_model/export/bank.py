"""What a host remembers of one object, and which of it a frame reads. `memory` says the same with torch."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.windows import Window

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Trace:
    """Where an object was on a frame, and what every place there looked like. h = w = S/4.

    Attributes:
        keys: (K, h, w) of the image encoder.
        labels: (16, h, w) of the memory encoder.
        window: what they cover.
    """

    keys: Array
    labels: Array
    window: Window

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(S, S): the mask that the labels were made of; 4 × 4 of its pixels are one place's labels."""
        side = self.labels.shape[1]
        cells = (self.labels > 0).reshape(4, 4, side, side)
        return cells.transpose(2, 0, 3, 1).reshape(4 * side, 4 * side)

    def place(self, window: Window) -> Array:
        """(4,) x0, y0, width, height of this trace's window in units of another, from its corner."""
        (height, width), (rows, columns) = window.size, self.window.size
        place = (
            (self.window.x0 - window.x0) / width,
            (self.window.y0 - window.y0) / height,
            columns / width,
            rows / height,
        )
        return np.array(place, np.float32)


@dataclass(frozen=True, eq=False)
class Memory:
    """What is remembered of one object on one frame.

    Attributes:
        frame: 0-based index.
        pointer: (C,) of the decoder.
        present: whether the object was there; else the pointer says nothing.
        latents: (L, Cm) of the memory encoder; None once only the pointer can still be asked for.
        trace: None once nobody can ask for it, or where the model leaves none.
    """

    frame: int
    pointer: Array
    present: bool
    latents: Array | None
    trace: Trace | None = None


@dataclass(frozen=True, eq=False)
class Recall:
    """The memories that one object brings to one frame, in the order of the slots.

    Attributes:
        latents: (L, Cm) each.
        ages: of each: 0 for a conditioning memory, or frames back from now.
        pointers: (C,) each.
        present: of each pointer.
        recent: trace of the frame before.
        shown: trace of the nearest conditioning frame, those already passed first.
    """

    latents: list[Array]
    ages: list[int]
    pointers: list[Array]
    present: list[bool]
    recent: Trace | None
    shown: Trace | None


class MemoryBank:
    """One object's memories: all conditioning ones, and recent ones of each direction.

    Args:
        config: gives the number of recent memories and pointers.
    """

    def __init__(self, config: EdgeTAMConfig) -> None:
        self.recent_memories = config.recent_memories
        self.pointer_reach = config.max_pointers - 1
        self.conditioning: dict[int, Memory] = {}
        self.recent: dict[bool, dict[int, Memory]] = {False: {}, True: {}}
        self.frontier: dict[bool, int] = {}

    def remember(self, memory: Memory, *, reverse: bool) -> None:
        """Add a tracked frame's memory, and forget what no later frame can ask for."""
        ahead, frame = min if reverse else max, memory.frame
        self.recent[reverse][frame] = memory
        self.frontier[reverse] = ahead(self.frontier.get(reverse, frame), frame)
        heads = frame, self.frontier[reverse]
        kept = {}
        for known, one in self.recent[reverse].items():
            distance = min(abs(known - head) for head in heads)
            if distance <= self.pointer_reach:
                latents = one.latents if distance < self.recent_memories else None
                kept[known] = replace(one, latents=latents, trace=None if distance else one.trace)
        self.recent[reverse] = kept

    def forget(self, frames: range, prompted: Container[int]) -> None:
        """Drop recent memories of these frames but prompted ones: a correction has just denied them."""
        for reverse, memories in self.recent.items():
            self.recent[reverse] = {f: m for f, m in memories.items() if f not in frames or f in prompted}

    def recall(self, frame: int, *, reverse: bool, max_conditioning: int) -> Recall:
        """What a frame reads: conditioning memories in order of time, then recent ones, oldest first."""
        sign = -1 if reverse else 1
        chosen = nearest_conditioning([f for f in self.conditioning if f != frame], frame, max_conditioning)
        others = {f: m for f, m in self.conditioning.items() if f not in chosen}
        passed = others | self.recent[reverse]
        read = [(self.conditioning[f], 0) for f in chosen]
        for age in range(self.recent_memories, 0, -1):
            memory = passed.get(frame - sign * age)
            if memory is not None:
                read.append((memory, age))
        kept = [(memory.latents, age) for memory, age in read if memory.latents is not None]

        behind = [f for f in chosen if (frame - f) * sign >= 0]
        before = (passed.get(frame - sign * back) for back in range(1, self.pointer_reach + 1))
        pointed = [self.conditioning[f] for f in behind] + [memory for memory in before if memory is not None]
        shown, recent = self._traces(frame, sign, behind or chosen, passed)
        return Recall(
            [latents for latents, _ in kept],
            [age for _, age in kept],
            [memory.pointer for memory in pointed],
            [memory.present for memory in pointed],
            recent,
            shown,
        )

    def _traces(
        self, frame: int, sign: int, prompted: Sequence[int], passed: dict[int, Memory]
    ) -> tuple[Trace | None, Trace | None]:
        """Of the nearest of these prompted frames, and of the frame before."""
        nearest = min(prompted, key=lambda f: abs(frame - f), default=None)
        shown = None if nearest is None else self.conditioning[nearest].trace
        before = (passed | self.conditioning).get(frame - sign)
        return shown, shown if before is None or before.trace is None else before.trace


def nearest_conditioning(frames: Sequence[int], frame: int, limit: int) -> list[int]:
    """At most `limit` (≥ 2) of `frames`, in order: nearest before, nearest after, then nearest."""
    if len(frames) <= limit:
        return sorted(frames)
    before, after = [f for f in frames if f < frame], [f for f in frames if f > frame]
    chosen = ([max(before)] if before else []) + ([min(after)] if after else [])
    rest = sorted((f for f in frames if f not in chosen), key=lambda f: (abs(f - frame), f))
    return sorted(chosen + rest[: limit - len(chosen)])
