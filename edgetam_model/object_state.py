"""Everything that is remembered of one tracked object, small enough to travel with every request."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.errors import InputError, StateError
from edgetam_model.masks import Box
from edgetam_model.memory import Memory, MemoryBank
from edgetam_model.model import EdgeTAM
from edgetam_model.nn.evidence import LABELS, Trace
from edgetam_model.packing import Tensors, seal, unseal
from edgetam_model.windows import Window

VERSION = 1
KIND = "state"
MAX_FRAMES = 2**31  # no video has more; a larger number is no count of frames
ANEW = "start tracking anew"
OTHER_WEIGHTS = f"made with other weights than this tracker has: {ANEW}"
PRECISIONS = (torch.float16, torch.float32)


@dataclass(frozen=True, eq=False)
class ObjectState:
    """One object between two frames.

    Attributes:
        model: fingerprint of the weights that made it.
        size: (H, W) of the frames.
        frames: how many frames the object was seen on, the prompted one included.
        memories: of the prompted frame, which counts 0, then of recent frames, oldest first.
        doubtful: how many frames in a row, up to the last one, had no reliable mask.
        box: x0, y0, x1, y1 in pixels where the object was last visible; None: never.
    """

    model: str
    size: tuple[int, int]
    frames: int
    memories: tuple[Memory, ...]
    doubtful: int
    box: Box | None

    def bank(self, config: EdgeTAMConfig, like: Tensor) -> MemoryBank:
        """The memories as tracking reads them, on the device and in the precision of `like`."""
        bank = MemoryBank(config, config.recent_memories)
        # Evidence is read in float32, whatever the model computes in.
        shown, *recent = (_cast(m, like.dtype, like.device, torch.float32) for m in self.memories)
        bank.conditioning[shown.frame] = shown
        bank.recent[False] = {memory.frame: memory for memory in recent}
        return bank

    def after(self, memory: Memory, doubtful: int, config: EdgeTAMConfig) -> ObjectState:
        """The state with a tracked frame's memory added, and what no later frame asks for forgotten."""
        shown, *recent = self.memories
        bank = MemoryBank(config, config.recent_memories)
        bank.recent[False] = {old.frame: old for old in recent}
        bank.remember(memory, reverse=False)
        memories = (shown, *bank.recent[False].values())
        return replace(self, frames=self.frames + 1, memories=memories, doubtful=doubtful)

    def to_bytes(self) -> bytes:
        """The state as bytes, at most 0.5 MB in float16; `FrameTracker.restore` is the exact inverse."""
        header = _Header(
            model=self.model, size=self.size, frames=self.frames, doubtful=self.doubtful, box=self.box
        )
        latents = [m.latents for m in self.memories if m.latents is not None]
        traces = [m.trace for m in self.memories if m.trace is not None]
        tensors = {
            "pointers": torch.stack([m.pointer for m in self.memories]),
            "latents": torch.stack(latents),
        }
        if traces:
            together = Trace.stack(traces)
            tensors |= {"keys": together.keys, "labels": together.labels, "windows": together.window}
        plain = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        return seal(KIND, {"version": VERSION} | header.model_dump(), plain)


class _Header(BaseModel):
    """What a state says in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    size: tuple[int, int]
    frames: int = Field(strict=True, ge=1, lt=MAX_FRAMES)
    doubtful: int = Field(strict=True, ge=0, lt=MAX_FRAMES)
    box: Box | None


def read_state(blob: bytes, fingerprint: str, model: EdgeTAM) -> ObjectState:
    """The inverse of `ObjectState.to_bytes`, for a model and its fingerprint.

    Raises:
        StateError: damaged bytes, or of another version or model.
    """
    try:
        values, tensors = unseal(KIND, blob)
    except InputError as error:
        raise StateError(KIND, error.problem) from error
    version = values.pop("version", None)
    if version != VERSION:
        raise StateError(KIND, f"expected one of version {VERSION}, got {version!r:.20}: {ANEW}")
    try:
        header = _Header.model_validate(values)
    except ValidationError as error:
        raise StateError(KIND, "not the bytes of a state: its header is wrong") from error
    if header.model != fingerprint:
        raise StateError(KIND, OTHER_WEIGHTS)
    _check_tensors(tensors, header, model.config)
    memories = _memories({name: t.to(model.device) for name, t in tensors.items()}, header.frames)
    return ObjectState(header.model, header.size, header.frames, memories, header.doubtful, header.box)


def _shapes(frames: int, config: EdgeTAMConfig) -> dict[str, tuple[int, ...]]:
    """What a state holds after so many frames: `MemoryBank` forgets the rest."""
    recent = frames - 1
    shapes: dict[str, tuple[int, ...]] = {
        "pointers": (1 + min(recent, config.max_pointers), config.width),
        "latents": (1 + min(recent, config.recent_memories), config.latents, config.memory_width),
    }
    if config.evidence_width:
        traces, side = min(frames, 2), config.low_res
        shapes["keys"] = (traces, config.evidence_width, side, side)
        shapes["labels"] = (traces, LABELS, side, side)
        shapes["windows"] = (traces, 4)
    return shapes


def _check_tensors(tensors: Tensors, header: _Header, config: EdgeTAMConfig) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != _shapes(header.frames, config):
        raise StateError(KIND, "not the bytes of a state: its memories have the wrong sizes")
    for tensor in tensors.values():
        if tensor.dtype not in PRECISIONS or not bool(tensor.isfinite().all()):
            raise StateError(KIND, "not the bytes of a state: its memories are no finite numbers")
    places = tensors["windows"].tolist() if "windows" in tensors else []
    for corners in [*places, *([] if header.box is None else [header.box])]:
        try:
            inside = Window(*(round(corner) for corner in corners)).fits(header.size)
        except InputError:
            inside = False
        if not inside:
            raise StateError(KIND, "not the bytes of a state: it looks outside its image")


def _memories(tensors: Tensors, frames: int) -> tuple[Memory, ...]:
    pointers, latents = tensors["pointers"], tensors["latents"]
    forgotten = len(pointers) - len(latents)  # memories between the prompt and the recent ones: pointers only
    memories = []
    for row, pointer in enumerate(pointers):
        frame = frames - len(pointers) + row if row else 0
        place = row - forgotten if row else 0
        remembered = latents[place] if place > 0 or not row else None
        trace = _trace(tensors, row, frame == frames - 1)
        memories.append(Memory(frame, pointer, remembered, trace))
    return tuple(memories)


def _trace(tensors: Tensors, row: int, last: bool) -> Trace | None:
    """Only the prompted frame and the last one keep their traces."""
    if "keys" not in tensors or (row and not last):
        return None
    index = 1 if row else 0
    return Trace(tensors["keys"][index], tensors["labels"][index], tensors["windows"][index])


def rounded(memory: Memory, precision: torch.dtype) -> Memory | None:
    """A memory in a state's precision; None where it holds no finite numbers then."""
    small = _cast(memory, precision, memory.pointer.device)
    values = [small.pointer]
    if small.latents is not None:
        values.append(small.latents)
    if small.trace is not None:
        values += [small.trace.keys, small.trace.labels]
    return small if all(bool(value.isfinite().all()) for value in values) else None


def _cast(
    memory: Memory, dtype: torch.dtype, device: torch.device, trace_dtype: torch.dtype | None = None
) -> Memory:
    trace = memory.trace
    if trace is not None:
        kind = trace_dtype or dtype
        # A window's corners are pixels of the frame, of which float16 counts no more than 2048.
        trace = Trace(trace.keys.to(device, kind), trace.labels.to(device, kind), trace.window.to(device))
    latents = None if memory.latents is None else memory.latents.to(device, dtype)
    return Memory(memory.frame, memory.pointer.to(device, dtype), latents, trace)
