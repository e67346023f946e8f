"""First weights of a model that is trained from nothing."""

from __future__ import annotations

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
