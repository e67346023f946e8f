"""Small layers that several boxes share."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """A convolution without bias and its batch norm, folded into one by `fused()`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.bn(self.c(x))
        return normed

    def fused(self) -> nn.Conv2d:
        """One biased convolution that gives the same numbers in eval mode."""
        conv, norm = self.c, self.bn
        assert norm.running_var is not None
        assert norm.running_mean is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        out = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            groups=conv.groups,
        ).to(conv.weight)
        assert out.bias is not None
        with torch.no_grad():
            out.weight.copy_(conv.weight * gain[:, None, None, None])
            out.bias.copy_(norm.bias - norm.running_mean * gain)
        return out.requires_grad_(conv.weight.requires_grad)


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return normed.permute(0, 3, 1, 2)


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (layers - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


def unshuffle(x: Tensor, factor: int) -> Tensor:
    """`F.pixel_unshuffle` in at most five dimensions, which exports everywhere.

    (B, C, H, W) → (B, C · factor², H / factor, W / factor); both sides are multiples of the factor.
    """
    channels = x.shape[1]
    cells = x.flatten(0, 1).unflatten(2, (-1, factor)).unflatten(1, (-1, factor))  # B·C h factor w factor
    return cells.permute(0, 2, 4, 1, 3).flatten(1, 2).unflatten(0, (-1, channels)).flatten(1, 2)


def shuffle(x: Tensor, factor: int) -> Tensor:
    """The inverse of `unshuffle`: `F.pixel_shuffle` in at most five dimensions."""
    batch, channels, height, width = x.shape
    cells = x.reshape(-1, factor, factor, height, width).permute(0, 3, 1, 4, 2)  # B·C h factor w factor
    return cells.reshape(batch, channels // factor**2, height * factor, width * factor)


def sine_position(channels: int, height: int, width: int) -> Tensor:
    """Sine encoding of a grid, (channels, height, width): rows in the first half, sine and cosine in turn.

    Positions count from 1 and are scaled to 2π. Source: SAM 2 (arXiv 2408.00714), after DETR.
    """
    half = channels // 2
    exponent = 2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half
    wavelength = 10_000.0**exponent

    def encode(count: int) -> Tensor:
        position = torch.arange(1, count + 1, dtype=torch.float32)
        angle = (position / (position[-1] + 1e-6) * (2 * math.pi))[:, None] / wavelength
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    rows = encode(height)[:, None, :].expand(height, width, half)
    columns = encode(width)[None, :, :].expand(height, width, half)
    return torch.cat((rows, columns), dim=2).permute(2, 0, 1).contiguous()
