"""From a model to its parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgetam_model.model import EdgeTAM
from edgetam_model.parts.attention import (
    FrameAttentionPart,
    MemoryAttentionPart,
    ObjectAttentionPart,
)
from edgetam_model.parts.decoder import MaskDecoderPart, RuntimeDecoderPart
from edgetam_model.parts.encoders import (
    ImageEncoderPart,
    MemoryEncoderPart,
    RuntimeImageEncoderPart,
    RuntimeMemoryEncoderPart,
)
from edgetam_model.parts.specs import (
    FRAME_ATTENTION,
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
    OBJECT_ATTENTION,
    UNMASKED_DECODER,
    PartSpec,
)

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "int32": torch.int32,
    "uint8": torch.uint8,
}


def make_parts(model: EdgeTAM) -> Mapping[str, nn.Module]:
    """The parts of files by name, in eval mode. They share the weights of a model in eval mode, in float32.

    One set serves any `Slots`: how many there are shows in the inputs, which `part_specs` describes. Some
    projections, of the memory attention and to the decoder's fine features, are made of copies: weights that
    change need new parts.

    Args:
        model: fused or not.
    """
    parts = {
        IMAGE_ENCODER: ImageEncoderPart(model),
        MASK_DECODER: MaskDecoderPart(model),
        MEMORY_ENCODER: MemoryEncoderPart(model),
        MEMORY_ATTENTION: MemoryAttentionPart(model),
    }
    return {name: part.eval() for name, part in parts.items()}


def runtime_parts(model: EdgeTAM) -> Mapping[str, nn.Module]:
    """The parts of runtimes, which `runtime_specs` describes: other forms of the same, chosen for speed.

    Args:
        model: as for `make_parts`.
    """
    rest = ObjectAttentionPart(model)
    parts = {
        IMAGE_ENCODER: RuntimeImageEncoderPart(model),
        MASK_DECODER: RuntimeDecoderPart(model, masked=True),
        UNMASKED_DECODER: RuntimeDecoderPart(model, masked=False),
        MEMORY_ENCODER: RuntimeMemoryEncoderPart(model),
        FRAME_ATTENTION: FrameAttentionPart(rest),
        OBJECT_ATTENTION: rest,
    }
    return {name: part.eval() for name, part in parts.items()}


def example_inputs(spec: PartSpec) -> tuple[Tensor, ...]:
    """Inputs of the right shapes and types to trace a part with; they mean nothing."""
    return tuple(torch.zeros(one.shape, dtype=DTYPES[one.kind]) for one in spec.inputs)
