"""Memory attention with a fixed number of slots; which of them count is an input."""

from __future__ import annotations

from dataclasses import dataclass

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
        self.v_proj: nn.Module = attention.v_proj
        self.out_proj = attention.out_proj

    def queries(self, x: Tensor, turn: GridTurn) -> Tensor:
        """Of (B, N, C), by their places."""
        out: Tensor = turn(*self.q_proj(x).chunk(2, dim=-1))
        return out

    def keys(self, x: Tensor, turn: GridTurn) -> Tensor:
        """The same of keys."""
        out: Tensor = turn(*self.k_proj(x).chunk(2, dim=-1))
        return out

    def itself(self, x: Tensor, turn: GridTurn) -> Tensor:
        """Self-attention of (B, N, C) on the token grid."""
        q, k = self.queries(x, turn), self.keys(x, turn)
        out: Tensor = self.out_proj(F.scaled_dot_product_attention(q, k, self.v_proj(x)))
        return out


class FoldedAttention(HalvesAttention):
    """The same with fewer products and copies.

    A mean of projected values is the projection of their mean: what comes in is averaged, memories at their
    own width, a quarter of the model's, and both projections are one. Halves are projected apart. One
    projection and no parting save 10 of the memory attention's 285 ms in float32, 3 of 82 in bfloat16.
    """

    def __init__(self, attention: RotaryAttention) -> None:
        super().__init__(attention)
        self.v_proj, self.out_proj = nn.Identity(), _joined(attention.v_proj, attention.out_proj)
        self.q_halves, self.k_halves = _apart(self.q_proj), _apart(self.k_proj)

    def queries(self, x: Tensor, turn: GridTurn) -> Tensor:
        """See `HalvesAttention`."""
        out: Tensor = turn(*(half(x) for half in self.q_halves))
        return out

    def keys(self, x: Tensor, turn: GridTurn) -> Tensor:
        """See `HalvesAttention`."""
        out: Tensor = turn(*(half(x) for half in self.k_halves))
        return out


class AttentionLayer(nn.Module):
    """`MemoryAttentionLayer` on slots, with that form of attention."""

    def __init__(self, layer: MemoryAttentionLayer, form: type[HalvesAttention]) -> None:
        super().__init__()
        self.layer = layer
        self.itself = form(layer.self_attn)
        self.across = form(layer.cross_attn_image)


@dataclass(frozen=True)
class Slotted:
    """What objects remember, ready to be looked at.

    Attributes:
        placed: (B, M, L, Cm) latents with their places in time and on the grid.
        latents: (B, M, L, Cm).
        pointers: (B, P, Cm) tokens.
        bias: (B, 1, M · L + P) 0, or `CLOSED`.
    """

    placed: Tensor
    latents: Tensor
    pointers: Tensor
    bias: Tensor


class MemoryAttentionPart(nn.Module):
    """`EdgeTAM.with_memory`; see `specs` for inputs and outputs. Ages become places by a one-hot product."""

    temporal: Tensor
    ages: Tensor
    form = HalvesAttention

    def __init__(self, model: EdgeTAM) -> None:
        super().__init__()
        config, attention = model.config, model.memory_attention
        self.grid, self.memory_width = config.grid, config.memory_width
        self.latents, self.pointer_tokens = config.latents, config.pointer_tokens
        self.first_placed = config.global_latents  # latents from here on have a place
        self.layers = nn.ModuleList(
            AttentionLayer(layer, self.form)
            for layer in attention.layers
            if isinstance(layer, MemoryAttentionLayer)
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
        slots = self.slotted(memories, ages, memory_valid, pointers, pointer_valid, pointer_present)
        x = self.start(stride16.flatten(2).transpose(1, 2))
        for layer in self.layers:
            x = self.recalled(layer, self.looked(layer, x), slots)
        return (self.finished(x, len(memories)),)

    def slotted(
        self,
        memories: Tensor,
        ages: Tensor,
        memory_valid: Tensor,
        pointers: Tensor,
        pointer_valid: Tensor,
        pointer_present: Tensor,
    ) -> Slotted:
        """The inputs of `specs` as keys and values."""
        aged = (ages[..., None] == self.ages).to(memories.dtype) @ self.temporal
        placed = memories + (self.position[:, None] + aged[:, :, None])
        present = pointer_present[..., None]
        tokens = (present * pointers + (1 - present) * self.no_obj_ptr).reshape(
            len(pointers), -1, self.memory_width
        )
        valid = torch.cat(
            (_repeated(memory_valid, self.latents), _repeated(pointer_valid, self.pointer_tokens)), dim=1
        )
        return Slotted(placed, memories, tokens, ((1 - valid) * CLOSED)[:, None])

    def looked(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Places after they have looked at each other."""
        assert isinstance(layer, AttentionLayer)
        return x + layer.itself.itself(layer.layer.norm1(x), self.turn)

    def recalled(self, layer: nn.Module, x: Tensor, slots: Slotted) -> Tensor:
        """Places after they have looked at the memories."""
        assert isinstance(layer, AttentionLayer)
        inner = layer.layer
        x = x + self.across(layer.across, inner.norm2(x), slots)
        out: Tensor = x + inner.linear2(F.relu(inner.linear1(inner.norm3(x))))
        return out

    def finished(self, x: Tensor, objects: int) -> Tensor:
        """(B, N, C) → (B, C, H, W)."""
        out: Tensor = self.norm(x).transpose(1, 2).reshape(objects, -1, self.grid, self.grid)
        return out

    def across(self, attention: HalvesAttention, x: Tensor, slots: Slotted) -> Tensor:
        """Attention of places to memories."""
        q, k = self.turned(attention, x, slots)
        v = attention.v_proj(torch.cat((slots.latents.flatten(1, 2), slots.pointers), dim=1))
        out: Tensor = attention.out_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=slots.bias))
        return out

    def turned(self, attention: HalvesAttention, x: Tensor, slots: Slotted) -> tuple[Tensor, Tensor]:
        """Queries and keys by their places."""
        k = attention.k_proj(slots.placed)
        if self.patch_turn is not None:
            turned = self.patch_turn(*k[:, :, self.first_placed :].chunk(2, dim=-1))
            k = torch.cat((k[:, :, : self.first_placed], turned), dim=2)
        k = torch.cat((k.flatten(1, 2), attention.k_proj(slots.pointers)), dim=1)
        return attention.queries(x, self.turn).expand(len(k), -1, -1), k


class FrameAttentionPart(nn.Module):
    """The memory attention as far as it sees the frame alone, channels last: once for all its objects.

    Args:
        whole: whose layers it shares.
    """

    def __init__(self, whole: MemoryAttentionPart) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, stride16: Tensor) -> tuple[Tensor]:
        x = self.whole.start(stride16.flatten(1, 2))
        return (self.whole.looked(self.whole.layers[0], x),)


class ObjectAttentionPart(MemoryAttentionPart):
    """The rest of it, from where `FrameAttentionPart` left off."""

    form = FoldedAttention

    def forward(self, attended: Tensor, *remembered: Tensor) -> tuple[Tensor]:
        slots, x = self.slotted(*remembered), attended
        for number, layer in enumerate(self.layers):
            x = self.recalled(layer, self.looked(layer, x) if number else x, slots)
        return (self.finished(x, len(slots.latents)),)

    def finished(self, x: Tensor, objects: int) -> Tensor:
        """(B, N, C) → (B, H, W, C)."""
        out: Tensor = self.norm(x).reshape(objects, self.grid, self.grid, -1)
        return out


def _halves(linear: nn.Linear) -> nn.Linear:
    """A copy whose output has the even channels first, then the odd ones."""
    order = torch.arange(linear.out_features).reshape(-1, 2).T.flatten()
    return _linear(linear.weight[order], linear.bias[order])


def _apart(linear: nn.Linear) -> nn.ModuleList:
    """Two copies, each of half the output."""
    pairs = zip(linear.weight.chunk(2), linear.bias.chunk(2), strict=True)
    return nn.ModuleList(_linear(weight, bias) for weight, bias in pairs)


def _joined(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """One after the other, as one."""
    left, right = second.weight.double(), first.weight.double()
    both = left @ right, left @ first.bias.double() + second.bias
    return _linear(*(one.to(first.weight) for one in both))


@torch.no_grad()
def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], len(weight)).to(weight).requires_grad_(False)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer


def _repeated(valid: Tensor, times: int) -> Tensor:
    """(B, N) → (B, N · times)."""
    return valid[:, :, None].expand(-1, -1, times).flatten(1)
