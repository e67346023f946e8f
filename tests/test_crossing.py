"""Attention from the tokens' side gives what attention of projected places does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgetam_model.nn.two_way import Attention
from edgetam_model.parts.crossing import PlacesToTokens, TokensToPlaces, crossing
from edgetam_model.parts.planes import planar
from tests.models import tiny_model

WIDTH, HEADS, INNER, PLACES = 48, 4, 24, 30
FEW = 2 * INNER // HEADS  # tokens at most


def attention() -> Attention:
    torch.manual_seed(3)
    return Attention(WIDTH, HEADS, INNER).requires_grad_(False)


def draw(rows: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, rows, WIDTH, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("tokens", [1, 7, FEW, FEW + 1])
def test_tokens_to_places(tokens: int) -> None:
    own, few, places = attention(), draw(tokens), draw(PLACES)
    got = TokensToPlaces(own)(few, places, places * 2)
    torch.testing.assert_close(got, own(few, places, places * 2), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("tokens", [1, 7, FEW, FEW + 1])
@pytest.mark.parametrize("closed", [None, 0])
def test_places_to_tokens(tokens: int, closed: int | None) -> None:
    own, few, places = attention(), draw(tokens), draw(PLACES)
    bias = None
    if closed is not None:
        bias = torch.zeros(2, 1, 1, tokens)
        bias[1, ..., closed] = -1e4
    got = PlacesToTokens(own)(places, few, few + 1, bias)
    torch.testing.assert_close(got, own(places, few, few + 1, bias), atol=1e-6, rtol=1e-5)


def test_tokens_that_may_not_be_looked_at_have_no_say() -> None:
    own, few, places = attention(), draw(5), draw(PLACES)
    bias = torch.zeros(2, 1, 1, 5)
    bias[..., 2] = -1e4
    changed = few.clone()
    changed[:, 2] += 9
    crossed = PlacesToTokens(own)
    assert torch.equal(crossed(places, few, few, bias), crossed(places, changed, changed, bias))


def test_few_tokens_are_never_projected_into_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the time that this is for would not be saved."""
    monkeypatch.setattr(Attention, "forward", lambda *_: pytest.fail("all places were projected"))
    own, few, places = attention(), draw(FEW), draw(PLACES)
    TokensToPlaces(own)(few, places, places)
    PlacesToTokens(own)(places, few, few)


def test_a_decoder_shares_its_weights_with_its_twin() -> None:
    model = tiny_model()
    twin = crossing(planar(model.sam_mask_decoder))
    layers = [*twin.transformer.layers, *model.sam_mask_decoder.transformer.layers]
    turned = [isinstance(one.cross_attn_token_to_image, TokensToPlaces) for one in layers]
    assert turned == [True] * (len(layers) // 2) + [False] * (len(layers) // 2)
    assert isinstance(twin.transformer.final_attn_token_to_image, TokensToPlaces)
    own = {id(parameter) for parameter in model.parameters()}
    assert all(id(parameter) in own for parameter in twin.transformer.parameters())
