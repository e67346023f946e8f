"""Clicks, boxes and mask logits become tokens and a dense map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.nn.layers import LayerNorm2d

NOT_A_POINT = -1  # label of an empty slot; 0 negative, 1 positive, 2 and 3 the corners of a box


class RandomFourier(nn.Module):
    """Positions in [0, 1] through a fixed Gaussian matrix, sine and cosine."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, channels // 2))

    def forward(self, xy: Tensor) -> Tensor:
        """(…, 2) → (…, C)."""
        angle = (2 * xy - 1) @ self.positional_encoding_gaussian_matrix * (2 * math.pi)
        return torch.cat((angle.sin(), angle.cos()), dim=-1)


class PromptEncoder(nn.Module):
    """Prompts in pixels of the network's input → sparse tokens (B, N + 1, C) and a dense map."""

    def __init__(self, config: EdgeTAMConfig) -> None:
        super().__init__()
        width = config.width
        self.image_size, self.grid = config.image_size, config.grid
        self.pe_layer = RandomFourier(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, 2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def forward(self, points: Tensor, labels: Tensor) -> Tensor:
        """Tokens of clicks and box corners; one empty slot is always appended, as in the published model.

        Args:
            points: (B, N, 2) pixels (x, y) of the network's input.
            labels: (B, N) integers, see `NOT_A_POINT`.
        """
        empty = torch.full_like(labels[:, :1], NOT_A_POINT)
        labels = torch.cat((labels, empty), dim=1)
        points = torch.cat((points, points.new_zeros(len(points), 1, 2)), dim=1)
        # The table's last row is the empty slot's, so that label -1 finds it.
        table = torch.cat([e.weight for e in (*self.point_embeddings, self.not_a_point_embed)])
        encoded: Tensor = self.pe_layer((points + 0.5) / self.image_size)
        used = (labels != NOT_A_POINT).unsqueeze(-1)
        return encoded * used + table[labels]

    def dense(self, logits: Tensor | None) -> Tensor:
        """Mask logits (B, 1, S/4, S/4) → (B, C, S/16, S/16); without any, (1, C, 1, 1) to be broadcast."""
        if logits is None:
            return self.no_mask_embed.weight[:, :, None, None]
        dense: Tensor = self.mask_downscaling(logits)
        return dense

    def grid_position(self) -> Tensor:
        """(1, C, S/16, S/16): the encoding of the token grid's centres."""
        like = self.pe_layer.positional_encoding_gaussian_matrix
        centres = (torch.arange(self.grid, dtype=like.dtype, device=like.device) + 0.5) / self.grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        encoded: Tensor = self.pe_layer(torch.stack((x, y), dim=-1))
        return encoded.permute(2, 0, 1).unsqueeze(0)
