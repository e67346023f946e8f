"""Things that are cut-outs instead of drawn shapes: which, how they stand, and their colours made anew."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgetam_model.training.cutouts import DEPTH
from edgetam_model.training.synthetic.draws import Draws, Ints, Reals
from edgetam_model.training.synthetic.events import MAIN
from edgetam_model.training.synthetic.options import SyntheticOptions
from edgetam_model.training.synthetic.paint import Paints, Swatches, draw_paints
from edgetam_model.training.synthetic.sprites import RAMP, REACH, pixel_grid, shade
from edgetam_model.training.textures import TextureBank

_CUT = 0x6375746F  # the numbers of streams
_SLIM = 0x736C696D
_GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, eq=False)
class CutThings:
    """N things in each of B clips.

    Attributes:
        which: (B, N) number of the cut-out in the bank, −1 for things that are drawn shapes.
        matrix: (B, N, 2, 2) from the thing's coordinates to the cut-out's: turned, mirrored, stretched.
        mix: (B, N, 3, 4) the colours' affine map, RGB 0 to 1.
        grain: a surface each, whose texture shows through.
        strength: (B, N) how much of it.
    """

    which: Ints
    matrix: Reals
    mix: Reals
    grain: Paints
    strength: Reals

    def only(self, things: Ints) -> CutThings:
        """These things, by their numbers."""
        return CutThings(
            which=self.which[:, things],
            matrix=self.matrix[:, things],
            mix=self.mix[:, things],
            grain=self.grain.only(things),
            strength=self.strength[:, things],
        )


def draw_cut_things(
    draws: Draws, count: int, twin: int, bank: TextureBank, options: SyntheticOptions
) -> CutThings:
    """Of `count` things a clip those that are cut-outs; the twin is what the main thing is, or nearly.

    All is drawn from a stream of its own, so that clips of a bank without cut-outs stay what they are.
    """
    own = draws.beside(_CUT)
    there = own.chance(options.p_cutout if len(bank.cutouts) else 0, count)
    pick = own.integers(max(1, len(bank.cutouts)), count)
    which = np.where(there, pick, -1)
    turn = own.normal(count) * np.where(own.chance(0.7, count), 0.2, 2.0)
    stretch = np.exp(0.12 * own.normal(count, 2))
    beside = draws.beside(_SLIM)
    slim = beside.chance(options.p_slim, count)
    turn = np.where(slim, beside.uniform(count, high=2 * math.pi), turn)
    stretch[..., 0] *= np.where(slim, beside.log_uniform(*options.slim, count), 1.0)
    mirrored = np.where(own.chance(0.5, count), -1.0, 1.0)
    cos, sin = np.cos(turn), np.sin(turn)
    rows = (np.stack((cos * mirrored, sin * mirrored), -1), np.stack((-sin, cos), -1))
    matrix = np.stack(rows, axis=-2) * stretch[..., None]
    things = CutThings(
        which=which,
        matrix=matrix,
        mix=_draw_mix(own, count),
        grain=draw_paints(own, count, bank, options),
        strength=own.uniform(count) * own.chance(0.6, count),
    )
    source = np.arange(count)
    source[twin] = MAIN
    return things.only(source)


def _draw_mix(draws: Draws, count: int) -> Reals:
    """Other hues, contrast and light, mostly less vivid. One in ten is inverted, or things drawn for screens
    would all be bright with dark lines."""
    angle = np.where(
        draws.chance(0.5, count), 0.2 * draws.normal(count), draws.uniform(count, high=2 * math.pi)
    )
    cos, sin = np.cos(angle), np.sin(angle)
    third, root = 1 / 3, 3**-0.5
    # A turn about the grey axis, and what is left of the colours beside their grey.
    same, next_, last = (
        cos + third * (1 - cos),
        third * (1 - cos) - root * sin,
        third * (1 - cos) + root * sin,
    )
    hue = np.stack(
        (
            np.stack((same, next_, last), -1),
            np.stack((last, same, next_), -1),
            np.stack((next_, last, same), -1),
        ),
        axis=-2,
    )
    vivid = draws.uniform(count, 1, 1, high=1.1)
    mixed = vivid * hue + (1 - vivid) * np.broadcast_to(_GREY, (3, 3))
    contrast = draws.log_uniform(0.45, 1.2, count, 1) * np.exp(0.15 * draws.normal(count, 3))
    contrast = contrast * np.where(draws.chance(0.1, count, 1), -1, 1)
    middle = draws.uniform(count, 1, low=0.3, high=0.65) + 0.05 * draws.normal(count, 3)
    base = middle - 0.5 * contrast * mixed.sum(axis=-1)
    return np.concatenate((contrast[..., None] * mixed, base[..., None]), axis=-1)


def paint_cut_things(things: CutThings, shading: Tensor, bank: TextureBank, size: int) -> Tensor:
    """float32 (B, N, 4, S, S), as `Sprites` holds them; what stands for drawn shapes is to be overwritten.

    Args:
        things: N things.
        shading: (B, N, 4) as `paint_sprites` takes it.
        bank: the cut-outs and textures.
        size: side S of the pictures.
    """
    device = shading.device
    batch, count = things.which.shape

    def on(array: Reals) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, torch.float32)

    place = pixel_grid(size, size, REACH, device)
    x, y = place.unbind(-1)
    matrix = on(things.matrix)[..., None, None]
    # Written out: a matrix product may round differently in batches of another size.
    axes = [matrix[:, :, row, 0] * x + matrix[:, :, row, 1] * y for row in (0, 1)]
    grid = (torch.stack(axes, dim=-1) / REACH).flatten(0, 1)
    pictures = bank.cutouts[torch.from_numpy(things.which.clip(0).ravel()).to(device)].float() / 255
    seen = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    seen = seen.view(batch, count, 4, size, size)
    mix = on(things.mix)[..., None, None]
    colours = [
        sum((mix[:, :, row, c] * seen[:, :, c] for c in range(3)), mix[:, :, row, 3]) for row in range(3)
    ]
    outline = (1 - 2 * seen[:, :, 3]) * DEPTH  # as drawn shapes' distances: negative inside
    grain = Swatches.of(things.grain, device).coat(bank, place / REACH)
    rough = (grain / grain.mean((2, 3, 4), keepdim=True).clamp(min=0.05)).clamp(0, 2)
    colour = torch.stack(colours, dim=2) * torch.lerp(
        torch.ones_like(rough), rough, _each(on(things.strength))
    )
    colour = colour * shade(outline, place, shading)[:, :, None]
    coverage = (0.5 - outline / (RAMP * 2 * REACH / size)).clamp(0, 1)
    return torch.cat((colour.clamp(0, 1), coverage[:, :, None]), dim=2)


def _each(values: Tensor) -> Tensor:
    return values[..., None, None, None]
