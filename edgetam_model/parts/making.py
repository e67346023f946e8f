"""From a model to its parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgetam_model.model import EdgeTAM
from edgetam_model.parts.attention import MemoryAttentionPart
from edgetam_model.parts.decoder import MaskDecoderPart
from edgetam_model.parts.encoders import ImageEncoderPart, MemoryEncoderPart
from edgetam_model.parts.specs import (
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
    PartSpec,
)

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "int32": torch.int32}


def make_parts(model: EdgeTAM, *, compact: bool = True) -> Mapping[str, nn.Module]:
    """The parts by name, in eval mode. They share the model's weights; a model in eval mode, in float32.

    One set serves any `Slots`: how many there are shows in the inputs, which `part_specs` describes. Query
    and key projections of the memory attention are copies, so that weights that change need new parts.

    Args:
        model: fused or not.
        compact: for files, rather compute a table than carry it; the numbers are the same.
    """
    parts = {
        IMAGE_ENCODER: ImageEncoderPart(model),
        MASK_DECODER: MaskDecoderPart(model, compact=compact),
        MEMORY_ENCODER: MemoryEncoderPart(model),
        MEMORY_ATTENTION: MemoryAttentionPart(model),
    }
    return {name: part.eval() for name, part in parts.items()}


def example_inputs(spec: PartSpec) -> tuple[Tensor, ...]:
    """Inputs of the right shapes and types to trace a part with; they mean nothing."""
    return tuple(torch.zeros(one.shape, dtype=DTYPES[one.kind]) for one in spec.inputs)
