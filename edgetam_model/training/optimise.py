"""How weights move: AdamW's groups, rates over time, gradients in the weights' layout, and the average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from edgetam_model.training.recipe import Stage

ENCODER = "image_encoder."


def rate_at(stage: Stage, step: int) -> float:
    """Learning rate of update `step` (from 0) of a stage: an even rise, then a cosine down."""
    if step < stage.warmup:
        return stage.learning_rate * (step + 1) / stage.warmup
    left = max(stage.steps - stage.warmup, 1)
    fall = (1 + math.cos(math.pi * min((step - stage.warmup) / left, 1))) / 2
    return stage.learning_rate * (stage.final_rate + (1 - stage.final_rate) * fall)


def forcing_at(stage: Stage, step: int) -> float:
    """Probability of teacher forcing at update `step` (from 0) of a stage, falling or rising evenly."""
    done = step / max(stage.steps - 1, 1)
    return stage.forcing_start + (stage.forcing_end - stage.forcing_start) * done


def make_optimizer(parameters: Mapping[str, nn.Parameter], stage: Stage) -> torch.optim.AdamW:
    """AdamW over named parameters, in their order: one group each, so that its state can be named.

    Biases and norms, which have one dimension, do not decay. `fused` stays off: on a CPU it pairs a weight
    with a gradient of another memory layout in raw order, and half of the updates get the wrong sign.
    """
    groups = [
        {
            "params": [parameter],
            "weight_decay": stage.weight_decay if parameter.ndim > 1 else 0.0,
            "scale": stage.encoder_rate if name.startswith(ENCODER) else 1.0,
        }
        for name, parameter in parameters.items()
    ]
    return torch.optim.AdamW(groups, lr=stage.learning_rate, betas=stage.betas, fused=False)


def update(optimizer: torch.optim.AdamW, rate: float, clip_norm: float) -> float:
    """One step along the gradients, which are cleared; returns their norm before clipping."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    align_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)


def align_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Bring every gradient into its weight's memory layout (channels_last convolutions mix them up)."""
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None and gradient.stride() != parameter.stride():
            parameter.grad = torch.empty_like(parameter).copy_(gradient)


@torch.no_grad()
def average(averaged: nn.Module, model: nn.Module, decay: float, updates: int) -> None:
    """Move averaged weights, and the batch norms' statistics, towards the model's.

    Args:
        averaged: has the model's layout.
        decay: what stays of the average; less during the first updates, so that the start is forgotten.
        updates: how many there have been, this one included.
    """
    kept = min(decay, updates / (updates + 9))
    theirs: dict[str, Tensor] = model.state_dict()
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            value.lerp_(theirs[name], 1 - kept)
        else:
            value.copy_(theirs[name])
