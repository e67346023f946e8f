"""Limbs that swing: two tapering segments each, from a joint on the body over a knee to the end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgetam_model.training.synthetic.draws import Draws, Reals
from edgetam_model.training.synthetic.options import Range
from edgetam_model.training.synthetic.paint import draw_colours

LIMBS = 4


@dataclass(frozen=True, eq=False)
class LimbPlan:
    """The limbs of N things in each of B clips, in the things' coordinates; S times.

    Attributes:
        joints: (B, S, N, LIMBS, 3, 2) x, y of hip, knee and end.
        radii: (B, N, LIMBS, 3) half the thickness there; negative for a limb that is missing.
        colours: (B, N, 2, 3) of the upper part and the lower one (a trouser and a shoe).
        change: (B, N) where along the limb, 0 to 1, the second begins.
    """

    joints: Reals
    radii: Reals
    colours: Reals
    change: Reals


def draw_limbs(draws: Draws, times: Reals, body: Reals, haste: Reals, reach: Range) -> LimbPlan:
    """Legs below half of the things, arms all around the others.

    Args:
        times: (B, S) in frames.
        body: (B, N, 2) half axes of their bodies.
        haste: (B, N) strides per frame.
        reach: length of each half of a limb.
    """
    clips, count = haste.shape
    legs = draws.chance(0.6, count, 1)
    across = (np.arange(LIMBS) - (LIMBS - 1) / 2) / LIMBS * 2  # −0.75 … 0.75 along the body
    around = np.where(
        legs,
        math.pi / 2 + 0.15 * draws.normal(count, LIMBS),
        across * math.pi + draws.uniform(count, 1, high=6.3) + 0.3 * draws.normal(count, LIMBS),
    )
    beside = np.clip(across + 0.1 * draws.normal(count, LIMBS), -0.85, 0.85)
    hip_x = np.where(legs, beside, 0.8 * np.cos(around)) * body[..., :1]
    hip_y = np.where(legs, 0.6 * np.sqrt(1 - beside**2), 0.8 * np.sin(around)) * body[..., 1:]

    length = draws.uniform(count, 1, low=reach[0], high=reach[1]) * np.exp(0.1 * draws.normal(count, LIMBS))
    rate = 2 * math.pi * haste[..., None] * np.exp(0.05 * draws.normal(count, LIMBS))
    pair = math.pi * (np.arange(LIMBS) % 2)  # neighbours swing against each other
    phase = pair + draws.uniform(count, 1, high=6.3) + 0.4 * draws.normal(count, LIMBS)
    turn = rate[:, None] * times[:, :, None, None] + phase[:, None]
    swing = draws.uniform(count, 1, low=0.1, high=0.7)[:, None]
    knee_bend = draws.uniform(count, 1, low=-0.5, high=0.5)[:, None]
    upper = around[:, None] + swing * np.sin(turn)
    lower = upper + knee_bend + 0.8 * swing * np.sin(turn - 1.2)

    hip = np.broadcast_to(np.stack((hip_x, hip_y), -1)[:, None], (*upper.shape, 2))
    knee = hip + length[:, None, ..., None] * np.stack((np.cos(upper), np.sin(upper)), -1)
    end = knee + 0.9 * length[:, None, ..., None] * np.stack((np.cos(lower), np.sin(lower)), -1)

    thick = draws.log_uniform(0.04, 0.16, count, 1)[..., None]
    taper = np.concatenate(
        (1.2 * thick, 0.85 * thick, thick * draws.uniform(count, 1, 1, low=0.5, high=1.2)), -1
    )
    # Two to four of them, the middle ones first to go; a limb of negative thickness is nowhere.
    missing = np.argsort(np.abs(across), kind="stable") < draws.integers(3, count, 1)
    radii = np.where(missing[..., None], -9.0, taper)
    colours = draw_colours(draws, 2 * count).reshape(clips, count, 2, 3)
    joints = np.stack((hip, knee, end), axis=-2)
    change = draws.uniform(count, low=0.3, high=1.1)
    return LimbPlan(joints, radii, colours, change)


@dataclass(frozen=True, eq=False)
class LimbView:
    """What the limbs of one thing cover, float32 (B, S, H, W).

    Attributes:
        front, behind: distance to the outline of those before and behind the body, negative inside.
        along: 0 at the hip, 1 at the end of the nearest limb.
    """

    front: Tensor
    behind: Tensor
    along: Tensor


def look_at_limbs(joints: Tensor, radii: Tensor, x: Tensor, y: Tensor) -> LimbView:
    """Limbs of one thing a clip, seen at its coordinates x, y (B, S, H, W): joints (B, S, LIMBS, 3, 2),
    radii (B, LIMBS, 3). Every other limb is behind the body."""
    nearest = [torch.full_like(x, 9.0), torch.full_like(x, 9.0)]
    along = torch.zeros_like(x)
    for limb in range(LIMBS):
        for segment in range(2):
            ends, sizes = joints[:, :, limb, segment : segment + 2], radii[:, limb, segment : segment + 2]
            distance, progress = _segment(ends, sizes, x, y)
            closest = torch.minimum(*nearest)
            along = torch.where(distance < closest, progress.add_(segment), along)
            nearest[limb % 2] = torch.minimum(nearest[limb % 2], distance)
    return LimbView(front=nearest[1], behind=nearest[0], along=along.mul_(0.5))


def _segment(ends: Tensor, radii: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to a segment's outline, and the place along it, 0 to 1: both (B, S, H, W)."""
    start, step = ends[:, :, 0], ends[:, :, 1] - ends[:, :, 0]
    x, y = x - start[..., 0, None, None], y - start[..., 1, None, None]
    step_x, step_y = step[..., 0, None, None], step[..., 1, None, None]
    length = step_x * step_x + step_y * step_y
    progress = (x * (step_x / length)).addcmul_(y, step_y / length).clamp_(0, 1)
    x.addcmul_(progress, -step_x)
    y.addcmul_(progress, -step_y)
    away = x.square_().addcmul_(y, y).sqrt_()  # a third of hypot's time
    first, last = radii[:, 0, None, None, None], radii[:, 1, None, None, None]
    return away.sub_(first).addcmul_(progress, first - last), progress
