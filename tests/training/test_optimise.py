"""Updates go down the gradient whatever the memory layout; rates and averages are as described."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgetam_model.training.optimise import (
    align_gradients,
    average,
    forcing_at,
    make_optimizer,
    rate_at,
    update,
)
from edgetam_model.training.recipe import Stage

STAGE = Stage(steps=10, warmup=2, learning_rate=0.1, final_rate=0.1, weight_decay=0.5, encoder_rate=0.5)


def test_every_update_has_the_gradients_sign_in_channels_last() -> None:
    """Weights and gradients in different layouts, as channels_last convolutions leave them, both ways."""
    random = torch.Generator().manual_seed(0)
    for weight_format, gradient_format in (
        (torch.contiguous_format, torch.channels_last),
        (torch.channels_last, torch.contiguous_format),
    ):
        start = torch.randn(8, 6, 3, 3, generator=random)
        gradient = torch.randn(8, 6, 3, 3, generator=random)
        weight = nn.Parameter(start.clone(memory_format=weight_format))
        weight.grad = gradient.clone(memory_format=gradient_format)
        stage = Stage(weight_decay=0.0)
        update(make_optimizer({"weight": weight}, stage), 1e-3, 1e9)
        assert torch.equal((weight.detach() - start).sign(), -gradient.sign())


def test_a_real_convolution_in_channels_last() -> None:
    conv = nn.Conv2d(8, 16, 3)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )
    conv(x).square().mean().backward()
    assert conv.weight.grad is not None
    before, gradient = conv.weight.detach().clone(), conv.weight.grad.clone()
    update(make_optimizer(dict(conv.named_parameters()), Stage(weight_decay=0.0)), 1e-3, 1e9)
    assert torch.equal((conv.weight.detach() - before).sign(), -gradient.sign())


def test_gradients_are_brought_into_the_weights_layout() -> None:
    weight = nn.Parameter(torch.randn(4, 3, 2, 2))
    gradient = torch.randn(4, 3, 2, 2)
    weight.grad = gradient.clone(memory_format=torch.channels_last)
    align_gradients([weight])
    assert weight.grad.is_contiguous()
    assert torch.equal(weight.grad, gradient)


def test_rates_rise_evenly_and_fall_as_a_cosine() -> None:
    rates = [rate_at(STAGE, step) for step in range(11)]
    assert rates[:3] == pytest.approx([0.05, 0.1, 0.1])
    assert rates[6] == pytest.approx((0.1 + 0.01) / 2), "half way down"
    assert rates[10] == pytest.approx(0.01)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_forcing_goes_evenly_from_start_to_end() -> None:
    stage = Stage(steps=5, forcing_start=0.9, forcing_end=0.1)
    assert [forcing_at(stage, step) for step in range(5)] == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1])
    assert forcing_at(Stage(steps=1), 0) == 0.9


def test_biases_do_not_decay_and_the_encoder_has_its_own_rate() -> None:
    parameters = {
        "image_encoder.w": nn.Parameter(torch.ones(2, 2)),
        "head.w": nn.Parameter(torch.ones(2, 2)),
        "head.b": nn.Parameter(torch.ones(2)),
    }
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    update(make_optimizer(parameters, STAGE), 0.1, 1.0)
    left = [float(p.detach().flatten()[0]) for p in parameters.values()]
    assert left == pytest.approx([1 - 0.1 * 0.5 * 0.5, 1 - 0.1 * 0.5, 1.0])


def test_the_norm_is_of_the_gradients_before_clipping() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert update(make_optimizer({"w": weight}, STAGE), 0.1, 1.0) == pytest.approx(5)
    assert weight.grad is None


def test_the_average_forgets_the_start() -> None:
    averaged, model = (nn.BatchNorm2d(1).requires_grad_(False) for _ in range(2))
    with torch.no_grad():
        model.weight.fill_(3)
        assert model.num_batches_tracked is not None
        model.num_batches_tracked.fill_(7)
    average(averaged, model, 0.999, 1)
    assert averaged.weight.item() == pytest.approx(1 + 2 * 0.9), "a tenth is kept after one update"
    average(averaged, model, 0.5, 10**6)
    assert averaged.weight.item() == pytest.approx(2.8 + 0.1)
    assert averaged.num_batches_tracked == 7
