"""Trunk and feature pyramid: an image becomes three maps of one width."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.nn.repvit import RepViT


class Lateral(nn.Module):
    """The 1×1 convolution that brings one level to the pyramid's width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class FPN(nn.Module):
    """Lateral convolutions, and one top-down step from stride 32 into stride 16.

    `convs.0` belongs to the coarsest level, as in the published layout.
    """

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Lateral(channels, width) for channels in reversed(widths))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Four trunk maps, finest first → the maps at strides 4, 8 and 16."""
        stride4, stride8, stride16, top = self.summands(maps)
        return stride4, stride8, stride16 + top

    def summands(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same with the last one in two: its own level, and what comes from above."""
        stride4, stride8, stride16, stride32 = (
            conv(level) for conv, level in zip(reversed(self.convs), maps, strict=True)
        )
        return stride4, stride8, stride16, F.interpolate(stride32, scale_factor=2, mode="nearest")


class ImageEncoder(nn.Module):
    """(B, 3, S, S) normalised image → FPN maps at strides 4, 8 and 16, (B, C, S/4 …)."""

    def __init__(self, config: EdgeTAMConfig) -> None:
        super().__init__()
        self.trunk = RepViT(config.trunk_widths, config.trunk_depths)
        self.neck = FPN(config.trunk_widths, config.width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps: tuple[Tensor, Tensor, Tensor] = self.neck(self.trunk(images))
        return maps
