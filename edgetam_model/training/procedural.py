"""Texture tiles out of random numbers: noise, gradients, stripes, checks and spots."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 128  # pixels; the side of every tile in a bank
_BATCH = 32  # tiles made at once: 6 MB a plane


def procedural_tiles(count: int, seed: int) -> Tensor:
    """Random textures, uint8 (count, 3, TILE, TILE) RGB on the CPU; the same ones for the same seed."""
    random = torch.Generator().manual_seed(seed)
    batches = [_tiles(min(_BATCH, count - start), random) for start in range(0, count, _BATCH)]
    return torch.cat(batches) if batches else torch.empty(0, 3, TILE, TILE, dtype=torch.uint8)


def _tiles(count: int, random: torch.Generator) -> Tensor:
    field = _noise(count, random)
    kind = _uniform(random, count, 1, 1, 1)
    pattern = torch.where(kind < 0.45, field, _stripes(count, field, random))
    pattern = torch.where(kind > 0.8, _spots(count, field, random), pattern)
    low, high, third = (_colours(count, random) for _ in range(3))
    tiles = torch.lerp(low, high, pattern)
    blend = (_noise(count, random) * 2 - 0.5).clamp(0, 1)
    tiles = torch.where(_uniform(random, count, 1, 1, 1) < 0.4, torch.lerp(tiles, third, blend), tiles)
    grain = _uniform(random, count, 1, 1, 1) ** 2 * 0.25
    tiles = tiles + grain * (_noise(count, random, first=4) - 0.5)
    return (tiles.clamp(0, 1) * 255).round().to(torch.uint8)


def _noise(count: int, random: torch.Generator, first: int = 1) -> Tensor:
    """(count, 1, TILE, TILE) in 0 to 1: octaves from 2^first cells a side to 64, ever weaker."""
    fade = _uniform(random, count, 1, 1, 1) * 0.5 + 0.3
    total = torch.zeros(count, 1, TILE, TILE)
    for octave in range(first, 7):
        cells = torch.randn(count, 1, 2**octave, 2**octave, generator=random)
        smooth = F.interpolate(cells, (TILE, TILE), mode="bicubic", align_corners=False)
        total += fade ** (octave - first) * smooth
    low, high = total.amin((2, 3), keepdim=True), total.amax((2, 3), keepdim=True)
    return (total - low) / (high - low)


def _stripes(count: int, warp: Tensor, random: torch.Generator) -> Tensor:
    """Waves of any direction and sharpness, half of them crossed to checks, bent by noise."""
    axis = torch.linspace(0, 1, TILE)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angle = _uniform(random, count, 1, 1, 1) * math.pi
    waves = 2 * math.pi * torch.exp(_uniform(random, count, 1, 1, 1) * 2.6 + 0.7)  # 2 to 27 a tile
    bend = warp * 8 * _uniform(random, count, 1, 1, 1) ** 2
    along = torch.sin((x * angle.cos() + y * angle.sin()) * waves + bend)
    across = torch.sin((y * angle.cos() - x * angle.sin()) * waves + bend)
    crossed = _uniform(random, count, 1, 1, 1) < 0.5
    sharpness = torch.exp(_uniform(random, count, 1, 1, 1) * 2.5)
    return (torch.where(crossed, along * across, along) * sharpness).clamp(-1, 1) * 0.5 + 0.5


def _spots(count: int, warp: Tensor, random: torch.Generator) -> Tensor:
    """Discs on a jittered grid."""
    cells = torch.exp(_uniform(random, count, 1, 1, 1) * 1.6 + 1).round()  # 3 to 13 a side
    axis = torch.linspace(0, 1, TILE)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    bend = 0.15 * (warp - 0.5)
    away = torch.hypot(((x + bend) * cells) % 1 - 0.5, ((y - bend) * cells) % 1 - 0.5)
    radius = _uniform(random, count, 1, 1, 1) * 0.3 + 0.12
    return ((radius - away) * 12 + 0.5).clamp(0, 1)


def _colours(count: int, random: torch.Generator) -> Tensor:
    """(count, 3, 1, 1): a grey with a random tint, most of them muted as real surfaces are."""
    grey = _uniform(random, count, 1, 1, 1) * 0.9 + 0.05
    tint = torch.randn(count, 3, 1, 1, generator=random)
    return (grey + tint * 0.3 * _uniform(random, count, 1, 1, 1)).clamp(0, 1)


def _uniform(random: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=random)
