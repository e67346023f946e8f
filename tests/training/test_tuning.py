"""Only the part that is meant to learn does; adapters begin as nothing and end as plain weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from edgetam_model.errors import InputError
from edgetam_model.model import EdgeTAM
from edgetam_model.model_io import Choice
from edgetam_model.training.recipe import Tuning
from edgetam_model.training.tuning import merged, tune
from tests.models import windowed_model


@pytest.fixture
def model() -> EdgeTAM:
    return copy.deepcopy(windowed_model())


def learning(model: EdgeTAM) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def seen(model: EdgeTAM) -> Tensor:
    """What becomes of an image; all that is compared is far behind the adapters."""
    with torch.inference_mode():
        size = model.config.image_size
        image = model.encode_image(torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size))
        points, labels = torch.full((1, 1, 2), size / 2), torch.ones(1, 1, dtype=torch.int32)
        out = model.offer(model.without_memory(image), image, points, labels, None, None)
        choice = Choice(multimask=False, shown=True)
        return model.refine(model.choose(out, choice), out, image, choice).logits


def test_full_trains_everything(model: EdgeTAM) -> None:
    tune(model, Tuning("full"), 0)
    assert learning(model) == {name for name, _ in model.named_parameters()}


def test_decoder_leaves_encoder_and_memory_alone(model: EdgeTAM) -> None:
    tune(model, Tuning("decoder"), 0)
    names = learning(model)
    assert {name.split(".")[0] for name in names} == {"sam_mask_decoder", "sam_prompt_encoder", "refiner"}
    assert len(names) == sum(name.startswith(("sam_", "refiner.")) for name, _ in model.named_parameters())


def test_adapters_train_alone_and_reach_attention_pyramid_and_refiner(model: EdgeTAM) -> None:
    whole = sum(p.numel() for p in model.parameters())
    tune(model, Tuning("adapter", rank=2), 0)
    names = learning(model)
    assert all(name.endswith((".up", ".down")) for name in names)
    for start in ("sam_mask_decoder.transformer", "memory_attention", "image_encoder.neck", "refiner"):
        assert any(name.startswith(start) for name in names), start
    assert not any("trunk" in name for name in names)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) < 0.2 * whole


def test_adapters_begin_as_no_change(model: EdgeTAM) -> None:
    before = seen(model)
    assert torch.equal(seen(tune(model, Tuning("adapter"), 0)), before)


def test_merged_weights_do_what_the_adapters_did(model: EdgeTAM) -> None:
    plain_names = set(model.state_dict())
    before = seen(model)
    tune(model, Tuning("adapter", rank=2), 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    adapted = seen(model)
    assert not torch.allclose(adapted, before, atol=1e-3)
    plain = merged(model)
    assert set(plain.state_dict()) == plain_names
    assert not any(parametrize.is_parametrized(layer) for layer in plain.modules())
    torch.testing.assert_close(seen(plain), adapted, rtol=0, atol=1e-6)
    assert any(parametrize.is_parametrized(layer) for layer in model.modules()), "the original keeps them"


def test_without_adapters_merging_gives_the_model_itself(model: EdgeTAM) -> None:
    assert merged(model) is model


def test_first_weights_come_from_the_seed_and_no_one_elses_numbers(model: EdgeTAM) -> None:
    other = copy.deepcopy(model)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tune(model, Tuning("adapter"), 7)
    assert torch.equal(torch.rand(3), expected)
    tune(other, Tuning("adapter"), 7)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("mode", "rank", "field"), [("lora", 8, "mode"), ("adapter", 0, "rank")])
def test_other_options_are_refused(mode: str, rank: int, field: str) -> None:
    with pytest.raises(InputError, match=field):
        Tuning(mode, rank)
