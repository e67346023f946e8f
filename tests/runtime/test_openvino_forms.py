"""What graphs are changed into computes what they did."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as operations

from edgetam_model.runtime.openvino_forms import approximate_gelu, spell_out_attention

Shape = tuple[int, ...]


def computed(model: Any, *inputs: np.ndarray) -> np.ndarray:
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return np.array(openvino.Core().compile_model(model, "CPU", options)(list(inputs))[0])


def kinds(model: Any) -> set[str]:
    return {one.get_type_name() for one in model.get_ops()}


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [((2, 7, 16), (2, 9, 16)), ((1, 3, 7, 16), (1, 3, 9, 16))])
def test_attention(queries: Shape, keys: Shape, biased: bool) -> None:
    random = np.random.default_rng(0)
    inputs = [random.normal(size=shape).astype(np.float32) for shape in (queries, keys, keys)]
    if biased:
        inputs.append(random.normal(size=(*keys[:-2], 1, keys[-2])).astype(np.float32) * 3)
    given = [operations.parameter(one.shape, np.float32) for one in inputs]
    bias = {"attention_mask": given[3]} if biased else {}
    attended = operations.scaled_dot_product_attention(*given[:3], **bias, causal=False)
    model = openvino.Model([attended], given)
    wanted = computed(model.clone(), *inputs)
    spell_out_attention(model)
    assert "ScaledDotProductAttention" not in kinds(model)
    np.testing.assert_allclose(computed(model, *inputs), wanted, atol=2e-6)


def test_gelu() -> None:
    given = operations.parameter((20_001,), np.float32)
    model = openvino.Model([operations.gelu(given, "ERF")], [given])
    x = np.linspace(-30, 30, 20_001, dtype=np.float32)
    wanted = computed(model.clone(), x)
    approximate_gelu(model)
    assert "Gelu" not in kinds(model)
    off = np.abs(computed(model, x) - wanted)
    assert off[np.abs(x) <= 4].max() <= 3e-4
    assert (off <= 3e-4 + 1e-4 * np.abs(x)).all(), "beyond, a share of x below bfloat16's rounding, 4e-3"
