"""Memory attention with a fixed number of slots; which of them count is an input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.model import EdgeTAM
from edgetam_model.nn.memory_attention import MemoryAttentionLayer, RotaryAttention
from edgetam_model.parts.tables import GridSum, GridTurn

CLOSED = -1e4  # added to the score of a slot that does not count: weight 0 in float32 and in float16


class HalvesAttention(nn.Module):
    """`RotaryAttention` whose pairs are two halves instead of neighbours: turning is cheap everywhere.

    Rows of the query and key projections change places, which changes no product; the rest is shared.
    """

    def __init__(self, attention: RotaryAttention) -> None:
        super().__init__()
        self.q_proj = _halves(attention.q_proj)
        self.k_proj = _halves(attention.k_proj)
        self.v_proj = attention.v_proj
        self.out_proj = attention.out_proj

    def itself(self, x: Tensor, turn: GridTurn) -> Tensor:
        """Self-attention of (B, N, C) on the token grid."""
        q, k = turn(self.q_proj(x)), turn(self.k_proj(x))
        out: Tensor = self.out_proj(F.scaled_dot_product_attention(q, k, self.v_proj(x)))
        return out


class AttentionLayer(nn.Module):
    """`MemoryAttentionLayer` on slots."""

    def __init__(self, layer: MemoryAttentionLayer) -> None:
        super().__init__()
        self.layer = layer
        self.itself = HalvesAttention(layer.self_attn)
        self.across = HalvesAttention(layer.cross_attn_image)


class MemoryAttentionPart(nn.Module):
    """`EdgeTAM.with_memory`; see `specs` for inputs and outputs. Ages become places by a one-hot product."""

    temporal: Tensor
    ages: Tensor

    def __init__(self, model: EdgeTAM) -> None:
        super().__init__()
        config, attention = model.config, model.memory_attention
        self.grid, self.memory_width = config.grid, config.memory_width
        self.latents, self.pointer_tokens = config.latents, config.pointer_tokens
        self.first_placed = config.global_latents  # latents from here on have a place
        self.layers = nn.ModuleList(
            AttentionLayer(layer) for layer in attention.layers if isinstance(layer, MemoryAttentionLayer)
        )
        self.norm = attention.norm
        self.no_obj_ptr = model.no_obj_ptr
        self.position = model.spatial_perceiver.latents_position
        self.turn = GridTurn(attention.angles)
        self.patch_turn = GridTurn(attention.patch_angles) if config.patch_latents else None
        self.start = GridSum(0.1 * model.feature_position[0])
        # Published: the frame before in row 0, conditioning in the last one. Here rows are ages.
        temporal = model.maskmem_tpos_enc.detach()[:, 0, 0].roll(1, dims=0)
        constants = {
            "temporal": temporal,
            "ages": torch.arange(len(temporal), dtype=torch.int32),
        }
        for name, value in constants.items():
            self.register_buffer(name, value.clone(), persistent=False)

    def forward(
        self,
        stride16: Tensor,
        memories: Tensor,
        ages: Tensor,
        memory_valid: Tensor,
        pointers: Tensor,
        pointer_valid: Tensor,
        pointer_present: Tensor,
    ) -> tuple[Tensor]:
        aged = (ages[..., None] == self.ages).to(memories.dtype) @ self.temporal
        placed = memories + (self.position[:, None] + aged[:, :, None])
        present = pointer_present[..., None]
        tokens = (present * pointers + (1 - present) * self.no_obj_ptr).reshape(
            len(pointers), -1, self.memory_width
        )
        valid = torch.cat(
            (_repeated(memory_valid, self.latents), _repeated(pointer_valid, self.pointer_tokens)), dim=1
        )
        keys, bias = (placed, memories, tokens), ((1 - valid) * CLOSED)[:, None]
        x = self.start(stride16.flatten(2).transpose(1, 2))
        for layer in self.layers:
            x = self._attend(layer, x, keys, bias)
        return (self.norm(x).transpose(1, 2).reshape(len(memories), -1, self.grid, self.grid),)

    def _attend(
        self, layer: nn.Module, x: Tensor, memories: tuple[Tensor, Tensor, Tensor], bias: Tensor
    ) -> Tensor:
        assert isinstance(layer, AttentionLayer)
        inner = layer.layer
        x = x + layer.itself.itself(inner.norm1(x), self.turn)
        x = x + self._across(layer.across, inner.norm2(x), memories, bias)
        out: Tensor = x + inner.linear2(F.relu(inner.linear1(inner.norm3(x))))
        return out

    def _across(
        self, attention: HalvesAttention, x: Tensor, memories: tuple[Tensor, Tensor, Tensor], bias: Tensor
    ) -> Tensor:
        placed, latents, pointers = memories
        k = attention.k_proj(placed)
        if self.patch_turn is not None:
            turned = self.patch_turn(k[:, :, self.first_placed :])
            k = torch.cat((k[:, :, : self.first_placed], turned), dim=2)
        k = torch.cat((k.flatten(1, 2), attention.k_proj(pointers)), dim=1)
        v = attention.v_proj(torch.cat((latents.flatten(1, 2), pointers), dim=1))
        q = self.turn(attention.q_proj(x)).expand(len(k), -1, -1)
        out: Tensor = attention.out_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=bias))
        return out


def _halves(linear: nn.Linear) -> nn.Linear:
    """A copy whose output has the even channels first, then the odd ones."""
    order = torch.arange(linear.out_features).reshape(-1, 2).T.flatten()
    copy = nn.Linear(linear.in_features, linear.out_features).to(linear.weight)
    with torch.no_grad():
        copy.weight.copy_(linear.weight[order])
        copy.bias.copy_(linear.bias[order])
    return copy.requires_grad_(False)


def _repeated(valid: Tensor, times: int) -> Tensor:
    """(B, N) → (B, N · times)."""
    return valid[:, :, None].expand(-1, -1, times).flatten(1)
