"""Fused convolutions and position encodings against the plain definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from edgetam_model.nn.layers import ConvNorm, LayerNorm2d, sine_position
from edgetam_model.nn.repvit import RepViT, TokenMixer


def stir(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms the statistics and affine values of a trained network."""
    generator = torch.Generator().manual_seed(seed)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        for values, low, high in (
            (norm.running_mean, -1, 1),
            (norm.running_var, 0.3, 3),
            (norm.weight.data, -1, 2),
            (norm.bias.data, -1, 1),
        ):
            assert values is not None
            values.uniform_(low, high, generator=generator)
    return module.eval()


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 1, 1), (3, 1, 1), (3, 2, 8), (1, 1, 8)])
@torch.no_grad()
def test_a_fused_convolution_gives_the_same_numbers(kernel: int, stride: int, groups: int) -> None:
    layer = stir(ConvNorm(8, 16, kernel, stride=stride, groups=groups))
    x = torch.randn(2, 8, 9, 11, generator=torch.Generator().manual_seed(1))
    assert isinstance(layer, ConvNorm)
    torch.testing.assert_close(layer.fused()(x), layer(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_fused_token_mixer_is_one_convolution() -> None:
    mixer = stir(TokenMixer(12))
    assert isinstance(mixer, TokenMixer)
    x = torch.randn(1, 12, 7, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(mixer.fused()(x), mixer(x), atol=1e-5, rtol=1e-5)


def test_the_trunk_gives_four_strides() -> None:
    maps = RepViT((8, 16, 24, 32), (1, 1, 2, 1))(torch.zeros(2, 3, 64, 64))
    assert [tuple(m.shape) for m in maps] == [(2, 8, 16, 16), (2, 16, 8, 8), (2, 24, 4, 4), (2, 32, 2, 2)]


def test_layer_norm_works_over_channels() -> None:
    norm = LayerNorm2d(6)
    x = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-6)
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)


def test_sine_positions_follow_their_formula() -> None:
    channels, height, width = 8, 3, 5
    encoded = sine_position(channels, height, width)
    half = channels // 2
    for y in range(height):
        for x in range(width):
            for axis, (place, count) in enumerate(((y, height), (x, width))):
                for i in range(half):
                    angle = (place + 1) / (count + 1e-6) * 2 * math.pi / 10_000 ** (2 * (i // 2) / half)
                    expected = math.sin(angle) if i % 2 == 0 else math.cos(angle)
                    assert encoded[axis * half + i, y, x] == pytest.approx(expected, abs=1e-5)
