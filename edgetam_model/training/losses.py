"""What training minimises: errors of masks, of their estimated IoU, and of the object being there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgetam_model.training.recipe import LossWeights
from edgetam_model.training.rollout import Step

FOCAL_GAMMA = 2.0


@dataclass(frozen=True, eq=False)
class MaskLosses:
    """The losses of one decoding, each a scalar averaged over its objects, not yet weighted."""

    focal: Tensor
    dice: Tensor
    iou: Tensor
    presence: Tensor

    def total(self, weights: LossWeights) -> Tensor:
        """The weighted sum."""
        return (
            weights.focal * self.focal
            + weights.dice * self.dice
            + weights.iou * self.iou
            + weights.presence * self.presence
        )


def focal_loss(logits: Tensor, target: Tensor, alpha: float) -> Tensor:
    """Cross-entropy that lets easy pixels count for little, averaged over the pixels.

    Args:
        logits: (…, H, W).
        target: (…, H, W) of 0 and 1, broadcastable to the logits.
        alpha: what the object's pixels count for; the others count for 1 − alpha.

    Returns:
        (…) at least 0.

    Source: arXiv 1708.02002, equation 5, with γ = 2.
    """
    target = target.expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    missed = probability + target - 2 * probability * target  # 1 − p of the true class
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * missed**FOCAL_GAMMA * entropy).mean((-2, -1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 − the soft Dice coefficient of the mask's probabilities, 1 added above and below.

    Args:
        logits: (…, H, W).
        target: (…, H, W) of 0 and 1, broadcastable to the logits.

    Returns:
        (…) in 0 … 1.

    Source: V-Net (arXiv 1606.04797) in the form of DETR and SAM.
    """
    probability = logits.sigmoid()
    shared = (probability * target).sum((-2, -1))
    return 1 - (2 * shared + 1) / (probability.sum((-2, -1)) + target.sum((-2, -1)) + 1)


def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of logits > 0 with the target; two empty masks agree.

    Args:
        logits: (…, H, W).
        target: bool (…, H, W), broadcastable to the logits.

    Returns:
        (…) in 0 … 1, without gradient.
    """
    found = logits.detach() > 0
    shared = (found & target).sum((-2, -1)).float()
    either = (found | target).sum((-2, -1)).float()
    return torch.where(either > 0, shared / either.clamp(min=1), 1.0)


def step_losses(step: Step, target: Tensor, row_weight: Tensor, weights: LossWeights) -> MaskLosses:
    """The losses of one answer: of the decoder's masks, and of the one drawn from them where a refiner does.

    Args:
        step: the answer.
        target: bool (N, H, W).
        row_weight, weights: as in `mask_losses`.
    """
    offered = mask_losses(step.logits, step.ious, step.object_score, target, row_weight, weights)
    if step.raw.shape[-1] == step.logits.shape[-1]:
        return offered
    drawn = mask_losses(step.raw[:, None], step.iou[:, None], step.object_score, target, row_weight, weights)
    share = weights.candidates
    return MaskLosses(
        focal=drawn.focal + share * offered.focal,
        dice=drawn.dice + share * offered.dice,
        iou=drawn.iou + share * offered.iou,
        presence=drawn.presence,
    )


def mask_losses(
    logits: Tensor,
    ious: Tensor,
    object_score: Tensor,
    target: Tensor,
    row_weight: Tensor,
    weights: LossWeights,
) -> MaskLosses:
    """All losses of N objects on one frame.

    Of several masks offered, the one with the smallest weighted focal and dice loss is supervised; every
    mask's estimated IoU is. Both only where the object is there; its presence is learned everywhere.

    Args:
        logits: (N, M, h, w) masks offered; compared at the target's size, to which they are resized.
        ious: (N, M) their estimated IoU.
        object_score: (N,) logit.
        target: bool (N, H, W).
        row_weight: (N,) 0 leaves an object out.
        weights: decide which mask is the best.

    Source: SAM 2 (arXiv 2408.00714), appendix on training.
    """
    logits, ious, object_score = logits.float(), ious.float(), object_score.float()
    logits = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    truth = target[:, None].float()
    focal, dice = focal_loss(logits, truth, weights.alpha), dice_loss(logits, truth)
    best = (weights.focal * focal + weights.dice * dice).argmin(dim=1, keepdim=True)
    present = target.flatten(1).any(dim=1).float()
    iou_error = (ious - mask_iou(logits, target[:, None])).abs().mean(dim=1)
    entropy = F.binary_cross_entropy_with_logits(object_score, present, reduction="none")

    share = row_weight / row_weight.sum().clamp(min=1)
    seen = share * present
    return MaskLosses(
        focal=(seen * focal.gather(1, best)[:, 0]).sum(),
        dice=(seen * dice.gather(1, best)[:, 0]).sum(),
        iou=(seen * iou_error).sum(),
        presence=(share * entropy).sum(),
    )
