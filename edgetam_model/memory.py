"""What the tracker remembers: `MemoryBank` holds one object's memories, a fixed number of them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.model import EdgeTAM
from edgetam_model.model_io import Remembered, Seen
from edgetam_model.nn.evidence import Trace

CONDITIONING = 0  # temporal position of a conditioning frame; recent ones count 1, 2 … back from now


@dataclass(frozen=True)
class Memory:
    """What is remembered of one object on one frame.

    Attributes:
        frame: 0-based index.
        pointer: (C,) object pointer.
        latents: (L, Cm) compressed memory; None once only the pointer can still be asked for.
        trace: what evidence is read from; None once nobody can ask for it, or where the model leaves none.
    """

    frame: int
    pointer: Tensor
    latents: Tensor | None
    trace: Trace | None = None


@dataclass(frozen=True)
class Recall:
    """The memories that one object brings to one frame, in the order in which the model takes them.

    Attributes:
        latents: (L, Cm) each.
        ages: temporal position of each: `CONDITIONING`, or frames back from now.
        pointers: (C,) each.
        recent: trace of the frame before.
        shown: trace of the nearest conditioning frame, those already passed first.
    """

    latents: list[Tensor]
    ages: list[int]
    pointers: list[Tensor]
    recent: Trace | None = None
    shown: Trace | None = None


class MemoryBank:
    """One object's memories: all conditioning ones, and recent ones around where tracking stands.

    Recent memories are kept per direction, so that a pass backward does not depend on whether the pass
    forward came first. Their number is bounded: those within reach of the frame computed last, and those
    within reach of the frontier, from which tracking goes on after a stretch was corrected.

    Args:
        config: gives the number of recent memories and pointers.
        keep_latents: how many frames back a recent memory keeps its latents; at least what `recall` reads.
    """

    def __init__(self, config: EdgeTAMConfig, keep_latents: int) -> None:
        self.recent_memories = config.recent_memories
        self.pointer_reach = config.max_pointers - 1
        self.keep_latents = max(keep_latents, config.recent_memories)
        self.conditioning: dict[int, Memory] = {}
        self.recent: dict[bool, dict[int, Memory]] = {False: {}, True: {}}
        self.frontier: dict[bool, int] = {}

    def remember(self, memory: Memory, *, reverse: bool) -> None:
        """Add a tracked frame's memory, and forget what no later frame can ask for."""
        ahead = min if reverse else max
        frame = memory.frame
        self.recent[reverse][frame] = memory
        self.frontier[reverse] = ahead(self.frontier.get(reverse, frame), frame)
        self._prune(reverse, (frame, self.frontier[reverse]))

    def forget(self, frames: range, prompted: Container[int]) -> None:
        """Drop recent memories of these frames but prompted ones: a correction has just denied them."""
        for reverse, memories in self.recent.items():
            self.recent[reverse] = {f: m for f, m in memories.items() if f not in frames or f in prompted}

    def recall(self, frame: int, *, reverse: bool, max_conditioning: int) -> Recall:
        """The memories for `frame`: conditioning ones first, then recent ones, oldest first.

        Pointers: conditioning frames already passed, then the previous frames, nearest first. Missing
        ones are left out. Source: SAM 2 and the published EdgeTAM configuration.
        """
        sign = -1 if reverse else 1
        prompted = [f for f in self.conditioning if f != frame]  # a frame never recalls itself
        selected = nearest_conditioning(prompted, frame, max_conditioning)
        others = {f: m for f, m in self.conditioning.items() if f not in selected}
        passed = others | self.recent[reverse]

        latents, ages = [], []
        for f in selected:
            latents.append(_latents(self.conditioning[f]))
            ages.append(CONDITIONING)
        for age in range(self.recent_memories, 0, -1):
            memory = passed.get(frame - sign * age)
            if memory is not None and memory.latents is not None:
                latents.append(memory.latents)
                ages.append(age)

        pointers = [self.conditioning[f].pointer for f in selected if (frame - f) * sign >= 0]
        previous = (passed.get(frame - sign * back) for back in range(1, self.pointer_reach + 1))
        pointers += [memory.pointer for memory in previous if memory is not None]
        behind = [f for f in selected if (frame - f) * sign >= 0] or selected
        nearest = min(behind, key=lambda f: abs(frame - f), default=None)
        shown = None if nearest is None else self.conditioning[nearest].trace
        before = (passed | self.conditioning).get(frame - sign)
        recent = shown if before is None or before.trace is None else before.trace
        return Recall(latents, ages, pointers, recent, shown)

    def _prune(self, reverse: bool, heads: tuple[int, int]) -> None:
        kept = {}
        for frame, memory in self.recent[reverse].items():
            distance = min(abs(frame - head) for head in heads)
            if distance >= self.pointer_reach + 1:
                continue
            latents = memory.latents if distance < self.keep_latents else None
            kept[frame] = replace(memory, latents=latents, trace=None if distance else memory.trace)
        self.recent[reverse] = kept


def nearest_conditioning(frames: Sequence[int], frame: int, limit: int) -> list[int]:
    """At most `limit` (≥ 2) of `frames`: the nearest before, the nearest at or after, then the nearest."""
    if len(frames) <= limit:
        return sorted(frames)
    before = [f for f in frames if f < frame]
    after = [f for f in frames if f >= frame]
    chosen = ([max(before)] if before else []) + ([min(after)] if after else [])
    rest = sorted((f for f in frames if f not in chosen), key=lambda f: (abs(f - frame), f))
    return sorted(chosen + rest[: limit - len(chosen)])


def gather(model: EdgeTAM, recalls: Sequence[Recall]) -> Remembered:
    """Lay B objects' memories into common slots; shorter histories leave slots that are masked out."""
    slots = max(len(r.latents) for r in recalls)
    pointer_slots = max(len(r.pointers) for r in recalls)
    config, like = model.config, model.no_mem_embed
    latents = torch.zeros(
        len(recalls), slots, config.latents, config.memory_width, device=like.device, dtype=like.dtype
    )
    ages = torch.zeros(len(recalls), slots, dtype=torch.long, device=like.device)
    pointers = torch.zeros(len(recalls), pointer_slots, config.width, device=like.device, dtype=like.dtype)
    used = torch.zeros(len(recalls), slots, dtype=torch.bool, device=like.device)
    pointed = torch.zeros(len(recalls), pointer_slots, dtype=torch.bool, device=like.device)
    for row, recall in enumerate(recalls):
        latents[row, : len(recall.latents)] = torch.stack(recall.latents)
        ages[row, : len(recall.ages)] = torch.tensor(recall.ages)
        used[row, : len(recall.latents)] = True
        if recall.pointers:
            pointers[row, : len(recall.pointers)] = torch.stack(recall.pointers)
            pointed[row, : len(recall.pointers)] = True
    if bool(used.all()) and bool(pointed.all()):
        return Remembered(latents, ages, pointers)
    return Remembered(latents, ages, pointers, used, pointed)


def gather_seen(recalls: Sequence[Recall]) -> Seen | None:
    """B objects' traces as a batch; None where the model leaves none."""
    recent = [r.recent for r in recalls if r.recent is not None]
    shown = [r.shown for r in recalls if r.shown is not None]
    if len(recent) < len(recalls) or len(shown) < len(recalls):
        return None
    return Seen(Trace.stack(recent), Trace.stack(shown))


def gather_alike(model: EdgeTAM, recall: Recall) -> Remembered:
    """`gather` for B objects that remember the same frames: one recall whose tensors are (B, …) each.

    Training tracks batches in step, so that nothing is looped over the objects.
    """
    return Remembered(
        latents=torch.stack(recall.latents, dim=1),
        ages=torch.tensor([recall.ages], device=model.device),
        pointers=torch.stack(recall.pointers, dim=1),
    )


def _latents(memory: Memory) -> Tensor:
    assert memory.latents is not None, "conditioning memories keep their latents"
    return memory.latents
