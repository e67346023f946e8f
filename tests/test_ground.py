"""What goes on from outside a box into it, on drawn pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgetam_model.ground import better_fit, ground

SIDE = 96
BOX = (20, 20, 76, 76)


def square(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


INSIDE, THING = square(*BOX), square(20, 40, 44, 76)


def picture(*, noise: float = 0.0, slope: float = 0.0) -> NDArray[np.uint8]:
    """Something red in the corner of a box, before blue water that grows lighter."""
    waves = (
        np.random.default_rng(0).normal(0, noise, (SIDE, SIDE, 1)) + slope * np.arange(SIDE)[:, None, None]
    )
    water = np.array((40, 90, 140)) + waves
    return np.where(THING[..., None], (200, 30, 30), water).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("noise", "slope"), [(0, 0), (2, 0), (0, 1)])
def test_water_goes_on_behind_what_is_in_the_box(noise: float, slope: float) -> None:
    found = ground(picture(noise=noise, slope=slope), INSIDE)
    assert (found & THING).sum() <= 0.15 * THING.sum()
    assert (found | THING).mean() > 0.98


def test_an_edge_all_around_keeps_what_is_behind_it() -> None:
    pixels = picture()
    ring = square(48, 24, 72, 48) & ~square(51, 27, 69, 45)
    pixels[ring] = (240, 240, 40)
    found = ground(pixels, INSIDE)
    assert not found[square(52, 28, 68, 44)].any(), "water, but not reached from outside"
    assert found[square(50, 60, 74, 74)].all()


def test_what_touches_its_box_is_not_reached_there() -> None:
    """Its edge lies on the box, half a pixel out or in."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    disc = np.hypot(rows - 47.5, columns - 47.5) <= 28
    pixels = np.where(disc[..., None], (200, 30, 30), (40, 90, 140)).astype(np.uint8)
    for less in (0, 1):
        found = ground(pixels, square(20 + less, 20 + less, 76 - less, 76 - less))
        assert (found & disc).sum() <= 0.1 * disc.sum()


def test_where_a_box_fills_the_picture_nothing_is_outside() -> None:
    assert not ground(picture(), np.ones((SIDE, SIDE), np.bool_)).any()


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.uint8, (32, 32, 3)),
    st.tuples(st.integers(0, 31), st.integers(0, 31), st.integers(1, 32), st.integers(1, 32)),
)
def test_whatever_is_outside_is_ground(pixels: NDArray[np.uint8], corners: tuple[int, int, int, int]) -> None:
    x, y, width, height = corners
    inside = np.zeros((32, 32), np.bool_)
    inside[y : y + height, x : x + width] = True
    found = ground(pixels, inside)
    assert found.shape == inside.shape
    assert found[~inside].all()


WATER = INSIDE & ~THING
FULL = np.array(BOX, float)


def test_a_mask_fits_better_without_water_if_it_is_as_large_as_its_box() -> None:
    line = square(20, 20, 22, 40)
    assert better_fit(THING | line, INSIDE, WATER, FULL), "left, top and bottom are met"
    assert not better_fit(THING | line, THING | line, WATER, FULL), "nothing was taken away"
    assert not better_fit(square(30, 45, 40, 60), THING, WATER, FULL), "a part that meets no side"
    assert not better_fit(THING & ~INSIDE, INSIDE, WATER, FULL), "nothing is left"


def test_of_a_mask_that_is_mostly_water_a_part_is_better() -> None:
    assert better_fit(square(30, 45, 40, 60), INSIDE, WATER, FULL)
