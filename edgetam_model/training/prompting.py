"""Prompts as people give them, made from true masks: boxes, first clicks, and clicks on what is wrong.

Everything is batched on the masks' device. Random numbers are drawn on the CPU, a fixed number per call, so
that every device gets the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from edgetam_model.engine import BOX_LABELS
from edgetam_model.training.recipe import PromptMix

Kind = Literal["mask", "box", "click"]

MAX_DEPTH = 24  # pixels from the outline at which all count as the middle


@dataclass(frozen=True, eq=False)
class Clicks:
    """Points for N objects. Coordinates are pixels of the network's input.

    Attributes:
        points: (N, P, 2) x, y.
        labels: (N, P) 1 on the object, 0 beside it, 2 and 3 a box's corners.
    """

    points: Tensor
    labels: Tensor

    def extended(self, later: Clicks) -> Clicks:
        """These and then the later ones."""
        return Clicks(torch.cat((self.points, later.points), 1), torch.cat((self.labels, later.labels), 1))

    def scaled(self, factor: float) -> Clicks:
        """The same places in an image whose sides are `factor` as long."""
        return Clicks(self.points * factor, self.labels)


def random_for(*numbers: int) -> torch.Generator:
    """A generator for one purpose, named by whole numbers: seed, step, …; the same for the same numbers."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:  # splitmix64's finaliser, so that neighbouring numbers give unlike streams
        state = (state + number) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return torch.Generator().manual_seed(state >> 1)


def draw_index(shares: Sequence[float], random: torch.Generator) -> int:
    """An index, each as probable as its share."""
    return int(torch.multinomial(torch.tensor(shares, dtype=torch.float64), 1, generator=random))


def draw_kind(mix: PromptMix, random: torch.Generator, *, still: bool) -> Kind:
    """How a batch's objects are shown; not by a mask on a still, where that leaves nothing to learn."""
    kinds: tuple[Kind, ...] = ("mask", "box", "click")
    return kinds[draw_index((0.0 if still else mix.mask, mix.box, mix.click), random)]


def boxes_around(masks: Tensor) -> Tensor:
    """(N, H, W) bool → (N, 4) float x0, y0, x1, y1 in pixels, the far edges excluded; empty masks give 0."""
    columns, rows = masks.any(dim=1), masks.any(dim=2)
    x0, x1 = _span(columns)
    y0, y1 = _span(rows)
    return torch.stack((x0, y0, x1, y1), dim=1).float()


def box_prompts(masks: Tensor, noise: float, random: torch.Generator) -> Clicks:
    """Boxes as two corners each, every edge displaced by a normal deviate times `noise` times the side.

    As SAM's, edges move by at most 20 pixels of 1024, stay in the image, and at least a pixel apart.
    """
    height, width = masks.shape[1:]
    box = boxes_around(masks)
    sides = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    limit = 20 * max(height, width) / 1024
    deviate = torch.randn(len(masks), 4, generator=random).to(masks.device)
    box = box + (deviate * noise * sides).clamp(-limit, limit)
    edge = torch.tensor((width, height), device=masks.device)
    low = torch.minimum(box[:, :2].clamp(min=0), edge - 1)
    high = torch.maximum(torch.minimum(box[:, 2:], edge), low + 1)
    labels = torch.tensor(BOX_LABELS, device=masks.device).expand(len(masks), 2)
    return Clicks(torch.stack((low, high), dim=1), labels)


def click_prompts(masks: Tensor, centred: float, random: torch.Generator) -> Clicks:
    """One positive click on each mask (N, H, W); an empty one is clicked in the image's middle.

    Args:
        centred: probability of a click in the middle of the mask instead of anywhere on it.
    """
    points = _draw_pixels(masks, centred, random)
    labels = torch.ones(len(masks), 1, dtype=torch.long, device=masks.device)
    return Clicks(points[:, None], labels)


def corrective_clicks(found: Tensor, masks: Tensor, centred: float, random: torch.Generator) -> Clicks:
    """One click on what is wrong: positive on what was missed, negative on what is too much.

    Which of the two is as probable as its area. Where nothing is wrong, a positive click confirms the
    object; where there is none either, a negative one anywhere.

    Args:
        found, masks: bool (N, H, W) what the model says, and the truth.
        centred: see `click_prompts`.
    """
    missed, surplus = masks & ~found, found & ~masks
    area_missed, area_surplus = _area(missed), _area(surplus)
    draw = torch.rand(len(masks), generator=random).to(masks.device)
    right = (area_missed + area_surplus) == 0
    positive = draw * (area_missed + area_surplus) < area_missed
    positive = torch.where(right, masks.flatten(1).any(dim=1), positive)
    wrong = torch.where(positive[:, None, None], missed, surplus)
    confirmed = torch.where(positive[:, None, None], masks, ~masks)
    region = torch.where(right[:, None, None], confirmed, wrong)
    points = _draw_pixels(region, centred, random)
    return Clicks(points[:, None], positive.long()[:, None])


def depth(masks: Tensor) -> Tensor:
    """(N, H, W) bool → int: how many times a pixel survives the loss of a one-pixel rim, up to MAX_DEPTH.

    Pixels outside the image count as outside the mask.
    """
    left = F.pad(masks.float(), (1, 1, 1, 1))[:, None]
    depths = masks.int()
    for _ in range(MAX_DEPTH - 1):
        left = -F.max_pool2d(-left, 3, 1, 1)
        left = left * F.pad(torch.ones_like(left[..., 1:-1, 1:-1]), (1, 1, 1, 1))
        depths = depths + left[:, 0, 1:-1, 1:-1].int()
    return depths


def _draw_pixels(regions: Tensor, centred: float, random: torch.Generator) -> Tensor:
    """(N, 2) x, y of a random pixel of each region, or of its middle."""
    draws = torch.rand(len(regions), 2, generator=random).to(regions.device)
    deep = depth(regions)
    middle = regions & (deep == deep.amax((1, 2), keepdim=True))
    chosen = torch.where((draws[:, 0] < centred)[:, None, None], middle, regions).flatten(1)
    rank = chosen.cumsum(dim=1)
    wanted = (draws[:, 1:] * rank[:, -1:]).floor() + 1  # the draw is below 1, so that this pixel exists
    index = (rank < wanted).sum(dim=1)
    height, width = regions.shape[1:]
    index = torch.where(rank[:, -1] > 0, index, height // 2 * width + width // 2)
    return torch.stack((index % width, index // width), dim=1).float()


def _span(used: Tensor) -> tuple[Tensor, Tensor]:
    """(N, L) bool → first used place and the one after the last."""
    places = torch.arange(used.shape[1], device=used.device)
    last = torch.where(used, places + 1, 0).amax(dim=1)
    first = torch.where(used, places, used.shape[1]).amin(dim=1)
    return torch.minimum(first, last), last


def _area(masks: Tensor) -> Tensor:
    return masks.flatten(1).sum(dim=1).float()
