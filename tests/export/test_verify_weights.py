"""Stored weights against the model's: every way of storing has its limits, and what lies beyond is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgetam_model.errors import WeightsError
from edgetam_model.export.mil_program import Program, Weight
from edgetam_model.export.verify_weights import check_weights
from edgetam_model.parts.specs import PartSpec, TensorSpec

ROWS, COLUMNS = 6, 8
SPEC = PartSpec("one", (TensorSpec("x", (1, COLUMNS), "x"),), (TensorSpec("y", (1, ROWS), "y"),))
PLACE = 20  # of a number to damage


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(COLUMNS, ROWS).eval().requires_grad_(False)


def check(weight: Weight) -> None:
    check_weights(Program((), (), (), {}, (weight,)), layer(), SPEC)


def model_values() -> np.ndarray:
    return layer().weight.numpy().copy()


def found(weight: Weight) -> None:
    with pytest.raises(WeightsError, match="w: not the model's numbers"):
        check(weight)


def test_any_bit_but_the_lowest_shows_at_half_precision() -> None:
    values = model_values().astype(np.float16)
    check(Weight("w", values))
    values.reshape(-1).view(np.uint16)[PLACE] ^= 2
    found(Weight("w", values))


def test_a_wrong_step_shows_at_8_bits() -> None:
    values = model_values()
    scale = np.abs(values).max() / 127
    stored = np.round(values / scale)
    check(Weight("w", stored * scale, scale / 2))
    stored.reshape(-1)[PLACE] += 1
    found(Weight("w", stored * scale, scale / 2))


def test_a_wrong_index_shows_with_a_palette() -> None:
    values = model_values()
    palette = np.quantile(values, (np.arange(16) + 0.5) / 16).astype(np.float32)
    indices = np.abs(values[..., None] - palette).argmin(-1)
    check(Weight("w", palette[indices], palette=palette))
    indices.reshape(-1)[PLACE] = 15 if indices.reshape(-1)[PLACE] < 8 else 0  # an end, beyond which all goes
    found(Weight("w", palette[indices], palette=palette))


def test_zeros_do_not_stand_for_a_bias_that_there_is() -> None:
    found(Weight("w", np.zeros(ROWS, np.float16)))
