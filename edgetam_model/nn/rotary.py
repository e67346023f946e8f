"""Axial rotary position encoding, in real numbers so that it exports (RoFormer, arXiv 2104.09864)."""

from __future__ import annotations

import torch
from torch import Tensor


def axial_angles(channels: int, side: int) -> Tensor:
    """Cosine and sine of every pair's angle, (2, side², channels / 2); x turns the first half."""
    frequency = 10_000.0 ** -(torch.arange(0, channels, 4)[: channels // 4].float() / channels)
    place = torch.arange(side * side, dtype=torch.float32)
    x, y = place % side, torch.div(place, side, rounding_mode="floor")
    angle = torch.cat((torch.outer(x, frequency), torch.outer(y, frequency)), dim=1)
    return torch.stack((angle.cos(), angle.sin()))


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn the neighbouring pairs of (…, N, C) by `axial_angles` of the same N and C."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)
