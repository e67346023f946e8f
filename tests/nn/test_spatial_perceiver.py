"""Patch-level latents see their window, global ones the frame."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgetam_model.config import CONFIGS
from edgetam_model.nn.spatial_perceiver import PooledMemories, SpatialPerceiver

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


@torch.inference_mode()
@pytest.mark.parametrize(("everywhere", "patches"), [(12, 0), (0, 16)])
def test_either_kind_alone_is_what_it_is_beside_the_other(everywhere: int, patches: int) -> None:
    both = SpatialPerceiver(CONFIG).eval()
    alone = SpatialPerceiver(replace(CONFIG, global_latents=everywhere, patch_latents=patches)).eval()
    state = both.state_dict()
    state["latents"], state["latents_2d"] = state["latents"][:everywhere], state["latents_2d"][:patches]
    alone.load_state_dict(state)
    dense = torch.randn(2, CONFIG.memory_width, CONFIG.grid, CONFIG.grid)
    kept = slice(None, 12) if everywhere else slice(12, None)
    torch.testing.assert_close(alone(dense), both(dense)[:, kept], atol=1e-6, rtol=1e-5)
    assert torch.equal(alone.latents_position, both.latents_position[:, kept])


def test_pooled_memories_are_means_of_their_patches() -> None:
    config = replace(CONFIG, global_latents=0, pooled_memories=True)
    pooled = PooledMemories(config)
    assert not list(pooled.parameters())
    dense = torch.randn(2, config.memory_width, config.grid, config.grid)
    memories = pooled(dense)
    assert memories.shape == (2, 16, config.memory_width)
    side = config.grid // config.patch_grid
    row, column = 2, 1
    window = dense[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
    torch.testing.assert_close(memories[:, row * config.patch_grid + column], window.mean((2, 3)))
    assert torch.equal(pooled.latents_position[0], SpatialPerceiver(CONFIG).latents_position[0, 12:])


def test_as_many_patches_as_tokens_pool_nothing() -> None:
    config = replace(CONFIG, global_latents=0, patch_latents=CONFIG.grid**2, pooled_memories=True)
    dense = torch.randn(1, config.memory_width, config.grid, config.grid)
    assert torch.equal(PooledMemories(config)(dense)[0].T, dense[0].flatten(1))
