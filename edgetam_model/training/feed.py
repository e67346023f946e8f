"""Clips as a model takes them: any source's batch becomes network input and one row per followed object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from edgetam_model.model import normalised
from edgetam_model.training.synthetic.clips import ClipBatch


class ClipSource(Protocol):
    """Where clips come from. The same call gives the same clips, so that training can be resumed."""

    def batch(self, seed: int, start: int, count: int) -> ClipBatch:
        """Clips `start` to `start + count - 1` of an endless sequence."""


@dataclass(frozen=True, eq=False)
class Rows:
    """B clips as network input, and N objects followed in them.

    Attributes:
        images: float32 (B, T, 3, S, S), normalised.
        clip: int64 (N,) each object's clip.
        masks: bool (N, T, S, S).
        weight: float32 (N,) 0 for an object that cannot be shown, since it is not on the first frame.
    """

    images: Tensor
    clip: Tensor
    masks: Tensor
    weight: Tensor

    @property
    def frames(self) -> int:
        """T."""
        return int(self.images.shape[1])


def choose_objects(batch: ClipBatch, count: int, random: torch.Generator) -> Tensor:
    """(B, count) int64: objects to follow in each clip, those on the first frame first, in random order."""
    number = batch.masks.shape[2]
    draw = torch.rand(len(batch), number, generator=random).to(batch.masks.device)
    order = (draw + batch.present[:, 0]).argsort(dim=1, descending=True)
    return order[:, :count]


def to_rows(batch: ClipBatch, objects: Tensor, size: int) -> Rows:
    """Network input of side `size`, and the masks of the chosen `objects` (B, P)."""
    clips, number = objects.shape
    clip = torch.arange(clips, device=objects.device).repeat_interleave(number)
    chosen = objects.flatten()
    masks = batch.masks[clip, :, chosen]
    if masks.shape[-2:] != (size, size):
        small = F.interpolate(masks.float(), size=(size, size), mode="bilinear", antialias=True)
        masks = small >= 0.5
    weight = masks[:, 0].flatten(1).any(dim=1).float()
    return Rows(to_images(batch.frames, size), clip, masks, weight)


def to_images(frames: Tensor, size: int) -> Tensor:
    """uint8 (B, T, 3, H, W) → float32 (B, T, 3, S, S), resized and normalised as the engine does."""
    flat = frames.flatten(0, 1)
    if flat.shape[-2:] != (size, size):
        if flat.device.type != "cpu":  # which alone resizes bytes, and rounds to them
            flat = flat.float()
        flat = F.interpolate(flat, size=(size, size), mode="bilinear", antialias=True)
    return normalised(flat.float()).unflatten(0, frames.shape[:2])
