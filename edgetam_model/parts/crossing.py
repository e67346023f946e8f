"""Attention between a few tokens and many places, as the mask decoder has it, from the tokens' side.

Keys, values and queries of 4,096 places are never made: what a query says to a key is a product of the place
itself with the query in the place's terms, and a mean of values is the value of the mean. With 11 tokens of 8
heads that is 40 % less work, and nothing of the places is split into heads and turned about: a decoder of the
published size takes 20 ms in float32 on two cores, of 31 before.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgetam_model.nn.mask_decoder import MaskDecoder
from edgetam_model.nn.two_way import Attention, TwoWayBlock


class Crossing(Attention):
    """What both directions share.

    Args:
        attention: whose layers it shares.
    """

    def __init__(self, attention: Attention) -> None:
        nn.Module.__init__(self)
        self.heads = attention.heads
        self.q_proj, self.k_proj = attention.q_proj, attention.k_proj
        self.v_proj, self.out_proj = attention.v_proj, attention.out_proj

    def few(self, tokens: Tensor) -> bool:
        """Whether all heads' tokens cost less than projecting the places does."""
        return self.heads * tokens.shape[1] <= 2 * self.q_proj.out_features

    def apart(self, projected: Tensor) -> Tensor:
        """(B, T, I) → (B, heads, T, I / heads)."""
        return projected.reshape(*projected.shape[:2], self.heads, -1).transpose(1, 2)

    def scaled(self, projected: Tensor) -> Tensor:
        """The same, with the factor that attention gives its scores."""
        heads = self.apart(projected)
        scaled: Tensor = heads * heads.shape[-1] ** -0.5
        return scaled

    def by_head(self, rows: Tensor) -> Tensor:
        """(I, C) → (heads, I / heads, C)."""
        return rows.reshape(self.heads, -1, rows.shape[1])


class TokensToPlaces(Crossing):
    """Tokens look at places. The keys' bias adds the same to all scores of a query, and falls out."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `Attention`: q of tokens (B, T, C), k and v of places (B, N, C)."""
        if bias is not None or not self.few(q):
            return super().forward(q, k, v, bias)
        wanted = self.scaled(self.q_proj(q)) @ self.by_head(self.k_proj.weight)  # B, heads, T, C
        # Places as rows: the other way round OpenVINO joins both products in one kernel, half as fast.
        shares = (k @ wanted.flatten(1, 2).transpose(1, 2)).softmax(1)
        means = (shares.transpose(1, 2) @ v).reshape(wanted.shape)
        values = means @ self.by_head(self.v_proj.weight).transpose(1, 2)
        out: Tensor = self.out_proj(values.transpose(1, 2).flatten(2) + self.v_proj.bias)
        return out


class PlacesToTokens(Crossing):
    """Places look at tokens."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `Attention`: q of places (B, N, C), k and v of tokens (B, T, C)."""
        if not self.few(k):
            return super().forward(q, k, v, bias)
        keys = self.scaled(self.k_proj(k))
        asked = keys @ self.by_head(self.q_proj.weight)  # B, heads, T, C
        level = keys @ self.q_proj.bias.reshape(self.heads, -1, 1)  # B, heads, T, 1
        if bias is not None:
            level = level + bias.transpose(2, 3)
        scores = (asked.flatten(1, 2) @ q.transpose(1, 2)).reshape(*asked.shape[:3], -1) + level
        shares = scores.softmax(2).flatten(1, 2)
        told = self.apart(self.v_proj(v)) @ self.by_head(self.out_proj.weight.T)  # B, heads, T, C
        out: Tensor = shares.transpose(1, 2) @ told.flatten(1, 2) + self.out_proj.bias
        return out


def crossing(decoder: MaskDecoder) -> MaskDecoder:
    """The decoder itself, which from now on looks across in these forms.

    Args:
        decoder: a twin that nobody else uses, see `planes.planar`.
    """
    transformer = decoder.transformer
    for block in transformer.layers:
        assert isinstance(block, TwoWayBlock)
        block.cross_attn_token_to_image = TokensToPlaces(block.cross_attn_token_to_image)
        block.cross_attn_image_to_token = PlacesToTokens(block.cross_attn_image_to_token)
    transformer.final_attn_token_to_image = TokensToPlaces(transformer.final_attn_token_to_image)
    return decoder
