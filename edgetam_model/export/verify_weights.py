"""A package's weights against the model's, number by number: what no comparison of outputs would show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx.node import Node, map_arg

from edgetam_model.errors import WeightsError
from edgetam_model.export.mil_blobs import Array
from edgetam_model.export.mil_program import Program, Weight
from edgetam_model.export.quiet import quiet
from edgetam_model.parts.making import example_inputs
from edgetam_model.parts.specs import PartSpec

ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
LINEAR = torch.ops.aten.linear.default
PRODUCTS = (torch.ops.aten.matmul.default, torch.ops.aten.mm.default, torch.ops.aten.bmm.default)
ROUNDING_ULPS = 0.505  # of the type in the file: half a step
COMPUTED_ULPS = 1.0  # the same for what the converter computed: its sums differ before they are rounded
SMALLEST = 6e-8  # number of float16 above 0: what rounds to 0 is stored as that
SLACK = 1.01  # numbers half way between two of a palette go to either
COMPRESSED_ULPS = (
    3.0  # of float16, besides what its bits explain: the weight was float16 before, and scales are
)
Known = dict[int, list[Array]]  # by how many numbers they have


@dataclass(frozen=True)
class _Tensors:
    """What a graph has that does not depend on its inputs.

    Attributes:
        stored: the model's own tensors.
        computed: what it computes from them alone; converters do that beforehand.
        bare: weights of products without a bias.
    """

    stored: Known
    computed: Known
    bare: Known


@dataclass(frozen=True)
class WeightsChecked:
    """How a part's weights compare.

    Attributes:
        tensors, numbers: compared.
        largest: difference found, over the largest number of its tensor.
    """

    tensors: int
    numbers: int
    largest: float


def check_weights(program: Program, part: nn.Module, spec: PartSpec) -> WeightsChecked:
    """Compare every tensor of the weight file with the part's tensor that it comes from.

    Args:
        program: of the package.
        part: of the fused model.
        spec: of the part.

    Raises:
        WeightsError: a tensor that is not the model's, or not as near to it as its storage allows.
    """
    tensors = _tensors(part, spec)
    weights = {one.name: one for one in program.weights}
    largest, numbers = 0.0, 0
    for weight in program.weights:
        if not weight.values.any() and _stands_for_no_bias(weight, program, weights, tensors.bare):
            continue
        values = weight.values.astype(np.float32)
        difference = _difference(weight, tensors)
        largest = max(largest, difference / max(float(np.abs(values).max()), 1e-9))
        numbers += values.size
    return WeightsChecked(len(program.weights), numbers, largest)


def _stands_for_no_bias(zeros: Weight, program: Program, weights: Mapping[str, Weight], bare: Known) -> bool:
    """Converters add zeros to products without a bias; a bias of the model must not become such zeros."""
    users = [one for one in program.operations if (zeros.name,) in one.inputs.values()]
    for one in users:
        if one.inputs.get("bias") != (zeros.name,):
            return False
        weight = weights.get(one.inputs["weight"][0])
        if weight is None or not _fitting(weight, bare):
            return False
    return bool(users)


def _difference(weight: Weight, tensors: _Tensors) -> float:
    """The largest one from the model's tensor that fits best."""
    fitting = _fitting(weight, tensors.stored) or _fitting(weight, tensors.computed, COMPUTED_ULPS)
    if not fitting:
        values = weight.values.astype(np.float32)
        others = (*tensors.stored[values.size], *tensors.computed[values.size])
        distances = (float(np.abs(one.reshape(values.shape) - values).max()) for one in others)
        nearest = min(distances, default=float("inf"))
        raise WeightsError(f"{weight.name}: not the model's numbers, the nearest differ by {nearest:.3g}")
    return min(fitting)


def _fitting(weight: Weight, known: Known, ulps: float = ROUNDING_ULPS) -> list[float]:
    """The largest difference from each tensor that the weight may come from."""
    values, (low, high) = weight.values.astype(np.float32), bounds(weight, ulps)
    tensors = (one.reshape(values.shape) for one in known[values.size])
    return [float(np.abs(one - values).max()) for one in tensors if ((one >= low) & (one <= high)).all()]


def bounds(weight: Weight, ulps: float) -> tuple[Array, Array]:
    """Between which numbers the model's must lie to be stored like this; `ulps` where not compressed."""
    values = weight.values.astype(np.float32)
    if not weight.compressed:
        rounding = np.spacing(np.abs(weight.values)).astype(np.float32) * ulps
        if weight.values.dtype == np.float16:
            rounding = np.maximum(rounding, SMALLEST)
        return values - rounding, values + rounding
    rounding = np.spacing(np.abs(values.astype(np.float16))).astype(np.float32) * COMPRESSED_ULPS
    if weight.palette is None:
        return values - rounding - weight.step * SLACK, values + rounding + weight.step * SLACK
    # Half way to the neighbours in the palette, and as far as it likes beyond the ends.
    palette = np.unique(weight.palette)
    halves = np.diff(palette) / 2 * SLACK
    place = np.searchsorted(palette, values)
    low = values - np.concatenate(([np.inf], halves))[place] - rounding
    high = values + np.concatenate((halves, [np.inf]))[place] + rounding
    return low.astype(np.float32), high.astype(np.float32)


def _tensors(part: nn.Module, spec: PartSpec) -> _Tensors:
    """From the graph as PyTorch exports it."""
    found = _Tensors(defaultdict(list), defaultdict(list), defaultdict(list))
    with torch.no_grad(), quiet():
        module = torch.export.export(part, example_inputs(spec)).run_decompositions({}).module()
        values: dict[Node, Any] = {}
        for node in module.graph.nodes:
            if node.op == "get_attr":
                values[node] = attrgetter(node.target)(module)
                _keep(values[node], found.stored)
            elif node.op == "call_function" and all(one in values for one in node.all_input_nodes):
                given = map_arg((node.args, node.kwargs), values.__getitem__)
                values[node] = node.target(*given[0], **given[1])
                _keep(values[node], found.computed)
            elif node.target == ATTENTION and node.args[0] in values:
                query = values[node.args[0]]
                _keep(query * query.shape[-1] ** -0.5, found.computed)
            elif node.target in PRODUCTS or (node.target == LINEAR and len(node.args) == 2):
                for one in node.args:
                    _keep(values.get(one), found.bare)
    return found


def _keep(value: Any, known: Known) -> None:
    """A tensor's numbers, and as they lie the other way round."""
    if not isinstance(value, torch.Tensor):
        return
    value = value.detach().float().contiguous()
    known[value.numel()].append(value.numpy())
    if value.ndim == 2 and min(value.shape) > 1:
        known[value.numel()].append(value.T.contiguous().numpy())
