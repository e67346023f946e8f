"""RepViT, the trunk of the image encoder (arXiv 2307.09283, the M1 size in its first, "legacy" form)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.nn.layers import ConvNorm


class TokenMixer(nn.Module):
    """Depthwise 3×3, depthwise 1×1 and identity, summed; `fused()` folds the three into one convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvNorm(channels, channels, 3, groups=channels)
        self.conv1 = ConvNorm(channels, channels, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv(x) + self.conv1(x) + x
        return mixed

    def fused(self) -> nn.Conv2d:
        """One depthwise 3×3 convolution that gives the same numbers in eval mode."""
        wide, point = self.conv.fused(), self.conv1.fused()
        assert wide.bias is not None
        assert point.bias is not None
        with torch.no_grad():
            wide.weight[:, :, 1, 1] += point.weight[:, :, 0, 0] + 1
            wide.bias += point.bias
        return wide


class ChannelMixer(nn.Module):
    """Two 1×1 convolutions, twice as wide between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, 2 * channels)
        self.conv2 = ConvNorm(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv2(F.gelu(self.conv1(x)))
        return mixed


class SqueezeExcite(nn.Module):
    """Channel gates from the image's mean; the reduced width is a quarter, rounded to a multiple of 8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = max(8, (channels // 4 + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(channels, reduced, 1)
        self.fc2 = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * gates.sigmoid()


class Block(nn.Module):
    """Token mixer, squeeze-excite on some blocks, residual channel mixer."""

    def __init__(self, channels: int, *, squeeze: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(channels)
        self.se = SqueezeExcite(channels) if squeeze else nn.Identity()
        self.channel_mixer = ChannelMixer(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.se(self.token_mixer(x))
        mixed: Tensor = x + self.channel_mixer(x)
        return mixed


class Downsample(nn.Module):
    """Halves the resolution and changes the width between two stages."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pre_block = Block(inputs, squeeze=False)
        self.spatial_downsample = ConvNorm(inputs, inputs, 3, stride=2, groups=inputs)
        self.channel_downsample = ConvNorm(inputs, outputs)
        self.ffn = ChannelMixer(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel_downsample(self.spatial_downsample(self.pre_block(x)))
        smaller: Tensor = x + self.ffn(x)
        return smaller


class Stage(nn.Module):
    """Blocks of one width; every second one, from the first on, has squeeze-excite."""

    def __init__(self, inputs: int, channels: int, depth: int) -> None:
        super().__init__()
        self.downsample = nn.Identity() if inputs == channels else Downsample(inputs, channels)
        self.blocks = nn.Sequential(*(Block(channels, squeeze=i % 2 == 0) for i in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        staged: Tensor = self.blocks(self.downsample(x))
        return staged


class Stem(nn.Module):
    """Two 3×3 convolutions of stride 2 with GELU between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, channels // 2, 3, stride=2)
        self.conv2 = ConvNorm(channels // 2, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        stemmed: Tensor = self.conv2(F.gelu(self.conv1(x)))
        return stemmed


class RepViT(nn.Module):
    """(B, 3, S, S) → four maps at strides 4, 8, 16 and 32."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        stages = [
            Stage(widths[max(i - 1, 0)], channels, depth)
            for i, (channels, depth) in enumerate(zip(widths, depths, strict=True))
        ]
        named = {f"stages_{i}": stage for i, stage in enumerate(stages)}
        self.body = nn.ModuleDict({"stem": Stem(widths[0]), **named})

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for part in self.body.values():
            x = part(x)
            maps.append(x)
        return maps[1:]  # the stem's own map is not one of the pyramid's
