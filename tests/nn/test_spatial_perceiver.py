"""Patch-level latents see their window, global ones the frame."""

from __future__ import annotations

import torch

from edgetam_model.config import CONFIGS
from edgetam_model.nn.spatial_perceiver import SpatialPerceiver

CONFIG = CONFIGS["tiny"]


@torch.inference_mode()
def test_a_change_in_one_window_reaches_its_patch_latent_and_the_global_ones() -> None:
    torch.manual_seed(0)
    perceiver = SpatialPerceiver(CONFIG).eval()
    side = CONFIG.grid // CONFIG.patch_grid
    dense = torch.randn(1, CONFIG.memory_width, CONFIG.grid, CONFIG.grid)
    changed = dense.clone()
    row, column = 2, 1
    changed[:, :, row * side : (row + 1) * side, column * side + 1] *= torch.arange(CONFIG.memory_width)[
        :, None
    ]
    moved = (perceiver(dense) - perceiver(changed)).abs().amax(dim=2)[0] > 1e-6
    assert moved[: CONFIG.global_latents].all()
    patches = moved[CONFIG.global_latents :].reshape(CONFIG.patch_grid, CONFIG.patch_grid)
    assert patches.nonzero().tolist() == [[row, column]]


def test_only_patch_latents_have_a_position() -> None:
    perceiver = SpatialPerceiver(CONFIG)
    assert perceiver.latents_position.shape == (1, CONFIG.latents, CONFIG.memory_width)
    assert not perceiver.latents_position[:, : CONFIG.global_latents].any()
    patches = perceiver.latents_position[0, CONFIG.global_latents :]
    assert len(patches.unique(dim=0)) == CONFIG.patch_latents
