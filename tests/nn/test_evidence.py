"""Labels carried by likeness and place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.nn.evidence import CHANNELS, LABELS, Evidence, Hints, Trace, _Read, labels_of, prompt_maps
from tests.models import windowed_model

CONFIG: EdgeTAMConfig = windowed_model().config
SIDE = CONFIG.low_res
WHOLE = torch.tensor([[0.0, 0.0, 100.0, 100.0]])


def distinct_keys(seed: int = 0) -> Tensor:
    """Keys that no two places share."""
    generator = torch.Generator().manual_seed(seed)
    return 6 * torch.randn(1, CONFIG.evidence_width, SIDE, SIDE, generator=generator)


def some_labels() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, LABELS, SIDE, SIDE, generator=generator) * 2 - 1


def test_a_frame_like_the_remembered_one_has_its_labels() -> None:
    trace = Trace(distinct_keys(), some_labels(), WHOLE)
    found = Evidence(CONFIG)(trace.keys, WHOLE, trace, trace, None)
    assert found.shape == (1, CHANNELS, SIDE, SIDE)
    torch.testing.assert_close(found[:, :LABELS], trace.labels, atol=1e-3, rtol=0)
    torch.testing.assert_close(found[:, LABELS : 2 * LABELS], trace.labels, atol=1e-3, rtol=0)
    assert not found[:, 2 * LABELS :].any()


def test_labels_move_with_what_they_lie_on() -> None:
    keys, labels = distinct_keys(), some_labels()
    found = Evidence(CONFIG)(keys.roll(2, dims=3), WHOLE, Trace(keys, labels, WHOLE), None, None)
    torch.testing.assert_close(found[:, :LABELS, :, 2:], labels[..., :-2], atol=1e-3, rtol=0)
    assert not found[:, LABELS : 2 * LABELS].any()


def test_places_are_those_of_the_frame_not_of_the_window() -> None:
    """All places look alike: only where they lie in the frame can tell them apart."""
    alike = torch.zeros(1, CONFIG.evidence_width, SIDE, SIDE)
    labels = torch.full((1, LABELS, SIDE, SIDE), -1.0)
    labels[..., SIDE // 2 :] = 1  # the right half of the frame
    right = torch.tensor([[50.0, 0.0, 100.0, 100.0]])
    evidence = Evidence(CONFIG)
    with torch.no_grad():
        evidence.log_reach.fill_(-3.5)  # σ 0.03 of the window's side
        found = evidence(alike, right, Trace(alike, labels, WHOLE), None, None)
    assert float(found[:, :LABELS, :, 2:].min()) > 0.9


def test_a_nearer_place_speaks_louder() -> None:
    alike = torch.zeros(1, CONFIG.evidence_width, SIDE, SIDE)
    labels = torch.linspace(-1, 1, SIDE).expand(1, LABELS, SIDE, SIDE)
    found = Evidence(CONFIG)(alike, WHOLE, Trace(alike, labels, WHOLE), None, None)[:, :LABELS]
    assert bool((found[..., 1:] > found[..., :-1]).all())


def test_hints_are_spread_and_a_refined_mask_stands_for_the_recent_frame() -> None:
    maps = torch.zeros(1, 3, SIDE, SIDE)
    maps[:, 1, 2, 3] = 1
    keys = torch.zeros(1, CONFIG.evidence_width, SIDE, SIDE)
    keys[:, :, 5, 6] = keys[:, :, 2, 3] = 3  # one place looks like the clicked one
    previous = some_labels()
    found = Evidence(CONFIG)(keys, WHOLE, None, None, Hints(maps, previous))
    torch.testing.assert_close(found[:, :LABELS], previous)
    spread, said, likeness = found[:, 2 * LABELS :].split((3, 3, 1), dim=1)
    torch.testing.assert_close(said, maps)
    alike, other = (0, slice(None), 5, 6), (0, slice(None), 5, 5)
    assert spread[alike][1] > 0.3
    assert spread[other][1] < 0.01
    assert likeness[alike] > 0.9
    assert likeness[other] < 0.01


def test_reading_has_the_gradients_of_its_formula() -> None:
    torch.manual_seed(0)
    parts = [
        torch.randn(2, n, c, dtype=torch.float64, requires_grad=True) for n, c in ((5, 4), (7, 4), (7, 3))
    ]
    assert torch.autograd.gradcheck(_Read.apply, parts)


def test_bfloat16_training_reads_what_inference_reads() -> None:
    trace = Trace(distinct_keys(), some_labels(), WHOLE)
    evidence = Evidence(CONFIG)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trained = evidence(trace.keys, WHOLE, trace, trace, None)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        untrained = evidence(trace.keys, WHOLE, trace, trace, None)
    assert trained.requires_grad
    torch.testing.assert_close(trained, untrained)
    torch.testing.assert_close(trained[:, :LABELS], trace.labels, atol=0.05, rtol=0)


def test_labels_are_the_masks_pixels_in_their_tokens() -> None:
    logits = torch.full((1, 16, 16), -40.0)
    logits[0, 5, 9] = 40
    labels = labels_of(logits)
    assert labels.shape == (1, LABELS, 4, 4)
    assert labels[0, 4 * (5 % 4) + 9 % 4, 5 // 4, 9 // 4] == 1
    assert float(labels.sum()) == pytest.approx(2 - 16 * 16)


@given(st.lists(st.floats(0, 64), min_size=4, max_size=4))
def test_a_box_covers_its_area(corners: list[float]) -> None:
    points = torch.tensor(corners).reshape(1, 2, 2)
    box, positive, negative = prompt_maps(points, torch.tensor([[2, 3]]), 64)[0]
    assert box.shape == (16, 16)
    width, height = (points[0, 0] - points[0, 1]).abs().tolist()
    assert float(box.sum()) == pytest.approx(width * height / 16, abs=1e-3)
    assert not positive.any()
    assert not negative.any()


def test_clicks_lie_where_they_were_made() -> None:
    points = torch.tensor([[[2.0, 2.0], [50.0, 30.0], [0.0, 0.0]]])
    box, positive, negative = prompt_maps(points, torch.tensor([[1, 0, -1]]), 64)[0]
    assert not box.any()
    assert int(positive.argmax()) == 0
    assert divmod(int(negative.argmax()), 16) == (7, 12)
    assert 0.5 < float(positive.max()) <= 1
