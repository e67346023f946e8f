"""Parts with a package's numbers: every compressed tensor finds its place, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgetam_model.errors import WeightsError
from edgetam_model.export.mil_program import Program, Weight
from edgetam_model.export.stored_weights import with_stored_weights

ROWS, COLUMNS = 6, 8


class Pair(nn.Module):
    """Two tensors of one size, told apart by their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(COLUMNS, ROWS)
        self.second = nn.Linear(COLUMNS, ROWS)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.first(x) - self.second(x)
        return out


def pair() -> Pair:
    torch.manual_seed(0)
    return Pair().eval().requires_grad_(False)


def rounded(values: np.ndarray) -> Weight:
    """To 8 bits."""
    scale = np.abs(values).max() / 127
    return Weight("w", np.round(values / scale) * scale, scale / 2)


def program(*weights: Weight) -> Program:
    return Program((), (), (), {}, weights)


@pytest.mark.parametrize("turned", [False, True])
def test_a_compressed_tensor_takes_the_place_of_its_own(turned: bool) -> None:
    part = pair()
    values = part.second.weight.numpy()
    weight = rounded(values.T if turned else values)
    found = with_stored_weights(part, program(weight))
    expected = weight.values.T if turned else weight.values
    changed = {name for name, value in found.state_dict().items() if (value != part.state_dict()[name]).any()}
    assert changed == {"second.weight"}
    assert np.array_equal(found.get_parameter("second.weight").numpy(), expected.astype(np.float32))
    assert part.state_dict()["second.weight"].equal(pair().second.weight), "the part itself stays as it was"


def test_what_is_not_compressed_stays() -> None:
    part = pair()
    half = Weight("w", part.first.weight.numpy().astype(np.float16))
    found = with_stored_weights(part, program(half))
    assert all(value.equal(part.state_dict()[name]) for name, value in found.state_dict().items())


def test_a_tensor_that_the_part_does_not_have_is_an_error() -> None:
    weight = rounded(pair().first.weight.numpy() + 1)
    with pytest.raises(WeightsError, match="w: of none of the part's tensors"):
        with_stored_weights(pair(), program(weight))
