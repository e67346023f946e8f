"""Which numbers of a Core ML package may be small: float16 arithmetic, and fewer bits per weight."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch.export import ExportedProgram

from edgetam_model.export.manifest import Accuracy
from edgetam_model.parts.specs import IMAGE_ENCODER, MASK_DECODER, MEMORY_ATTENTION, MEMORY_ENCODER

# Modules of the parts whose arithmetic stays in float32, because float16 cannot hold its numbers:
# counts of up to 65,536 pixels and a threshold of 0.05 beside logits of 20; squares of keys whose
# differences are exponents; pixel coordinates, of which float16 has every other half above 512.
SINGLE = re.compile(r"stability|evidence|prompts|prompts\.encoder(\.pe_layer)?")
# Not positions and tokens. What layer norms have is too small, but zeros may be a linear layer's bias as
# well, and then both must agree.
COMPRESSED_TYPES = ("linear", "conv", "conv_transpose", "layer_norm")
COMPRESSED_FROM = 2048  # numbers a tensor must have to be worth a table or a scale

# Precision "mixed", by part. Chosen on made-up clips, `python -m tests.long.part_precisions`: with these two
# at 4 bits, IoU with the masks of float32 stays what int8 keeps; fewer than 8 in the others bring it down.
MIXED: Mapping[str, str] = MappingProxyType(
    {
        IMAGE_ENCODER: "int8",
        MASK_DECODER: "int8",
        MEMORY_ENCODER: "palette4",
        MEMORY_ATTENTION: "palette4",
    }
)

# Points of J&F (0 to 100) that the weights that ship lose against float32 on six real clips, each shown by
# its true first mask: fp16 by `python -m tests.long.coreml_clips`, the others in PyTorch with the packages'
# decompressed weights, `python -m tests.long.part_precisions`; docs/export.md.
LOST_POINTS: Mapping[str, float] = MappingProxyType(
    {"fp32": 0.0, "fp16": 0.01, "int8": 0.05, "mixed": 0.64, "palette6": 0.72, "palette4": 1.37}
)
MEASURED = "e0d2d4fc159b0f9d9b0785768cbcea23dc6c7a453ba446fa68f21e08b422bfed"  # those weights' fingerprint
TOO_MANY_POINTS = 1.0


def part_precision(precision: str, part: str) -> str:
    """The precision of one of the four parts."""
    return MIXED[part] if precision == "mixed" else precision


def accuracy_of(precision: str, fingerprint: str) -> Accuracy:
    """What a precision costs the weights with this fingerprint."""
    if fingerprint != MEASURED:
        return Accuracy(verdict="not measured", lost_points=None)
    lost = LOST_POINTS[precision]
    return Accuracy(verdict="for use" if lost <= TOO_MANY_POINTS else "not for use", lost_points=lost)


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
