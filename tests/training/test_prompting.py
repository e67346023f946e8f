"""Simulated prompts lie where a person would put them, on every device and with every seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.training.prompting import (
    Clicks,
    box_prompts,
    boxes_around,
    click_prompts,
    corrective_clicks,
    depth,
    draw_index,
    draw_kind,
    random_for,
)
from edgetam_model.training.recipe import PromptMix


def rectangle(x0: int, y0: int, x1: int, y1: int, height: int = 24, width: int = 40) -> torch.Tensor:
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[0, y0:y1, x0:x1] = True
    return mask


def hit(clicks: Clicks, masks: torch.Tensor) -> list[bool]:
    x, y = clicks.points[:, -1].long().unbind(1)
    return [bool(masks[row, y[row], x[row]]) for row in range(len(masks))]


def test_boxes_have_their_far_edges_excluded() -> None:
    masks = torch.cat((rectangle(3, 5, 9, 7), rectangle(0, 0, 40, 24), rectangle(0, 0, 0, 0)))
    assert boxes_around(masks).tolist() == [[3, 5, 9, 7], [0, 0, 40, 24], [0, 0, 0, 0]]
    clicks = box_prompts(masks, 0.0, random_for(1))
    assert clicks.points[0].tolist() == [[3, 5], [9, 7]]
    assert clicks.labels.tolist() == [[2, 3]] * 3


@given(st.integers(0, 30), st.integers(0, 20), st.integers(1, 9), st.integers(1, 3), st.integers(0, 99))
def test_a_noisy_box_stays_a_box_in_the_image(x: int, y: int, width: int, height: int, seed: int) -> None:
    clicks = box_prompts(rectangle(x, y, x + width, y + height), 3.0, random_for(seed))
    (x0, y0), (x1, y1) = clicks.points[0].tolist()
    assert 0 <= x0 < x1 <= 40
    assert 0 <= y0 < y1 <= 24


def test_depth_counts_from_the_outline_and_the_image_has_one() -> None:
    assert depth(rectangle(2, 2, 7, 5))[0, 1:6, 1:8].tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 1, 2, 2, 2, 1, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    assert depth(rectangle(0, 0, 40, 24))[0, 0, 0] == 1


def test_a_click_in_the_middle_is_as_far_from_the_outline_as_can_be() -> None:
    clicks = click_prompts(rectangle(4, 6, 11, 11).expand(20, -1, -1), 1.0, random_for(2))
    assert set(clicks.points[:, 0, 1].tolist()) == {8.0}
    assert set(clicks.points[:, 0, 0].tolist()) == {6.0, 7.0, 8.0}
    assert clicks.labels.eq(1).all()


def test_clicks_anywhere_reach_every_pixel() -> None:
    mask = rectangle(4, 6, 7, 8)
    clicks = click_prompts(mask.expand(300, -1, -1), 0.0, random_for(3))
    found = {tuple(point) for point in clicks.points[:, 0].tolist()}
    assert found == {(x, y) for x in (4, 5, 6) for y in (6, 7)}


@given(st.integers(0, 2**40), st.floats(0, 1))
def test_corrective_clicks_fall_on_errors_with_the_right_label(seed: int, centred: float) -> None:
    random = random_for(seed)
    share = 0.2 + 0.6 * torch.rand(2, 6, 1, 1, generator=random)
    masks, found = torch.rand(2, 6, 12, 20, generator=random) > share
    clicks = corrective_clicks(found, masks, centred, random)
    assert all(hit(clicks, masks ^ found)), "no mask of 240 random pixels equals another one"
    assert hit(clicks, masks) == [bool(label) for label in clicks.labels[:, 0]]


def test_where_nothing_is_wrong_a_click_confirms() -> None:
    masks = torch.cat((rectangle(4, 6, 11, 11), rectangle(0, 0, 0, 0)))
    clicks = corrective_clicks(masks, masks, 0.5, random_for(4))
    assert clicks.labels.tolist() == [[1], [0]]
    assert hit(clicks, masks) == [True, False]


def test_the_kind_of_error_is_as_probable_as_its_area() -> None:
    truth, found = rectangle(0, 0, 10, 6), rectangle(20, 10, 40, 19)  # 60 pixels missed, 180 too many
    count = 2000
    clicks = corrective_clicks(found.expand(count, -1, -1), truth.expand(count, -1, -1), 0.0, random_for(5))
    assert float(clicks.labels.float().mean()) == pytest.approx(0.25, abs=0.04)


def test_an_empty_mask_is_clicked_in_the_middle_of_the_image() -> None:
    clicks = click_prompts(rectangle(0, 0, 0, 0), 0.5, random_for(6))
    assert clicks.points.tolist() == [[[20, 12]]]


def test_the_same_numbers_give_the_same_prompts_and_neighbours_others() -> None:
    masks = torch.rand(4, 24, 40, generator=random_for(0)) > 0.5
    first, again, other = (click_prompts(masks, 0.0, random_for(1, 2, n)).points for n in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(click_prompts(masks, 0.0, random_for(2, 1, 3)).points, first)


def test_shares_decide() -> None:
    draws = [draw_index((1.0, 0.0, 3.0), random_for(n)) for n in range(400)]
    assert draws.count(1) == 0
    assert 60 < draws.count(0) < 140
    assert {draw_kind(PromptMix(mask=5), random_for(n), still=True) for n in range(50)} == {"box", "click"}


def test_clicks_can_be_joined_and_scaled() -> None:
    one = Clicks(torch.tensor([[[2.0, 4.0]]]), torch.tensor([[1]]))
    two = one.extended(Clicks(torch.tensor([[[6.0, 8.0]]]), torch.tensor([[0]]))).scaled(0.5)
    assert two.points.tolist() == [[[1, 2], [3, 4]]]
    assert two.labels.tolist() == [[1, 0]]
