"""The 2D Spatial Perceiver: a dense memory becomes a fixed, small number of latents.

Global latents attend to the whole frame; patch-level latents each attend to one window, so that the
layout which dense prediction needs survives. Both kinds share the layers. A model may have one kind only, or
means of the patches in place of latents, to compare with. Source: EdgeTAM, section 3.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.nn.layers import sine_position


class CrossAttention(nn.Module):
    """Latents attend to the input; one head, no biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_x = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, latents: Tensor, x: Tensor, position: Tensor | None) -> Tensor:
        q = self.to_q(self.norm_latents(latents))
        k, v = self.to_kv(self.norm_x(x)).chunk(2, dim=-1)
        if position is not None:  # on the values too: a latent has no place of its own to read it from
            k, v = k + position, v + position
        out: Tensor = self.to_out(F.scaled_dot_product_attention(q, k, v))
        return out


class SelfAttention(nn.Module):
    """Latents attend to each other; one head, no biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, latents: Tensor) -> Tensor:
        normed = self.norm(latents)
        k, v = self.to_kv(normed).chunk(2, dim=-1)
        out: Tensor = self.to_out(F.scaled_dot_product_attention(self.to_q(normed), k, v))
        return out


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Linear(4 * width, width, bias=False),
    )


class PerceiverLayer(nn.Module):
    """Cross-attention, feed-forward, self-attention, feed-forward; each with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = CrossAttention(width)
        self.ff = _feed_forward(width)
        self.self_attn = SelfAttention(width)
        self.self_ff = _feed_forward(width)

    def forward(self, latents: Tensor, x: Tensor, position: Tensor | None) -> Tensor:
        latents = latents + self.attn(latents, x, position)
        latents = latents + self.ff(latents)
        latents = latents + self.self_attn(latents)
        out: Tensor = latents + self.self_ff(latents)
        return out


class SpatialPerceiver(nn.Module):
    """Dense memories (B, Cm, H, W) → latents (B, L, Cm), global ones first."""

    input_position: Tensor
    latents_position: Tensor

    def __init__(self, config: EdgeTAMConfig) -> None:
        super().__init__()
        width, side = config.memory_width, config.patch_grid
        self.patch_grid = side
        self.latents = nn.Parameter(torch.randn(config.global_latents, width))
        self.latents_2d = nn.Parameter(torch.randn(config.patch_latents, width))
        self.layers = nn.ModuleList(PerceiverLayer(width) for _ in range(config.perceiver_layers))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("input_position", _grid_position(width, config.grid)[None], persistent=False)
        position = torch.zeros(config.latents, width)
        if side:
            position[config.global_latents :] = _grid_position(width, side)
        self.register_buffer("latents_position", position[None], persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        kinds = [kind(dense) for kind in (self._global, self._patches)]
        out: Tensor = self.norm(torch.cat(kinds, dim=1))
        return out

    def _global(self, dense: Tensor) -> Tensor:
        """(B, Lg, Cm), of which there may be none."""
        latents = self.latents.expand(len(dense), -1, -1)
        if latents.shape[1]:
            everything = dense.flatten(2).transpose(1, 2)
            for layer in self.layers:
                latents = layer(latents, everything, self.input_position)
        return latents

    def _patches(self, dense: Tensor) -> Tensor:
        """(B, Lp, Cm), of which there may be none."""
        patches = self.latents_2d.expand(len(dense), -1, -1)
        if not self.patch_grid:
            return patches
        windows = self._windows(dense)
        latents = patches.reshape(len(windows), 1, -1)
        for layer in self.layers:
            latents = layer(latents, windows, None)
        return latents.reshape(patches.shape)

    def _windows(self, dense: Tensor) -> Tensor:
        """(B, C, H, W) → (B · windows, tokens of a window, C), row by row; 4 dimensions export everywhere."""
        side, channels = self.patch_grid, dense.shape[1]
        rows = dense.permute(0, 2, 3, 1).flatten(2).unflatten(1, (side, -1)).flatten(0, 1)  # B·side h W·C
        cells = rows.unflatten(2, (side, -1)).transpose(1, 2).flatten(0, 1)  # B·side·side h w·C
        return cells.unflatten(2, (-1, channels)).flatten(1, 2)


class PooledMemories(nn.Module):
    """Dense memories (B, Cm, H, W) → means of their patches (B, L, Cm), row by row; nothing is learned.

    It stands where the perceiver does, to show what that is worth. Source: the pooled memory tokens that
    EfficientTAM (arXiv 2411.18933) lets frames attend to.
    """

    latents_position: Tensor

    def __init__(self, config: EdgeTAMConfig) -> None:
        super().__init__()
        self.patch_grid = config.patch_grid
        position = _grid_position(config.memory_width, config.patch_grid)[None]
        self.register_buffer("latents_position", position, persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(dense, self.patch_grid).flatten(2).transpose(1, 2)


def _grid_position(width: int, side: int) -> Tensor:
    """(side², Cm), row by row."""
    return sine_position(width, side, side).flatten(1).T
