"""Weights on the line between two: most of what was learned with less of what was forgotten."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def interpolated(first: Mapping[str, Tensor], last: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The first weights changed by a share of what separates the last ones from them.

    Args:
        first, last: of one model, on one device.
        share: 0 gives the first, 1 the last; counts of batches are the last's.

    Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (arXiv 2109.01903).
    """
    return {
        name: torch.lerp(first[name], tensor, share) if tensor.is_floating_point() else tensor
        for name, tensor in last.items()
    }
