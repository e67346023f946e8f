"""The best weights so far by what is held out, and when to stop looking for better ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_TOLD = "told"  # the entry that holds the numbers


class Best:
    """Weights of the best validation.

    Args:
        patience: validations without a better one after which it is time to stop; 0: never, and nothing is
            kept.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.score = -math.inf
        self.stale = 0
        self.weights: dict[str, Tensor] = {}

    @property
    def is_stale(self) -> bool:
        """Whether to stop."""
        return 0 < self.patience <= self.stale

    def see(self, score: float, model: nn.Module) -> None:
        """A validation's score of a model; its weights are copied if it is the best."""
        if not self.patience:
            return
        self.stale += 1
        if score > self.score:
            self.score, self.stale = score, 0
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def tensors(self) -> dict[str, Tensor]:
        """All of it as tensors, for a training's state; nothing where nothing was seen."""
        if not self.weights:
            return {}
        return {_TOLD: torch.tensor([self.score, float(self.stale)], dtype=torch.float64), **self.weights}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        if _TOLD in tensors:
            score, stale = tensors[_TOLD].tolist()
            self.score, self.stale = score, int(stale)
            self.weights = {name: value for name, value in tensors.items() if name != _TOLD}
