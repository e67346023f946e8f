"""What surfaces look like: a piece of a texture tile each, recoloured."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgetam_model.training.synthetic.draws import Draws, Ints, Reals
from edgetam_model.training.synthetic.options import SyntheticOptions
from edgetam_model.training.textures import TextureBank


@dataclass(frozen=True, eq=False)
class Paints:
    """N surfaces in each of B clips.

    Attributes:
        tile: (B, N) number of the texture in the bank.
        window: (B, N, 2, 3) affine map from the surface's coordinates, −1 to 1, to the tile's.
        gain, base: (B, N, 3) colour = gain · texture + base, all of them 0 to 1.
    """

    tile: Ints
    window: Reals
    gain: Reals
    base: Reals

    def only(self, surfaces: Ints) -> Paints:
        """These surfaces, by their numbers."""
        return Paints(
            self.tile[:, surfaces], self.window[:, surfaces], self.gain[:, surfaces], self.base[:, surfaces]
        )


def draw_paints(draws: Draws, count: int, bank: TextureBank, options: SyntheticOptions) -> Paints:
    """`count` surfaces a clip."""
    photographs, generated = bank.photographs, len(bank) - bank.photographs
    photograph = draws.chance(options.p_photograph, count)
    photograph = (photograph | (generated == 0)) & (photographs > 0)
    pick = draws.uniform(count)
    tile = np.where(photograph, pick * photographs, photographs + pick * generated).astype(np.int64)

    turn = draws.integers(4, count) * (math.pi / 2) + draws.normal(count) * 0.3
    zoom = draws.log_uniform(0.35, 1.0, count)
    shift = draws.uniform(count, 2, low=-1, high=1) * np.maximum(0, 1 - zoom)[..., None]
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    rows = (np.stack((cos, -sin, shift[..., 0]), -1), np.stack((sin, cos, shift[..., 1]), -1))

    flat = np.where(
        draws.chance(options.p_flat, count),
        draws.uniform(count, low=0.5, high=0.95),
        draws.uniform(count) * 0.2,
    )[..., None]
    gain = (1 - flat) * draws.log_uniform(0.6, 1.3, count, 1) * np.exp(0.12 * draws.normal(count, 3))
    return Paints(tile, np.stack(rows, axis=-2), gain, flat * draw_colours(draws, count))


def draw_colours(draws: Draws, count: int) -> Reals:
    """(B, count, 3) RGB 0 to 1: a third grey, the others muted more often than vivid."""
    light = draws.uniform(count, 1, low=0.04, high=0.96)
    vivid = np.where(draws.chance(0.35, count, 1), 0.03, 0.05 + 0.8 * draws.uniform(count, 1) ** 2.5)
    hue = draws.uniform(count, 1, high=2 * math.pi) + np.arange(3) * (2 * math.pi / 3)
    return np.clip(light + vivid * 0.5 * np.cos(hue), 0, 1)


@dataclass(frozen=True, eq=False)
class Swatches:
    """Paints on the device, ready to be looked up: float32 (B, N, …) as in `Paints`, `tile` int64."""

    tile: Tensor
    window: Tensor
    gain: Tensor
    base: Tensor

    @classmethod
    def of(cls, paints: Paints, device: torch.device) -> Swatches:
        """The paints as tensors."""
        reals = (
            torch.from_numpy(x).to(device, torch.float32) for x in (paints.window, paints.gain, paints.base)
        )
        return cls(torch.from_numpy(paints.tile).to(device), *reals)

    def coat(self, bank: TextureBank, place: Tensor) -> Tensor:
        """The surfaces' colours, float32 (B, N, 3, H, W), at `place` (H, W, 2) x, y; beyond −1 … 1 the
        texture goes on, mirrored."""
        batch, count = self.tile.shape
        height, width = place.shape[:2]
        flat = place.reshape(1, -1, 2)
        window = self.window.reshape(-1, 2, 3)
        # Written out: a matrix product of three terms may round differently in batches of another size.
        x, y = flat[..., 0], flat[..., 1]
        axes = [window[:, r, 0:1] * x + window[:, r, 1:2] * y + window[:, r, 2:3] for r in (0, 1)]
        grid = torch.stack(axes, dim=-1).reshape(batch * count, height, width, 2)
        tiles = bank.tiles[self.tile.flatten()].float() / 255
        colours = F.grid_sample(tiles, grid, padding_mode="reflection", align_corners=False)
        colours = colours.view(batch, count, 3, height, width)
        return colours.mul_(self.gain[..., None, None]).add_(self.base[..., None, None]).clamp_(0, 1)
