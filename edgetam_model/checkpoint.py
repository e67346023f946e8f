"""A session as bytes (safetensors and a checksum), so that another process goes on where this one stopped."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgetam_model.errors import CheckpointError, InputError
from edgetam_model.memory import Memory, MemoryBank
from edgetam_model.model import EdgeTAM
from edgetam_model.nn.evidence import Trace
from edgetam_model.options import TrackerOptions
from edgetam_model.packing import Tensors, byte_tensor, seal, unseal
from edgetam_model.prompts import Prompt
from edgetam_model.runtime.choosing import in_quality
from edgetam_model.session import TrackedObject, VideoSession
from edgetam_model.sources import FrameSource
from edgetam_model.windows import Window

VERSION = 1
PROMPT_FIELDS = ("points", "labels", "box", "mask", "logits", "window")
TRACE_FIELDS = ("keys", "labels", "window")


def save(session: VideoSession) -> bytes:
    """Everything but the video and the weights. Tracked frames keep their exact masks (see `store`)."""
    session.remember_prompts()
    tensors: Tensors = {}
    header = {
        "version": VERSION,
        "model": session.fingerprint,
        "options": session.options.to_dict(),
        "video": _video_facts(session.source),
        "objects": [_save_object(session, i, tensors) for i in session.objects],
    }
    return seal("session", header, tensors)


def restore(blob: bytes, model: EdgeTAM, source: FrameSource) -> VideoSession:
    """The inverse of `save`.

    Raises:
        CheckpointError: damaged bytes, or of another version, model or video.
    """
    try:
        header, tensors = unseal("session", blob)
    except InputError as error:
        raise CheckpointError(f"not a checkpoint of a video session: {error.problem}") from error
    try:
        if header["version"] != VERSION:
            raise CheckpointError(f"expected a checkpoint of version {VERSION}, got {header['version']}")
        options = TrackerOptions.from_dict(header["options"])
        session = VideoSession(in_quality(model, options.quality), options, source)
        if header["model"] != session.fingerprint:
            raise CheckpointError("the checkpoint was made with other weights")
        if header["video"] != _video_facts(source):
            raise CheckpointError(f"the checkpoint is of another video: {header['video']}")
        for saved in header["objects"]:
            _restore_object(session, saved, tensors)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError("not a checkpoint of a video session") from error
    return session


def _video_facts(source: FrameSource) -> dict[str, int]:
    return {"frames": len(source), "width": source.info.width, "height": source.info.height}


def _save_object(session: VideoSession, object_id: int, tensors: Tensors) -> dict[str, Any]:
    tracked = session.objects[object_id]
    bank, name = tracked.bank, str(object_id)
    for frame, prompt in tracked.prompts.items():
        for field in PROMPT_FIELDS:
            if (value := getattr(prompt, field)) is not None:
                array = np.array(value.corners if isinstance(value, Window) else value)
                tensors[f"{name}.prompt.{frame}.{field}"] = torch.from_numpy(array)
    _save_memories(f"{name}.conditioning", bank.conditioning, tensors)
    for reverse, memories in bank.recent.items():
        _save_memories(f"{name}.recent.{reverse:d}", memories, tensors)

    frames = session.store.frames(object_id)
    blobs = [session.store.get_packed(object_id, frame) for frame in frames]
    tensors[f"{name}.frames"] = byte_tensor(b"".join(blobs))
    tensors[f"{name}.index"] = torch.tensor([[f, len(b)] for f, b in zip(frames, blobs, strict=True)])
    return {
        "id": object_id,
        "prompts": list(tracked.prompts),
        "conditioning": list(bank.conditioning),
        "recent": [[list(bank.recent[reverse]), bank.frontier.get(reverse)] for reverse in (False, True)],
        "corrections": list(tracked.corrections.items()),
        "stale": list(tracked.stale.items()),
    }


def _save_memories(name: str, memories: dict[int, Memory], tensors: Tensors) -> None:
    for frame, memory in memories.items():
        tensors[f"{name}.{frame}.pointer"] = memory.pointer.cpu().contiguous()
        if memory.latents is not None:
            tensors[f"{name}.{frame}.latents"] = memory.latents.cpu().contiguous()
        if memory.trace is not None:  # as float32: rounded labels could move a window by a pixel
            for field in TRACE_FIELDS:
                value: Tensor = getattr(memory.trace, field)
                tensors[f"{name}.{frame}.trace.{field}"] = value.cpu().contiguous()


def _restore_memory(name: str, frame: int, tensors: Tensors, device: torch.device) -> Memory:
    latents, trace = tensors.get(f"{name}.latents"), None
    if f"{name}.trace.keys" in tensors:
        trace = Trace(*(tensors[f"{name}.trace.{field}"].to(device) for field in TRACE_FIELDS))
    return Memory(
        frame,
        tensors[f"{name}.pointer"].to(device),
        None if latents is None else latents.to(device),
        trace,
    )


def _restore_object(session: VideoSession, saved: dict[str, Any], tensors: Tensors) -> None:
    name, device = str(saved["id"]), session.model.device

    def memories(kind: str, frames: list[int]) -> dict[int, Memory]:
        return {frame: _restore_memory(f"{name}.{kind}.{frame}", frame, tensors, device) for frame in frames}

    bank = MemoryBank(session.model.config, session.latents_kept)
    bank.conditioning = memories("conditioning", saved["conditioning"])
    for reverse, (frames, frontier) in zip((False, True), saved["recent"], strict=True):
        bank.recent[reverse] = memories(f"recent.{reverse:d}", frames)
        if frontier is not None:
            bank.frontier[reverse] = frontier

    tracked = TrackedObject(bank)
    for frame in saved["prompts"]:
        values = (tensors.get(f"{name}.prompt.{frame}.{field}") for field in PROMPT_FIELDS)
        tracked.prompts[frame] = Prompt(*(None if value is None else value.numpy() for value in values))
    tracked.corrections = {frame: bool(reverse) for frame, reverse in saved["corrections"]}
    tracked.stale = {frame: bool(reverse) for frame, reverse in saved["stale"]}
    session.objects[saved["id"]] = tracked

    packed, offset = tensors[f"{name}.frames"].numpy().tobytes(), 0
    for frame, length in tensors[f"{name}.index"].tolist():
        session.store.put_packed(saved["id"], frame, packed[offset : offset + length])
        offset += length
