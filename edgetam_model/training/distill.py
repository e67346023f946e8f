"""A student learns from a teacher: its features are drawn towards the teacher's, beside its own task.

Image features are aligned on every frame, features after memory attention where there are memories, both by
their mean squared difference. The two models may differ in everything: a linear adapter goes from one width
to the other, and maps of another grid are resized. Source: EdgeTAM (arXiv 2501.07256), section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.model import EdgeTAM
from edgetam_model.training.feed import Rows
from edgetam_model.training.prompting import Clicks
from edgetam_model.training.rollout import Plan, Replayed, Rollout, roll_out


class Adapters(nn.Module):
    """Linear maps from a student's features to a teacher's width; they are trained, and not kept."""

    def __init__(self, student: EdgeTAMConfig, teacher: EdgeTAMConfig) -> None:
        super().__init__()
        self.image = nn.Conv2d(student.width, teacher.width, 1)
        self.memory = nn.Conv2d(student.width, teacher.width, 1)


@dataclass(frozen=True, eq=False)
class Alignment:
    """How far a student's features are from its teacher's, scalars.

    Attributes:
        image: of image features.
        memory: of features after memory attention; 0 without memories.
    """

    image: Tensor
    memory: Tensor


def teach(teacher: EdgeTAM, rows: Rows, plan: Plan, given: list[Clicks], factor: float) -> Rollout:
    """The teacher's roll-out through the student's plan and clicks, without gradients.

    Args:
        teacher: in eval mode.
        rows: the same clips and objects at the teacher's input size.
        given: the student's clicks.
        factor: the teacher's input size over the student's.
    """
    with torch.no_grad():
        return roll_out(teacher, rows, plan, Replayed(given, factor))


def align(adapters: Adapters, student: Rollout, teacher: Rollout) -> Alignment:
    """Compare two roll-outs of one plan."""
    image = _distance(adapters.image(student.features.flatten(0, 1)), teacher.features.flatten(0, 1))
    pairs = zip(student.attended, teacher.attended, strict=True)
    memory = [_distance(adapters.memory(own), wanted) for own, wanted in pairs]
    return Alignment(image, torch.stack(memory).mean() if memory else image.new_zeros(()))


def _distance(own: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of (…, C, h, w) and (…, C, H, W), at the latter's size."""
    own, wanted = own.float(), wanted.float()
    if own.shape[-2:] != wanted.shape[-2:]:
        own = F.interpolate(own, size=wanted.shape[-2:], mode="bilinear", align_corners=False)
    return F.mse_loss(own, wanted)
