"""The two-way transformer of the mask decoder: tokens look at the image, and the image at the tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.nn.layers import MLP


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than its outer one."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, Nq, C), (B, Nk, C), (B, Nk, C) → (B, Nq, C); `bias` (B, 1, 1, Nk) is added to the scores."""
        q, k, v = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
        out: Tensor = self.out_proj(mixed)
        return out


class TwoWayBlock(nn.Module):
    """Self-attention of the tokens, tokens → image, MLP, image → tokens; each followed by a norm."""

    def __init__(self, width: int, heads: int, mlp: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, heads, width)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, width // 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, mlp, width, 2)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, width // 2)

    def forward(
        self,
        tokens: Tensor,
        image: Tensor,
        token_position: Tensor,
        image_position: Tensor,
        token_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        if self.first:  # without position, and in place of the tokens
            tokens = self.self_attn(tokens, tokens, tokens, token_bias)
        else:
            q = tokens + token_position
            tokens = tokens + self.self_attn(q, q, tokens, token_bias)
        tokens = self.norm1(tokens)

        k = image + image_position
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_position, k, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))

        image = image + self.cross_attn_image_to_token(k, tokens + token_position, tokens, token_bias)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """(B, N, C) tokens and (B, H·W, C) image tokens, each updated by the other."""

    def __init__(self, width: int, depth: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(width, heads, mlp, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(width, heads, width // 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, image: Tensor, image_position: Tensor, token_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The tokens as they come in are their own position encoding throughout.

        `token_bias` (B, 1, 1, N): 0, or −1e4 for tokens that nothing may look at.
        """
        position = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, position, image_position, token_bias)
        last = self.final_attn_token_to_image(tokens + position, image + image_position, image)
        return self.norm_final_attn(tokens + last), image
