"""A frame's features attend to an object's memories: this is how the model remembers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.nn.rotary import axial_angles, rotate


@dataclass(frozen=True)
class Memories:
    """What B objects remember, in slots; objects with fewer memories leave slots invalid.

    Attributes:
        latents: (B, M, L, Cm) compressed memories, in order: conditioning frames, then recent ones.
        position: (B, M, L, Cm) added to the keys only.
        pointers: (B, P, Cm) object-pointer tokens, which have no position.
        valid: (B, M · L + P) bool, or None where every slot is used.
    """

    latents: Tensor
    position: Tensor
    pointers: Tensor
    valid: Tensor | None = None


class RotaryAttention(nn.Module):
    """One-head attention whose queries and keys carry rotary positions."""

    def __init__(self, width: int, key_width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(key_width, width)
        self.v_proj = nn.Linear(key_width, width)
        self.out_proj = nn.Linear(width, width)

    def itself(self, x: Tensor, angles: Tensor) -> Tensor:
        """Self-attention of (B, N, C) on the token grid."""
        q, k = rotate(self.q_proj(x), angles), rotate(self.k_proj(x), angles)
        out: Tensor = self.out_proj(F.scaled_dot_product_attention(q, k, self.v_proj(x)))
        return out

    def to_memory(self, x: Tensor, memories: Memories, angles: Tensor, patch_angles: Tensor) -> Tensor:
        """Cross-attention of (B, N, C); only patch-level latents have a place that keys are turned by."""
        k = self.k_proj(memories.latents + memories.position)
        first = k.shape[2] - patch_angles.shape[1]
        k = torch.cat((k[:, :, :first], rotate(k[:, :, first:], patch_angles)), dim=2).flatten(1, 2)
        k = torch.cat((k, self.k_proj(memories.pointers)), dim=1)
        v = self.v_proj(torch.cat((memories.latents.flatten(1, 2), memories.pointers), dim=1))
        q = rotate(self.q_proj(x), angles).expand(len(k), -1, -1)
        mask = None if memories.valid is None else memories.valid[:, None, :]
        out: Tensor = self.out_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
        return out


class MemoryAttentionLayer(nn.Module):
    """Self-attention, cross-attention to the memories, feed-forward; norms before each."""

    def __init__(self, width: int, memory_width: int, mlp: int) -> None:
        super().__init__()
        self.self_attn = RotaryAttention(width, width)
        self.cross_attn_image = RotaryAttention(width, memory_width)
        self.linear1 = nn.Linear(width, mlp)
        self.linear2 = nn.Linear(mlp, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor, memories: Memories, angles: Tensor, patch_angles: Tensor) -> Tensor:
        x = x + self.self_attn.itself(self.norm1(x), angles)
        x = x + self.cross_attn_image.to_memory(self.norm2(x), memories, angles, patch_angles)
        out: Tensor = x + self.linear2(F.relu(self.linear1(self.norm3(x))))
        return out


class MemoryAttention(nn.Module):
    """Layers of attention to the memories, and a final norm."""

    angles: Tensor
    patch_angles: Tensor

    def __init__(self, config: EdgeTAMConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MemoryAttentionLayer(config.width, config.memory_width, config.attention_mlp)
            for _ in range(config.attention_layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.register_buffer("angles", axial_angles(config.width, config.grid), persistent=False)
        self.register_buffer("patch_angles", axial_angles(config.width, config.patch_grid), persistent=False)

    def forward(self, features: Tensor, position: Tensor, memories: Memories) -> Tensor:
        """Condition one frame on B objects' memories.

        Args:
            features: (1 or B, N, C) stride-16 features; one row serves all objects of a frame, and the
                first self-attention, which sees no object, then runs once for all of them.
            position: (1, N, C) sine encoding of the grid.
            memories: of B objects.

        Returns:
            (B, N, C).
        """
        x = features + 0.1 * position
        for layer in self.layers:
            x = layer(x, memories, self.angles, self.patch_angles)
        out: Tensor = self.norm(x)
        return out
