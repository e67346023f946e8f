"""A frame's features and an object's mask become a dense memory of that object."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.nn.layers import LayerNorm2d


class MaskDownsampler(nn.Module):
    """(B, 1, S, S) → (B, C, S/16, S/16) in four strides of 2, each four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for _ in range(4):
            layers += [nn.Conv2d(channels, 4 * channels, 3, 2, 1), LayerNorm2d(4 * channels), nn.GELU()]
            channels *= 4
        self.encoder = nn.Sequential(*layers, nn.Conv2d(channels, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.encoder(x)
        return out


class ConvNeXtBlock(nn.Module):
    """Depthwise 7×7, norm, MLP four times as wide, layer scale, residual (arXiv 2201.03545)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(1e-6 * torch.ones(channels))
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = LayerNorm2d(channels)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class Fuser(nn.Module):
    """Two ConvNeXt blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConvNeXtBlock(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    """Features (1 or B, C, H, W) and mask values (B, 1, S, S) → dense memories (B, Cm, H, W)."""

    def __init__(self, config: EdgeTAMConfig) -> None:
        super().__init__()
        self.mask_downsampler = MaskDownsampler(config.width)
        self.pix_feat_proj = nn.Conv2d(config.width, config.width, 1)
        self.fuser = Fuser(config.width)
        self.out_proj = nn.Conv2d(config.width, config.memory_width, 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        fused = self.fuser(self.pix_feat_proj(features) + self.mask_downsampler(mask))
        out: Tensor = self.out_proj(fused)
        return out
