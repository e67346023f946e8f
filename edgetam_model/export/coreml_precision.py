"""Which numbers of a Core ML package may be small: float16 arithmetic, and fewer bits per weight."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch.export import ExportedProgram

# Modules of the parts whose arithmetic stays in float32, because float16 cannot hold its numbers:
# counts of up to 65,536 pixels and a threshold of 0.05 beside logits of 20; squares of keys whose
# differences are exponents; pixel coordinates, of which float16 has every other half above 512.
SINGLE = re.compile(r"stability|evidence|prompts|prompts\.encoder(\.pe_layer)?")
# Not positions and tokens. What layer norms have is too small, but zeros may be a linear layer's bias as
# well, and then both must agree.
COMPRESSED_TYPES = ("linear", "conv", "conv_transpose", "layer_norm")
COMPRESSED_FROM = 2048  # numbers a tensor must have to be worth a table or a scale

# Points of J&F (0 to 100) that the weights that ship lose against float32 on six real clips, each shown by
# its true first mask: fp16 by `python -m tests.long.coreml_clips`, the others in PyTorch with the packages'
# decompressed weights; docs/export.md.
LOST_POINTS: Mapping[str, float] = MappingProxyType(
    {"fp32": 0.0, "fp16": 0.29, "int8": -0.13, "palette6": -0.11, "palette4": -1.34}
)
TOO_MANY_POINTS = 1.0


def fit_for_use(precision: str) -> bool:
    """Whether so few bits keep the masks nearly as good as they were."""
    return LOST_POINTS[precision] <= TOO_MANY_POINTS


def tag_scopes(program: ExportedProgram) -> None:
    """Put the module that an operation belongs to where the converter keeps its origin."""
    for node in program.graph.nodes:
        modules = node.meta.get("nn_module_stack")
        if modules:
            node.meta["stack_trace"] = list(modules.values())[-1][0]


def kept_single(op: Any) -> bool:
    """Whether an operation of the converter's program stays in float32."""
    from coremltools.converters.mil.mil.scope import ScopeSource

    origins = op.scopes.get(ScopeSource.EXIR_STACK_TRACE, [])
    return any(origin is not None and SINGLE.fullmatch(origin) is not None for origin in origins)


def compressed(package: Any, precision: str) -> Any:
    """The same MLModel with smaller weights, or itself."""
    import coremltools.optimize.coreml as cto

    if precision in ("fp32", "fp16"):
        return package
    how: Any
    if precision == "int8":
        how = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=COMPRESSED_FROM)
        compress = cto.linear_quantize_weights
    else:
        bits = int(precision.removeprefix("palette"))
        how = cto.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=COMPRESSED_FROM)
        compress = cto.palettize_weights
    config = cto.OptimizationConfig(op_type_configs=dict.fromkeys(COMPRESSED_TYPES, how))
    return compress(package, config)
