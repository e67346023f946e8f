"""Forms of a part that processors compute faster than those that train and export well; the numbers stay.

Layer norms of feature maps: turning maps about to have channels last, and back, takes OpenVINO longer than
the norm itself, 50 of the memory encoder's 148 core-ms in float32. Spreading a mask: a product with a table
of shares takes 4 core-ms, OpenVINO's own resizing 12.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.nn.layers import LayerNorm2d

Part = TypeVar("Part", bound=nn.Module)

EPSILON = 1e-6  # of `LayerNorm2d`


class PlanarNorm(nn.Module):
    """`LayerNorm2d`, whose weights it shares, plane by plane."""

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        centred = x - x.mean(1, keepdim=True)
        scale = torch.rsqrt((centred * centred).mean(1, keepdim=True) + EPSILON)
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
        wide = F.linear(x, self.shares)
        return self.shares @ wide


def planar(module: Part) -> Part:
    """A twin of a module that shares its weights, with every `LayerNorm2d` in it computed plane by plane."""
    weights = [*module.parameters(), *module.buffers()]
    twin = copy.deepcopy(module, {id(one): one for one in weights})
    for owner in list(twin.modules()):
        for name, child in owner.named_children():
            if isinstance(child, LayerNorm2d):
                setattr(owner, name, PlanarNorm(child))
    return twin
