"""Weights from a seed, for sizes and errors of models whose trained weights are not at hand."""

from __future__ import annotations

import torch

from edgetam_model.config import CONFIGS
from edgetam_model.errors import InputError
from edgetam_model.model import EdgeTAM
from edgetam_model.weights import OWN_LICENCE, WeightsInfo

SPREAD = 0.1  # of numbers that PyTorch would leave alike


def untrained_model(config: str, seed: int) -> EdgeTAM:
    """A model of a known size, in eval mode, whose numbers all differ and mean nothing.

    PyTorch begins with tensors of one number, above all 0 and 1, where trained weights have many: mistakes in
    them would not show. They are drawn around that number.

    Raises:
        InputError: no such config, or a negative seed.
    """
    if config not in CONFIGS:
        raise InputError("config", f"expected one of {', '.join(CONFIGS)}, got {config!r:.40}")
    if seed < 0:
        raise InputError("seed", f"expected 0 or more, got {seed}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EdgeTAM(CONFIGS[config]).eval()
        for value in model.state_dict().values():
            if value.is_floating_point() and (value == value.flatten()[0]).all():
                value.add_(torch.randn_like(value).mul_(SPREAD).clamp_(-0.5, 0.5))  # variances stay positive
    name = f"untrained {config}, seed {seed}"
    model.weights_info = WeightsInfo(name, None, model.fingerprint(), trained=False, licence=OWN_LICENCE)
    return model
