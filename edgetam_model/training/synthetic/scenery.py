"""What stands still: a canvas of textured regions with clutter on it, larger than the frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgetam_model.training.synthetic.draws import Draws, Ints, Reals
from edgetam_model.training.synthetic.paint import Swatches
from edgetam_model.training.synthetic.sprites import REACH, Sprites, pixel_grid
from edgetam_model.training.textures import TextureBank

EXTENT = 2.0  # half frames from the canvas's middle to its edge, where it goes on mirrored
REGIONS = 3  # the ground and what lies before or above it
CLUTTER = 3  # different things that stand about, each several times
_CELLS = (3, 5)  # clutter per side of the canvas: a layer of large things, one of small
_TILES = 2.5  # of half a texture across half a canvas of 256 pixels: about one texel a pixel


@dataclass(frozen=True, eq=False)
class ScenePlan:
    """The canvases of B clips.

    Attributes:
        edges: (B, REGIONS − 1, 4) angle, offset, height and frequency of each region's wavy border.
        patches: (B, REGIONS − 1, 7, 7) how far the border lies off elsewhere, which makes islands.
        light: (B, 5, 5) brightness over the canvas.
        which: per layer of clutter (B, cells, cells) the thing, or −1.
        shift, turn, scale: per layer (B, cells, cells[, 2]) its place in the cell, angle and size.
    """

    edges: Reals
    patches: Reals
    light: Reals
    which: tuple[Ints, ...]
    shift: tuple[Reals, ...]
    turn: tuple[Reals, ...]
    scale: tuple[Reals, ...]


def draw_scene(draws: Draws) -> ScenePlan:
    """Mostly one to three regions one above the other, as ground, wall and sky are, and some clutter."""
    count = REGIONS - 1
    angle = math.pi / 2 + np.where(
        draws.chance(0.75, count), 0.12 * draws.normal(count), draws.uniform(count, high=6.3)
    )
    offset = np.where(draws.chance(0.65, count), draws.uniform(count, low=-0.8, high=0.8), 9.0)
    height = draws.log_uniform(0.005, 0.12, count)
    edges = np.stack((angle, offset, height, draws.log_uniform(2, 12, count)), -1)
    crowd = draws.uniform(1, 1) ** 2
    which, shift, turn, scale = [], [], [], []
    for cells in _CELLS:
        there = draws.uniform(cells, cells) < crowd
        which.append(np.where(there, draws.integers(CLUTTER, cells, cells), -1))
        size = draws.uniform(cells, cells, low=0.25, high=0.9)
        scale.append(size)
        room = np.maximum(0, 0.9 - size)[..., None]
        shift.append(room * draws.uniform(cells, cells, 2, low=-1, high=1))
        turn.append(draws.normal(cells, cells) * np.where(draws.chance(0.5, 1, 1), 0.15, 3))
    patchy = draws.uniform(count, 1, 1) * draws.chance(0.5, count, 1, 1)
    patches = patchy * draws.normal(count, 7, 7)
    light = np.exp(draws.uniform(1, 1, high=0.35) * np.clip(draws.normal(5, 5), -1.5, 1.5))
    return ScenePlan(edges, patches, light, tuple(which), tuple(shift), tuple(turn), tuple(scale))


def paint_canvas(plan: ScenePlan, paints: Swatches, clutter: Sprites, bank: TextureBank, size: int) -> Tensor:
    """The canvases, float32 (B, 3, size, size) RGB 0 to 1.

    Args:
        plan: what is where.
        paints: REGIONS surfaces a clip.
        clutter: CLUTTER things a clip.
        bank: the textures.
        size: side of the canvas in pixels; it shows −EXTENT … EXTENT.
    """
    device = paints.gain.device
    place = pixel_grid(size, size, EXTENT, device)
    tiles = _TILES * (size / 256) ** 0.5 / EXTENT
    colours = paints.coat(bank, place * tiles)
    canvas = colours[:, 0]
    edges = torch.from_numpy(plan.edges).to(device, torch.float32)[..., None, None]
    patches = torch.from_numpy(plan.patches).to(device, torch.float32)
    patches = F.interpolate(patches, (size, size), mode="bicubic", align_corners=True)
    pixel = 2 * EXTENT / size
    for region in range(1, REGIONS):
        angle, offset, height, waves = edges[:, region - 1].unbind(1)
        along = place[..., 0] * angle.sin() - place[..., 1] * angle.cos()
        across = place[..., 0] * angle.cos() + place[..., 1] * angle.sin()
        border = offset + height * (torch.sin(waves * along) + torch.sin(1.7 * waves * along + offset))
        inside = ((across - border + patches[:, region - 1]) / pixel + 0.5).clamp_(0, 1)
        canvas = torch.lerp(canvas, colours[:, region], inside[:, None])
    for layer in range(len(_CELLS)):
        canvas = _scatter(canvas, plan, layer, clutter, place)
    light = torch.from_numpy(plan.light).to(device, torch.float32)[:, None]
    light = F.interpolate(light, (size, size), mode="bilinear", align_corners=True)
    return (canvas * light).clamp_(0, 1)


def _scatter(canvas: Tensor, plan: ScenePlan, layer: int, clutter: Sprites, place: Tensor) -> Tensor:
    """The canvas with a layer of clutter: a grid with at most one thing a cell, so that one look-up draws
    them all."""
    if not (plan.which[layer] >= 0).any():
        return canvas
    cells, device = plan.which[layer].shape[1], canvas.device
    scaled = (place / EXTENT + 1) * (cells / 2)
    column, row = scaled.floor().long().clamp_(0, cells - 1).unbind(-1)

    def spread(array: Reals | Ints) -> Tensor:
        return torch.from_numpy(array).to(device, torch.float32)[:, row, column]

    which, turn, scale = spread(plan.which[layer]), spread(plan.turn[layer]), spread(plan.scale[layer])
    shift = spread(plan.shift[layer])
    x = ((scaled[..., 0] - column) * 2 - 1 - shift[..., 0]) / scale
    y = ((scaled[..., 1] - row) * 2 - 1 - shift[..., 1]) / scale
    cos, sin = turn.cos(), turn.sin()
    across, down = (x * cos + y * sin) / REACH, (y * cos - x * sin) / REACH
    within = (across.abs() < 1) & (down.abs() < 1) & (which >= 0)

    batch, count, _, side, _ = clutter.pixels.shape
    atlas = clutter.pixels.permute(0, 2, 3, 1, 4).reshape(batch, 4, side, count * side)
    grid = torch.stack(((across + 2 * which + 1) / count - 1, down), dim=-1)
    seen = F.grid_sample(atlas, grid, align_corners=False)
    unit = canvas.shape[-1] / (2 * cells) * scale  # pixels per unit of the things
    solid = ((seen[:, 3] - 0.5) * (unit / clutter.slope) + 0.5).clamp_(0, 1) * within
    return torch.lerp(canvas, seen[:, :3], solid[:, None])
