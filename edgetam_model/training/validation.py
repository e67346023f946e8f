"""How good a model is on clips that it is not trained on, by the same roll-out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgetam_model.model import EdgeTAM
from edgetam_model.training.feed import ClipSource, Rows, to_rows
from edgetam_model.training.losses import mask_iou
from edgetam_model.training.prompting import Kind, random_for
from edgetam_model.training.recipe import PromptMix, Validation
from edgetam_model.training.rollout import Plan, Rollout, Simulated, roll_out

EXACT = PromptMix(box_noise=0.0, centred=1.0)


@dataclass(frozen=True)
class Scores:
    """Means over the held-out clips' main objects, 0 to 1.

    Attributes:
        box, click: IoU on the first frame from an exact box, and from a click in the middle.
        track: J of each later frame, followed from the true mask of the first.
    """

    box: float
    click: float
    track: tuple[float, ...]

    @property
    def mean_track(self) -> float:
        """Mean of `track`; 0 where clips have one frame only."""
        return sum(self.track) / len(self.track) if self.track else 0.0

    @property
    def mean(self) -> float:
        """One number to choose by: of the box, the click and, where clips have several frames, the track."""
        parts = (self.box, self.click, *((self.mean_track,) if self.track else ()))
        return sum(parts) / len(parts)


@torch.inference_mode()
def validate(model: EdgeTAM, clips: ClipSource, options: Validation, batch: int) -> Scores:
    """Score a model in eval mode on clips 0 … of the validation's seed, `batch` at a time."""
    found: list[Tensor] = []
    weights: list[Tensor] = []
    for start in range(0, options.clips, batch):
        made = clips.batch(options.seed, start, min(batch, options.clips - start))
        first = torch.zeros(len(made), 1, dtype=torch.long, device=made.masks.device)
        rows = to_rows(made, first, model.config.image_size)
        found.append(torch.stack([*_stills(model, rows), *_track(model, rows)], dim=1))
        weights.append(rows.weight)
    weight = torch.cat(weights)[:, None]
    mean = (torch.cat(found) * weight).sum(0) / weight.sum().clamp(min=1)
    box, click, *track = mean.tolist()
    return Scores(box, click, tuple(track))


def _stills(model: EdgeTAM, rows: Rows) -> list[Tensor]:
    """(N,) IoU each, from a box and from a click on the first frame."""
    still = Rows(rows.images[:, :1], rows.clip, rows.masks[:, :1], rows.weight)
    return [_iou(_roll(model, still, kind), still, 0) for kind in ("box", "click")]


def _track(model: EdgeTAM, rows: Rows) -> list[Tensor]:
    """(N,) IoU of each frame after the first."""
    if rows.frames == 1:
        return []
    rollout = _roll(model, rows, "mask")
    return [_iou(rollout, rows, frame) for frame in range(1, rows.frames)]


def _roll(model: EdgeTAM, rows: Rows, kind: Kind) -> Rollout:
    plan = Plan(kind, None, 0, torch.zeros(rows.frames, len(rows.clip), dtype=torch.bool))
    return roll_out(model, rows, plan, Simulated(EXACT, random_for(0)))


def _iou(rollout: Rollout, rows: Rows, frame: int) -> Tensor:
    chosen = rollout.last(frame).chosen[:, None].float()
    return mask_iou(
        F.interpolate(chosen, size=rows.masks.shape[-2:], mode="bilinear")[:, 0], rows.masks[:, frame]
    )
