"""The model as training begins: with random weights, or with given ones at another input size."""

from __future__ import annotations

from dataclasses import replace

import torch

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.model import EdgeTAM

EMBEDDINGS = ("maskmem_tpos_enc", "no_mem_embed", "no_mem_pos_enc", "no_obj_ptr")
EMBEDDING_STD = 0.02  # as SAM 2 starts them; zeros would make all ages alike


def new_model(config: EdgeTAMConfig, seed: int) -> EdgeTAM:
    """A model with random first weights, the same for the same seed, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = EdgeTAM(config)
        with torch.no_grad():
            for name in EMBEDDINGS:
                model.get_parameter(name).normal_(std=EMBEDDING_STD)
    return model


def resized(model: EdgeTAM, image_size: int) -> EdgeTAM:
    """The same weights in a model with another input size, in eval mode.

    No weight depends on it: positions are computed anew.

    Raises:
        InputError: a size that the config's grids do not fit.
    """
    other = EdgeTAM(replace(model.config, image_size=image_size))
    other.load_state_dict(model.state_dict())
    return other.to(model.device).eval()
