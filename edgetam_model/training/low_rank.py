"""Low-rank adapters: a layer's weights stay as they are, and a thin product is learned on top of them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

LAYERS = (nn.Linear, nn.Conv2d)


class LowRank(nn.Module):
    """W → W + up · down, where W is seen as (outputs, all the rest). It begins as no change at all.

    Args:
        weight: of the layer, (outputs, …).
        rank: r; `up` is (outputs, r), `down` (r, the rest).

    Source: LoRA (arXiv 2106.09685).
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        outputs, inner = weight.shape[0], weight[0].numel()
        self.down = nn.Parameter(torch.randn(rank, inner).to(weight) / math.sqrt(inner))
        self.up = nn.Parameter(torch.zeros(outputs, rank).to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer works with."""
        return weight + (self.up @ self.down).view_as(weight)


def add_adapters(layers: Iterable[nn.Module], rank: int, seed: int) -> int:
    """Give linear layers and convolutions an adapter each; the caller's random numbers stay untouched.

    Returns:
        How many layers have one now.
    """
    count = 0
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for layer in layers:
            if isinstance(layer, LAYERS):
                parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))
                count += 1
    return count


def merge_adapters(model: nn.Module) -> None:
    """Put what the adapters learned into the layers' own weights, which then have their first names again."""
    for layer in list(model.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
