"""Models and clips for tests: random weights of the smallest size, and frames to run them on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from edgetam_model.config import CONFIGS, EdgeTAMConfig
from edgetam_model.model import EdgeTAM

Frame = NDArray[np.uint8]
OBJECT_SCORE_BIAS = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"


@cache
def tiny_model(seed: int = 0) -> EdgeTAM:
    """The `tiny` config with seeded weights whose masks are neither empty nor full."""
    return seeded(CONFIGS["tiny"], seed, mask_gain=60)  # logits of a few units, as a trained decoder's


@cache
def windowed_model(seed: int = 0) -> EdgeTAM:
    """A small config with windows, evidence and a refiner as `nano` has.

    Its decoder says little, so that masks carried by colour decide: shown a mask, it follows it.
    """
    config = replace(
        CONFIGS["tiny"],
        image_size=64,
        patch_latents=4,
        perceiver_layers=1,
        attention_layers=1,
        recent_memories=3,
        max_pointers=8,
        window_scale=1.7,
        evidence_width=8,
        refine_width=16,
    )
    return seeded(config, seed, mask_gain=1)


def seeded(config: EdgeTAMConfig, seed: int, mask_gain: float) -> EdgeTAM:
    """PyTorch's initial values leave zero where published weights have numbers: those are drawn too.

    Otherwise tests could not see whether a memory's age or its absence is used.
    """
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EdgeTAM(config).eval()
        for name, value in model.state_dict().items():
            if name in {"maskmem_tpos_enc", "no_mem_embed", "no_obj_ptr"}:
                value.normal_(std=0.5)
            elif name.endswith("gamma"):
                value.fill_(0.3)
            elif name == OBJECT_SCORE_BIAS:
                value.fill_(0.5)
            elif "output_hypernetworks_mlps" in name and name.endswith("layers.2.weight"):
                value.mul_(mask_gain)
    return model


def clip(frames: int, height: int = 90, width: int = 160, seed: int = 0) -> list[Frame]:
    """A disc and a square that move over a textured backdrop."""
    rng = np.random.default_rng(seed)
    backdrop = rng.integers(0, 90, (height // 5 + 1, width // 5 + 1, 3)).repeat(5, 0).repeat(5, 1)
    y, x = np.mgrid[:height, :width]
    out = []
    for t in range(frames):
        image = backdrop[:height, :width].astype(np.uint8).copy()
        image[(x - 40 - t % 80) ** 2 + (y - 40) ** 2 < 15**2] = (220, 60, 40)
        image[(abs(x - 110 + t % 60) < 12) & (abs(y - 60) < 12)] = (40, 200, 90)
        out.append(image)
    return out


def tiny_at(image_size: int) -> EdgeTAM:
    """The smallest model but for its input, in eval mode."""
    return EdgeTAM(replace(CONFIGS["tiny"], image_size=image_size)).eval()
