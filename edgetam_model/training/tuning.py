"""Which part of a model learns: all of it, what draws masks, or thin adapters beside the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from torch import nn
from torch.nn.utils import parametrize

from edgetam_model.model import EdgeTAM
from edgetam_model.training.low_rank import add_adapters, merge_adapters
from edgetam_model.training.recipe import Tuning

# What draws masks from features; the image encoder and the memory stay.
DRAWING = ("sam_mask_decoder.", "sam_prompt_encoder.", "refiner.")
# Attention and what follows it, the feature pyramid, and the head that draws fine masks where there is one.
ADAPTED = (
    *("sam_mask_decoder.transformer.", "memory_attention.", "spatial_perceiver."),
    *("image_encoder.neck.", "refiner.", "evidence_proj"),
)


def tune(model: EdgeTAM, tuning: Tuning, seed: int) -> EdgeTAM:
    """Make exactly that part of a model learn, in place.

    Args:
        model: with plain weights.
        tuning: which part.
        seed: of the adapters' first weights.
    """
    if tuning.mode == "full":
        return model.requires_grad_(True)
    model.requires_grad_(False)
    if tuning.mode == "adapter":
        add_adapters(_named(model, ADAPTED), tuning.rank, seed)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith((".up", ".down")))
    else:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(DRAWING))
    return model


def merged(model: EdgeTAM) -> EdgeTAM:
    """The same model with plain weights: itself where it has no adapters, else a copy."""
    if not any(parametrize.is_parametrized(layer) for layer in model.modules()):
        return model
    plain = copy.deepcopy(model)
    merge_adapters(plain)
    return plain


def _named(model: nn.Module, starts: tuple[str, ...]) -> Iterator[nn.Module]:
    """Layers whose name begins so, collected before anything changes."""
    return iter([layer for name, layer in model.named_modules() if name.startswith(starts)])
