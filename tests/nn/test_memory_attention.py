"""Rotary positions are relative, memories are a set, and one frame serves all its objects."""

from __future__ import annotations

from dataclasses import replace

import torch

from edgetam_model.config import CONFIGS
from edgetam_model.nn.memory_attention import Memories, MemoryAttention
from edgetam_model.nn.rotary import axial_angles, rotate
from tests.models import tiny_model

CONFIG = CONFIGS["tiny"]


def random_memories(objects: int, slots: int, seed: int = 0) -> Memories:
    generator = torch.Generator().manual_seed(seed)
    shape = (objects, slots, CONFIG.latents, CONFIG.memory_width)
    return Memories(
        torch.randn(shape, generator=generator),
        torch.randn(shape, generator=generator),
        torch.randn(objects, 2 * CONFIG.pointer_tokens, CONFIG.memory_width, generator=generator),
    )


def test_rotary_products_depend_on_the_distance_only() -> None:
    side, channels = 6, 16
    generator = torch.Generator().manual_seed(0)
    angles = axial_angles(channels, side)
    q = torch.randn(channels, generator=generator).expand(side * side, -1)
    k = torch.randn(channels, generator=generator).expand(side * side, -1)
    products = (rotate(q, angles) @ rotate(k, angles).T).reshape(side, side, side, side)
    torch.testing.assert_close(products[1, 2, 3, 4], products[2, 1, 4, 3])
    torch.testing.assert_close(products[0, 0, 0, 1], products[5, 3, 5, 4])
    assert not torch.allclose(products[0, 0, 0, 1], products[0, 0, 1, 0]), "rows and columns differ"
    torch.testing.assert_close(rotate(q, angles).norm(dim=1), q.norm(dim=1))


@torch.inference_mode()
def test_the_order_of_memories_does_not_matter() -> None:
    model = tiny_model()
    memories = random_memories(1, 3)
    tokens = torch.randn(1, CONFIG.grid**2, CONFIG.width, generator=torch.Generator().manual_seed(1))
    turned = Memories(memories.latents.flip(1), memories.position.flip(1), memories.pointers)
    out = model.memory_attention(tokens, model.feature_position, memories)
    other = model.memory_attention(tokens, model.feature_position, turned)
    torch.testing.assert_close(out, other, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_one_frame_serves_all_objects() -> None:
    model = tiny_model()
    memories = random_memories(3, 2)
    tokens = torch.randn(1, CONFIG.grid**2, CONFIG.width, generator=torch.Generator().manual_seed(1))
    shared = model.memory_attention(tokens, model.feature_position, memories)
    repeated = model.memory_attention(tokens.expand(3, -1, -1), model.feature_position, memories)
    torch.testing.assert_close(shared, repeated, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(shared[0], shared[1], atol=1e-3), "different memories, different features"


@torch.inference_mode()
def test_without_patches_no_key_is_turned() -> None:
    """Global latents alone give what they give beside patches that are masked out."""
    config = replace(CONFIG, patch_latents=0)
    attention = MemoryAttention(CONFIG).eval()
    alone = MemoryAttention(config).eval()
    alone.load_state_dict(attention.state_dict())
    memories = random_memories(1, 2)
    first = CONFIG.global_latents
    valid = torch.ones(1, 2, CONFIG.latents, dtype=torch.bool)
    valid[:, :, first:] = False
    pointed = torch.ones(1, memories.pointers.shape[1], dtype=torch.bool)
    masked = replace(memories, valid=torch.cat((valid.flatten(1), pointed), dim=1))
    fewer = Memories(memories.latents[:, :, :first], memories.position[:, :, :first], memories.pointers)
    tokens = torch.randn(1, CONFIG.grid**2, CONFIG.width, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        alone(tokens, tokens, fewer), attention(tokens, tokens, masked), atol=1e-5, rtol=1e-5
    )
