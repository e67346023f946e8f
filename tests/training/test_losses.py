"""Losses against numbers worked by hand, and the direction in which they pull."""

from __future__ import annotations

import math

import pytest
import torch

from edgetam_model.training.losses import dice_loss, focal_loss, mask_iou, mask_losses
from edgetam_model.training.recipe import LossWeights

LOG3 = math.log(3)  # the logit of probability 3/4


def test_focal_loss_by_hand() -> None:
    """Probability 3/4 on an object's pixel: α (1/4)² ln(4/3); beside it: (1 − α) (3/4)² ln 4."""
    logits = torch.full((1, 2), LOG3)
    on, off = 0.25 / 16 * math.log(4 / 3), 0.75 * 9 / 16 * math.log(4)
    both = focal_loss(logits, torch.tensor([[1.0, 0.0]]), 0.25)
    assert float(both) == pytest.approx((on + off) / 2, rel=1e-5)
    assert float(focal_loss(logits, torch.ones(1, 2), 0.25)) == pytest.approx(on, rel=1e-5)


@pytest.mark.parametrize(("alpha", "sign"), [(0.25, -1), (0.5, 0), (0.75, 1)])
def test_alpha_says_which_way_an_even_pixel_goes(alpha: float, sign: int) -> None:
    """A pixel that is the object's in half of the clips: below 0.5 its logit is pulled out of the mask."""
    logit = torch.zeros(2, 1, 1, requires_grad=True)
    focal_loss(logit, torch.tensor([0.0, 1.0])[:, None, None], alpha).sum().backward()
    assert logit.grad is not None
    assert -logit.grad.sum().sign() == sign


def test_dice_loss_by_hand() -> None:
    """Probabilities 3/4 and 1/4 against 1 and 0: 1 − (2 · 3/4 + 1) / (1 + 1 + 1)."""
    logits = torch.tensor([[LOG3, -LOG3]])
    assert float(dice_loss(logits, torch.tensor([[1.0, 0.0]]))) == pytest.approx(1 - 2.5 / 3, rel=1e-5)
    assert float(dice_loss(torch.full((2, 2), -40.0), torch.zeros(2, 2))) == pytest.approx(0)


def test_iou_by_hand() -> None:
    logits = torch.tensor([[[1.0, 1.0, -1.0, 0.0]]])
    assert float(mask_iou(logits, torch.tensor([[[True, False, True, False]]]))) == pytest.approx(1 / 3)
    assert float(mask_iou(-logits.abs(), torch.zeros(1, 1, 4, dtype=torch.bool))) == 1.0


def offered() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two objects, three masks each: the second mask is right for both; object 1 is not there."""
    target = torch.zeros(2, 8, 8, dtype=torch.bool)
    target[0, :4] = True
    right = torch.where(target[:, ::2, ::2], 6.0, -6.0)
    logits = torch.stack((-right, right, torch.zeros_like(right)), dim=1).requires_grad_()
    ious = torch.full((2, 3), 0.5, requires_grad=True)
    score = torch.zeros(2, requires_grad=True)
    return logits, ious, score, target


def test_only_the_best_mask_is_supervised_and_only_where_there_is_an_object() -> None:
    logits, ious, score, target = offered()
    mask_losses(logits, ious, score, target, torch.ones(2), LossWeights()).total(LossWeights()).backward()
    assert logits.grad is not None
    assert [bool(g.any()) for g in logits.grad[0]] == [False, True, False]
    assert not logits.grad[1].any()
    assert (logits.grad[0, 1][:2] < 0).all(), "up on the object"
    assert (logits.grad[0, 1][2:] > 0).all(), "down beside it"
    assert ious.grad is not None
    assert ious.grad[0].sign().tolist() == [1, -1, 1], "true IoU 0, 1 and 0"
    assert not ious.grad[1].any()
    assert score.grad is not None
    assert score.grad.sign().tolist() == [-1, 1]


def test_each_part_by_hand() -> None:
    logits, ious, score, target = (tensor.detach() for tensor in offered())
    losses = mask_losses(logits, ious, score, target, torch.ones(2), LossWeights())
    assert float(losses.presence) == pytest.approx(math.log(2))
    assert float(losses.iou) == pytest.approx(0.5 / 2), "every estimate is off by 0.5, over two objects"
    weights = LossWeights(focal=0, dice=0, iou=2, presence=3)
    assert float(losses.total(weights)) == pytest.approx(0.5 + 3 * math.log(2))


def test_objects_without_weight_do_not_count() -> None:
    logits, ious, score, target = (tensor.detach() for tensor in offered())
    both = mask_losses(logits, ious, score, target, torch.tensor([1.0, 0.0]), LossWeights())
    alone = mask_losses(logits[:1], ious[:1], score[:1], target[:1], torch.ones(1), LossWeights())
    assert float(both.total(LossWeights())) == pytest.approx(float(alone.total(LossWeights())))
    nothing = mask_losses(logits, ious, score, target, torch.zeros(2), LossWeights())
    assert float(nothing.total(LossWeights())) == 0
