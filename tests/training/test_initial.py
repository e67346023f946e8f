"""First weights."""

from __future__ import annotations

import pytest
import torch

from edgetam_model.config import CONFIGS
from edgetam_model.errors import InputError
from edgetam_model.training.initial import new_model, resized
from tests.models import windowed_model


def test_the_seed_decides_and_the_callers_random_numbers_stay() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (new_model(CONFIGS["tiny"], seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert one.maskmem_tpos_enc.any(), "ages must differ from the start"


def test_another_input_size_keeps_the_weights() -> None:
    model = windowed_model()
    larger = resized(model, 128)
    assert larger.config.image_size == 128
    assert not larger.training
    for name, value in model.state_dict().items():
        assert torch.equal(larger.state_dict()[name], value), name
    with torch.inference_mode():
        features = larger.encode_image(torch.zeros(1, 3, 128, 128))
    assert features.stride16.shape[-1] == 8


def test_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="image_size"):
        resized(windowed_model(), 100)
