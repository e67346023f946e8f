"""J, F and their statistics: worked by hand, and against a pixel-by-pixel reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgetam_model.errors import InputError
from edgetam_model.scoring import (
    Statistics,
    boundary_f,
    mask_boundary,
    mean_statistics,
    region_similarity,
    statistics,
)

Mask = NDArray[np.bool_]
EMPTY, FULL = np.zeros((100, 100), np.bool_), np.ones((100, 100), np.bool_)


def square(x: int = 20, y: int = 20, side: int = 10) -> Mask:
    mask = np.zeros((100, 100), np.bool_)
    mask[y : y + side, x : x + side] = True
    return mask


@pytest.mark.parametrize(
    ("found", "truth", "j", "f"),
    [
        (EMPTY, EMPTY, 1, 1),
        (FULL, FULL, 1, 1),
        (FULL, EMPTY, 0, 1),  # neither has a boundary: F alone cannot tell them apart
        (square(), EMPTY, 0, 0),
        (EMPTY, square(), 0, 0),
        (FULL, square(), 100 / 10_000, 0),
        (square(), square(), 1, 1),
        (square(21), square(), 90 / 110, 1),  # the disc's radius is ceil(.008 × 141.4) = 2
        (square(22), square(), 80 / 120, 1),
        (square(20, 21), square(), 90 / 110, 1),
        (square(70, 70), square(), 0, 0),
    ],
)
def test_by_hand(found: Mask, truth: Mask, j: float, f: float) -> None:
    assert region_similarity(found, truth) == pytest.approx(j)
    assert boundary_f(found, truth) == pytest.approx(f)


def test_half_of_a_boundary_matches() -> None:
    """Rings of 40 pixels, 3 apart, radius 1: of each 9 + 9 along the long sides and 2 beside them match."""
    assert mask_boundary(square()).sum() == 40
    assert boundary_f(square(23), square(), tolerance=0.001) == pytest.approx(0.5)


def test_precision_and_recall_differ() -> None:
    """A second square far away: all 40 true pixels are matched by 40 of 80 drawn ones."""
    assert boundary_f(square() | square(70, 70), square()) == pytest.approx(2 * 0.5 / 1.5)
    assert boundary_f(square(), square() | square(70, 70)) == pytest.approx(2 * 0.5 / 1.5)


def test_a_boundary_lies_towards_the_origin_and_not_on_the_images_edge() -> None:
    mask = np.zeros((4, 5), np.bool_)
    mask[2:, 3:] = True  # runs over the lower right corner
    drawn = ["".join(".#"[int(v)] for v in row) for row in mask_boundary(mask)]
    assert drawn == [".....", "..###", "..#..", "..#.."]


def test_void_pixels_count_neither_way() -> None:
    void = square(70, 70)
    assert region_similarity(square() | void, square(), void) == 1
    assert region_similarity(square(), square() | void, void) == 1
    assert boundary_f(square() | void, square(), void) == 1
    assert region_similarity(square() | void, square()) == 0.5


def test_masks_of_two_sizes_are_refused() -> None:
    for score in (region_similarity, boundary_f):
        with pytest.raises(InputError, match="mask: expected two of one shape"):
            score(EMPTY, EMPTY[:50])
        with pytest.raises(InputError, match="mask: expected two of one shape"):
            score(EMPTY, EMPTY, EMPTY[:50])


def slow_boundary(mask: Mask) -> set[tuple[int, int]]:
    height, width = mask.shape
    edge = set()
    for y in range(height):
        for x in range(width):
            others = []
            if x + 1 < width:
                others.append(mask[y, x + 1])
            if y + 1 < height:
                others.append(mask[y + 1, x])
            if x + 1 < width and y + 1 < height:
                others.append(mask[y + 1, x + 1])
            if any(other != mask[y, x] for other in others):
                edge.add((y, x))
    return edge


def slow_f(found: Mask, truth: Mask, tolerance: float) -> float:
    radius = math.ceil(tolerance * math.sqrt(found.shape[0] ** 2 + found.shape[1] ** 2))
    drawn, wanted = slow_boundary(found), slow_boundary(truth)
    if not drawn and not wanted:
        return 1.0
    if not drawn or not wanted:
        return 0.0

    def matched(these: set[tuple[int, int]], others: set[tuple[int, int]]) -> float:
        near = [p for p in these if any((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 <= radius**2 for q in others)]
        return len(near) / len(these)

    precision, recall = matched(drawn, wanted), matched(wanted, drawn)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@st.composite
def masks(draw: st.DrawFn) -> tuple[Mask, Mask, Mask]:
    """Two masks and void pixels of one size: noise, or rectangles that may touch the image's edges."""
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 17))
    made = []
    for _ in range(3):
        bits = draw(st.integers(0, 2**32 - 1))
        noise = np.random.default_rng(bits).random((height, width)) < draw(st.sampled_from([0, 0.1, 0.6, 1]))
        rectangle = np.zeros((height, width), np.bool_)
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        rectangle[y : y + draw(st.integers(1, 9)), x : x + draw(st.integers(1, 9))] = True
        made.append(draw(st.sampled_from([noise, rectangle, noise ^ rectangle])))
    return made[0], made[1], made[2]


@settings(max_examples=150, deadline=None)
@given(masks(), st.sampled_from([0.008, 0.05, 0.1, 0.2]))
def test_equals_the_slow_reference(given_masks: tuple[Mask, Mask, Mask], tolerance: float) -> None:
    found, truth, void = given_masks
    assert {(int(y), int(x)) for y, x in np.argwhere(mask_boundary(found))} == slow_boundary(found)
    assert boundary_f(found, truth, tolerance=tolerance) == pytest.approx(slow_f(found, truth, tolerance))
    kept = slow_f(found & ~void, truth & ~void, tolerance)
    assert boundary_f(found, truth, void, tolerance) == pytest.approx(kept)
    pairs = list(zip(found[~void].tolist(), truth[~void].tolist(), strict=True))
    union = sum(a or b for a, b in pairs)
    j = sum(a and b for a, b in pairs) / union if union else 1
    assert region_similarity(found, truth, void) == pytest.approx(j)


@settings(max_examples=50, deadline=None)
@given(masks())
def test_symmetric_and_perfect_with_itself(given_masks: tuple[Mask, Mask, Mask]) -> None:
    a, b, _ = given_masks
    assert region_similarity(a, b) == region_similarity(b, a)
    assert boundary_f(a, b) == pytest.approx(boundary_f(b, a))
    assert (region_similarity(a, a), boundary_f(a, a)) == (1, 1)


def test_statistics_by_hand() -> None:
    """8 values: quarters end at values 1, 3, 5, 6 and 8, both ends belonging to each."""
    row = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0.2]
    found = statistics(row)
    assert found.mean == pytest.approx(5 / 8)
    assert found.recall == 5 / 8  # exactly one half is not above it
    assert found.decay == pytest.approx((1.0 + 0.9 + 0.8) / 3 - (0.5 + 0.3 + 0.2) / 3)


@pytest.mark.parametrize(
    ("count", "first", "last"),
    # Borders as the published code has them: round(linspace(1, count, 5)), halves up.
    [(1, 1, 1), (2, 1, 1), (3, 2, 1), (5, 2, 2), (7, 3, 2), (11, 4, 3), (48, 13, 13), (300, 76, 76)],
)
def test_the_quarters_of_a_clip(count: int, first: int, last: int) -> None:
    for at in range(count):
        row = np.zeros(count)
        row[at] = 1
        share = (at < first) / first - (at >= count - last) / last
        assert statistics(row.tolist()).decay == pytest.approx(share), at


def test_no_values_are_refused() -> None:
    with pytest.raises(InputError, match="values"):
        statistics([])
    with pytest.raises(InputError, match="values"):
        mean_statistics([])


def test_means_are_of_each_figure() -> None:
    found = mean_statistics([Statistics(1, 0.5, -0.1), Statistics(0.5, 0.1, 0.3)])
    assert (found.mean, found.recall, found.decay) == pytest.approx((0.75, 0.3, 0.1))
