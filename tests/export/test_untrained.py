"""Weights from a seed: the same every time, and no tensor of one number only."""

from __future__ import annotations

import pytest

from edgetam_model.errors import InputError
from edgetam_model.export.untrained import untrained_model
from edgetam_model.weights import WeightsInfo


def test_a_seed_makes_the_same_weights_every_time() -> None:
    model, same, other = (untrained_model("tiny", seed) for seed in (0, 0, 1))
    assert model.fingerprint() == same.fingerprint() != other.fingerprint()
    assert not model.training
    info = model.weights_info
    assert isinstance(info, WeightsInfo)
    assert (info.name, info.trained) == ("untrained tiny, seed 0", False)


def test_no_tensor_is_of_one_number() -> None:
    for name, value in untrained_model("tiny", 0).state_dict().items():
        if value.is_floating_point() and value.numel() > 1:
            assert value.min() < value.max(), name
        if name.endswith("running_var"):
            assert value.min() > 0, name


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match=r"config: expected one of .*edgetam.*, got 'huge'"):
        untrained_model("huge", 0)
    with pytest.raises(InputError, match="seed: expected 0 or more, got -1"):
        untrained_model("tiny", -1)
