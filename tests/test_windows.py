"""Windows lie in the frame, hold what they are made for, and move no faster than they may."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetam_model.errors import InputError
from edgetam_model.windows import (
    FAR,
    GROWTH,
    MIN_BOX,
    OUTSIDE_LOGIT,
    SLACK,
    ZOOM,
    Window,
    next_window,
    object_box,
    resampled,
    window_around,
    window_at,
)

SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))
SCALES = st.floats(1, 3)
SHARES = st.floats(0, 1)


@st.composite
def framed_windows(draw: st.DrawFn) -> tuple[Window, tuple[int, int]]:
    """A window that its frame, (H, W), contains."""
    height, width = draw(SIZES)
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return Window(x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))), (
        height,
        width,
    )


@st.composite
def boxes(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, int]]:
    """A box inside its frame."""
    size = draw(SIZES)
    x, y = (sorted((draw(SHARES) * limit, draw(SHARES) * limit)) for limit in (size[1], size[0]))
    return np.array((x[0], y[0], x[1], y[1])), size


def square_where_the_frame_allows(window: Window, size: tuple[int, int]) -> bool:
    longer = max(window.size)
    return window.size == (min(longer, size[0]), min(longer, size[1]))


@given(boxes(), SCALES)
def test_a_window_around_a_box_holds_it_and_lies_in_the_frame(
    framed: tuple[np.ndarray, tuple[int, int]], scale: float
) -> None:
    box, size = framed
    window = window_around(box, size, scale)
    assert window.fits(size)
    assert window.contains(box.reshape(2, 2))
    assert square_where_the_frame_allows(window, size)
    side = max(box[2] - box[0], box[3] - box[1], MIN_BOX) * scale
    assert max(window.size) <= side + 2
    assert window.size[0] == size[0] or window.size[0] >= side


def test_a_box_lies_in_the_middle_unless_the_frame_ends() -> None:
    assert window_around(np.array((100, 80, 140, 100)), (400, 400), 2.0) == Window(80, 50, 161, 131)
    assert window_around(np.array((0, 0, 40, 40)), (400, 400), 2.0) == Window(0, 0, 81, 81)
    assert window_around(np.array((-50, 10, 40, 40)), (60, 400), 2.0) == Window(0, 0, 81, 60)


@given(framed_windows(), st.integers(0, 2**32 - 1), SCALES, st.sampled_from((0.0, 0.01, 0.3, 1.0)))
@settings(deadline=None)
def test_the_next_window_grows_and_shrinks_within_bounds(
    framed: tuple[Window, tuple[int, int]], seed: int, scale: float, dense: float
) -> None:
    last, size = framed
    mask = np.random.default_rng(seed).random((32, 32)) < dense
    window = next_window(last, mask, size, scale)
    assert window.fits(size)
    assert square_where_the_frame_allows(window, size)
    before, after = max(last.size), max(window.size)
    if mask.any():
        box = object_box(mask)
        assert box is not None
        low, high = last.from_window(box.reshape(2, 2), 32)
        wanted = max(float((high - low).max()), MIN_BOX) * scale
        assert after <= before * GROWTH + SLACK * scale + 2
        shrink = ZOOM if wanted < before / FAR else GROWTH
        assert after >= min(before / shrink - SLACK * scale, max(size))
        assert window.contains(last.from_window(box.reshape(2, 2), 32).round(3))
    else:
        assert after >= min(before * 1.2, max(size))


@given(framed_windows())
@settings(deadline=None)
def test_an_object_that_stays_away_is_looked_for_in_the_whole_frame(
    framed: tuple[Window, tuple[int, int]],
) -> None:
    window, size = framed
    for _ in range(40):  # 1.2⁴⁰ is more than any frame here
        window = next_window(window, np.zeros((8, 8), bool), size, 1.7)
    assert window == Window.whole(size)


def test_a_window_follows_its_mask() -> None:
    mask = np.zeros((64, 64), bool)
    mask[20:40, 30:50] = True  # of a window of 100 px: 31 px to the right of its edge at 47
    window = next_window(Window(100, 50, 200, 150), mask, (1000, 1000), 1.7)
    assert (window.x0 + window.x1) / 2 == pytest.approx(100 + 40 / 64 * 100, abs=1)
    assert (window.y0 + window.y1) / 2 == pytest.approx(50 + 30 / 64 * 100, abs=1)
    mask[60, 2] = True
    assert next_window(Window(100, 50, 200, 150), mask, (1000, 1000), 1.7) == window, "a speck does not count"


@given(framed_windows(), st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=5), st.integers(8, 256))
def test_points_go_into_a_window_and_back(
    framed: tuple[Window, tuple[int, int]], shares: list[tuple[float, float]], side: int
) -> None:
    window, (height, width) = framed
    points = np.array(shares) * (width, height)
    seen = window.to_window(points, side)
    assert np.allclose(window.from_window(seen, side), points, atol=1e-2)
    if window.contains(points):
        assert ((seen >= 0) & (seen <= side * (1 + 1e-6))).all()
    corners = np.array(window.corners).reshape(2, 2)
    assert np.allclose(window.to_window(corners, side), [[0, 0], [side, side]], rtol=1e-6, atol=0)


@given(framed_windows(), st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=5))
def test_a_window_is_enlarged_for_clicks_outside_it(
    framed: tuple[Window, tuple[int, int]], shares: list[tuple[float, float]]
) -> None:
    window, size = framed
    points = np.array(shares) * (size[1], size[0])
    larger = window.including(points, size)
    assert larger.fits(size)
    assert larger.contains(points)
    assert larger.contains(np.array(window.corners).reshape(2, 2))
    assert window.including(np.array([[window.x0, window.y1]]), size) is window


@given(st.floats(-50, 400), st.floats(-50, 400), st.floats(0, 500), SIZES)
def test_windows_anywhere_lie_in_the_frame(x: float, y: float, side: float, size: tuple[int, int]) -> None:
    assert window_at(np.array((x, y)), side, size).fits(size)


def test_cutting_does_not_copy_and_whole_is_everything() -> None:
    frame = np.arange(30 * 40 * 3).reshape(30, 40, 3)
    assert Window.whole((30, 40)).cut(frame).shape == (30, 40, 3)
    part = Window(3, 2, 10, 20).cut(frame)
    assert part.base is not None
    assert part[0, 0].tolist() == frame[2, 3].tolist()
    assert part.shape[:2] == Window(3, 2, 10, 20).size == (18, 7)


def test_logits_are_seen_through_another_window() -> None:
    x = np.arange(32, dtype=np.float32)
    logits = (x[:, None] * 0.25 + x[None] * 0.5).astype(np.float32)  # bilinear sampling is exact on a plane
    given_window, wanted = Window(10, 20, 74, 84), Window(20, 30, 52, 94)
    moved = resampled(logits, given_window, wanted)
    for row, column in ((3, 4), (20, 9), (26, 31)):
        at = wanted.from_window(np.array([[column + 0.5, row + 0.5]]), 32)
        u, v = given_window.to_window(at, 32)[0] - 0.5
        assert moved[row, column] == pytest.approx(v * 0.25 + u * 0.5, abs=0.02)
    assert (moved[28:] == OUTSIDE_LOGIT).all(), "rows below 84 were not seen"
    assert np.abs(resampled(logits, wanted, wanted) - logits).max() < 1e-5


@given(st.lists(st.booleans(), min_size=20, max_size=20), st.integers(1, 10))
def test_boxes_hold_all_but_specks(bits: list[bool], column: int) -> None:
    mask = np.zeros((12, 40), bool)
    assert object_box(mask) is None
    mask[:10, 15:35] = True
    mask[11, 15:35] = bits  # at most 10 % of the large region's 200 pixels
    mask[3, column] = True
    box = object_box(mask)
    assert box is not None
    assert box.tolist() == [15, 0, 35, 10]
    mask[5:11, 1:8] = True
    box = object_box(mask)
    assert box is not None
    assert box[0] == 1, "42 of 200 pixels are a part of the object"


@pytest.mark.parametrize("corners", [(0, 0, 0, 5), (5, 0, 4, 9), (-1, 0, 4, 9), (0, 7, 4, 7)])
def test_no_window_is_empty_or_outside(corners: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="window: expected"):
        Window(*corners)
