"""The evaluator's operations against PyTorch's, which share no kernel with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetam_model.errors import WeightsError
from edgetam_model.export.mil_ops import OPERATIONS

CLOSE = 2e-5


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def same(found: np.ndarray, wanted: torch.Tensor) -> None:
    assert found.shape == tuple(wanted.shape)
    np.testing.assert_allclose(found, wanted.numpy(), atol=CLOSE, rtol=CLOSE)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


@settings(deadline=None)
@given(
    channels=st.sampled_from([(4, 6, 1), (4, 8, 2), (6, 6, 6)]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    step=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pad=st.integers(0, 2),
)
def test_convolutions(
    channels: tuple[int, int, int], kernel: tuple[int, int], step: tuple[int, int], pad: int
) -> None:
    taken, given_out, groups = channels
    x, weight, bias = drawn(2, taken, 7, 8), drawn(given_out, taken // groups, *kernel), drawn(given_out)
    found = OPERATIONS["conv"](
        x, weight, bias, whole(*step), "custom", whole(pad, pad, pad, pad), whole(1, 1), groups
    )
    picture, kernels, added = _tensors(x, weight, bias)
    same(found, F.conv2d(picture, kernels, added, step, pad, groups=groups))


@settings(deadline=None)
@given(kernel=st.integers(1, 3), step=st.integers(1, 3))
def test_transposed_convolutions(kernel: int, step: int) -> None:
    x, weight, bias = drawn(2, 3, 4, 5), drawn(3, 6, kernel, kernel), drawn(6)
    found = OPERATIONS["conv_transpose"](x, weight, bias, strides=whole(step, step))
    picture, kernels, added = _tensors(x, weight, bias)
    same(found, F.conv_transpose2d(picture, kernels, added, step))


@settings(deadline=None)
@given(factor=st.integers(1, 4))
def test_pictures_at_other_sizes(factor: int) -> None:
    x = drawn(1, 2, 4, 8)
    tensor = torch.from_numpy(x)
    large = OPERATIONS["upsample_bilinear"](x, factor, factor, False)
    same(large, F.interpolate(tensor, scale_factor=factor, mode="bilinear", align_corners=False))
    nearest = OPERATIONS["upsample_nearest_neighbor"](x, factor, factor)
    same(nearest, F.interpolate(tensor, scale_factor=factor, mode="nearest"))
    pooled = OPERATIONS["avg_pool"](x, whole(2, 4), whole(2, 4))
    same(pooled, F.avg_pool2d(tensor, (2, 4)))


@pytest.mark.parametrize("masked", [False, True])
def test_attention(masked: bool) -> None:
    q, k, v = drawn(2, 3, 5, 8), drawn(2, 3, 7, 8, seed=1), drawn(2, 3, 7, 8, seed=2)
    mask = drawn(2, 1, 1, 7, seed=3) if masked else None
    query, key, value = _tensors(q, k, v)
    added = None if mask is None else torch.from_numpy(mask)
    wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=added)
    same(OPERATIONS["scaled_dot_product_attention"](q, k, v, mask), wanted)


def test_norms_and_curves() -> None:
    x, gamma, beta = drawn(3, 5, 16) * 3, drawn(16, seed=1), drawn(16, seed=2)
    tensor = torch.from_numpy(x)
    normed = F.layer_norm(tensor, (16,), torch.from_numpy(gamma), torch.from_numpy(beta), 1e-5)
    same(OPERATIONS["layer_norm"](x, whole(-1), gamma, beta, np.float32(1e-5)), normed)
    curves: dict[str, Any] = {"gelu": F.gelu, "softplus": F.softplus, "sigmoid": torch.sigmoid}
    for name, curve in curves.items():
        same(OPERATIONS[name](x), curve(tensor))
    same(OPERATIONS["softmax"](x, -1), tensor.softmax(-1))
    same(OPERATIONS["rsqrt"](x * x, np.float32(0.1)), (tensor * tensor + 0.1).rsqrt())
    weight, bias = _tensors(drawn(4, 16), beta[:4])
    same(OPERATIONS["linear"](x, drawn(4, 16), beta[:4]), F.linear(tensor, weight, bias))


def _tensors(*arrays: np.ndarray) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(one.copy()) for one in arrays)


def test_slices_follow_their_masks() -> None:
    x = drawn(4, 6, 5)
    found = OPERATIONS["slice_by_index"](
        x,
        begin=whole(1, 0, 2),
        end=whole(0, 5, 0),
        stride=whole(1, 2, 1),
        begin_mask=np.array([False, True, False]),
        end_mask=np.array([True, False, False]),
        squeeze_mask=np.array([False, False, True]),
    )
    assert np.array_equal(found, x[1:, :5:2, 2])


def test_what_an_operation_cannot_do_is_said() -> None:
    picture = drawn(1, 2, 5, 4)
    for name, arguments in (
        ("avg_pool", {"x": picture, "kernel_sizes": whole(2, 2), "strides": whole(2, 2)}),
        ("upsample_nearest_neighbor", {"x": picture, "scale_factor_height": 1.5, "scale_factor_width": 1}),
        ("gelu", {"x": picture, "mode": "TANH_APPROXIMATION"}),
        ("pad", {"x": picture, "pad": whole(1, 1), "mode": "reflect"}),
        ("concat", {"values": [picture], "axis": 0, "interleave": True}),
        ("conv", {"x": picture, "weight": drawn(2, 2, 2, 2), "dilations": whole(2, 2)}),
        ("conv", {"x": picture, "weight": drawn(2, 2, 2, 2), "pad_type": "same", "pad": whole(0, 0, 0, 0)}),
    ):
        with pytest.raises(WeightsError, match="not known here"):
            OPERATIONS[name](**arguments)
    assert math.isclose(float(OPERATIONS["gelu"](np.array([100.0], np.float32))[0]), 100.0)
