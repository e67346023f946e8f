"""Forms of a part that processors compute faster than those that train and export well; the numbers stay.

Layer norms of feature maps: turning maps about to have channels last, and back, takes OpenVINO longer than
the norm itself, 50 of the memory encoder's 148 core-ms in float32. Behind a convolution its mean costs
nothing, the weights take it away. Spreading a mask: products with a table of shares take 4 core-ms,
OpenVINO's own resizing 12.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.nn.layers import LayerNorm2d

Part = TypeVar("Part", bound=nn.Module)

EPSILON = 1e-6  # of `LayerNorm2d`
FEW = 16  # channels whose mean a convolution takes faster, by 1.6 of the memory encoder's 22 ms in bfloat16


class PlanarNorm(nn.Module):
    """`LayerNorm2d`, whose weights it shares, plane by plane.

    Args:
        norm: the same for training.
        centred: whether what comes in has a mean of 0 over its channels already.
    """

    def __init__(self, norm: LayerNorm2d, *, centred: bool) -> None:
        super().__init__()
        self.norm, self.centred = norm, centred

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        centred = x if self.centred else x - _mean(x)
        scale = torch.rsqrt(_mean(centred * centred) + EPSILON)
        return centred * scale * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


class Spread(nn.Module):
    """Bilinear enlargement of square maps, (B, C, S, S) → (B, C, side, side), as two matrix products."""

    shares: Tensor

    def __init__(self, source: int, side: int) -> None:
        super().__init__()
        rows = torch.eye(source)[None, None]
        shares = F.interpolate(rows, size=(side, source), mode="bilinear", align_corners=False)[0, 0]
        self.register_buffer("shares", shares, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # With the table on the left of a product, OpenVINO keeps to float32.
        high = F.linear(x.transpose(2, 3), self.shares).transpose(2, 3)
        return F.linear(high, self.shares)


def planar(module: Part) -> Part:
    """A twin of a module with every `LayerNorm2d` in it computed plane by plane.

    It shares the weights but for those of convolutions right before one, which are copies.
    """
    weights = [*module.parameters(), *module.buffers()]
    twin = copy.deepcopy(module, {id(one): one for one in weights})
    for owner in list(twin.modules()):
        for (name_before, before), (name, child) in pairwise([("", None), *owner.named_children()]):
            if isinstance(child, LayerNorm2d):
                in_turn = isinstance(owner, nn.Sequential)
                conv = before if in_turn and isinstance(before, nn.Conv2d) else None
                setattr(owner, name, PlanarNorm(child, centred=conv is not None))
                if conv is not None:
                    setattr(owner, name_before, _centred(conv))
    return twin


def _mean(x: Tensor) -> Tensor:
    """Over the channels: (B, 1, H, W), or the same in every one of few channels."""
    channels = x.shape[1]
    if channels > FEW:
        return x.mean(1, keepdim=True)
    return F.conv2d(x, x.new_full((channels, channels, 1, 1), 1 / channels))


def _centred(conv: nn.Conv2d) -> nn.Conv2d:
    """A copy whose output has a mean of 0 over its channels, and is otherwise the same."""
    twin = copy.deepcopy(conv).requires_grad_(False)
    assert twin.bias is not None
    twin.weight -= twin.weight.mean(0, keepdim=True)
    twin.bias -= twin.bias.mean()
    return twin
