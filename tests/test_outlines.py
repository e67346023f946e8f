"""Masks as windows show them: areas, overlaps and histograms of colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgetam_model.outlines import CHROMA_CELL, LUMA_CELL, Outline, histogram
from edgetam_model.windows import Window

SIDE, PLACES = 32, 8
WINDOW = Window(40, 40, 104, 104)
MASKS = arrays(np.bool_, (SIDE, SIDE))
KEYS = arrays(np.float32, (5, PLACES, PLACES), elements=st.floats(-6, 6, width=32) | st.floats(width=32))


def square(low: int, high: int) -> NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[low:high, low:high] = True
    return mask


def painted(red: float, green: float, blue: float) -> NDArray[np.float32]:
    keys = np.zeros((5, PLACES, PLACES), np.float32)
    keys[-3:] = np.array((red, green, blue), np.float32)[:, None, None]
    return keys


def test_masks_are_compared_across_windows() -> None:
    here, twice = WINDOW, Window(8, 8, 136, 136)
    now = Outline(square(8, 24), here, painted(0, 0, 0))
    small = replace(now, mask=square(12, 20), window=twice)  # the same pixels of the frame
    assert now.area == small.area == 32 * 32
    assert now.overlap(now) == pytest.approx(1.0)
    assert now.overlap(small) == pytest.approx(1.0, abs=0.1)
    assert now.overlap(replace(now, window=twice)) == pytest.approx(0.25, abs=0.02)
    assert now.overlap(replace(now, window=Window(140, 140, 204, 204))) == 0
    nothing = replace(now, mask=square(0, 0))
    assert nothing.overlap(nothing) == 0


@given(MASKS, KEYS)
def test_a_histogram_holds_shares_and_an_object_is_like_itself(
    mask: NDArray[np.bool_], keys: NDArray[np.float32]
) -> None:
    shares = histogram(mask, keys)
    assert (shares >= 0).all()
    assert shares.sum() == pytest.approx(float(mask.any()))
    one = Outline(mask, WINDOW, keys)
    assert one.likeness(one) == pytest.approx(float(mask.any()))


@given(MASKS, MASKS, KEYS, KEYS)
def test_likeness_is_mutual_and_at_most_one(
    mask: NDArray[np.bool_], other: NDArray[np.bool_], keys: NDArray[np.float32], colours: NDArray[np.float32]
) -> None:
    one, two = Outline(mask, WINDOW, keys), Outline(other, WINDOW, colours)
    assert 0 <= one.likeness(two) <= 1 + 1e-9
    assert one.likeness(two) == pytest.approx(two.likeness(one))


def test_where_a_colour_is_does_not_matter() -> None:
    mixed = painted(1, 0, 0)
    mixed[-3:, :, :4] = 0
    one = Outline(square(0, SIDE), WINDOW, mixed)
    assert one.likeness(replace(one, keys=mixed[:, :, ::-1])) == pytest.approx(1.0)


def test_a_little_more_light_changes_little_and_another_hue_all() -> None:
    one = Outline(square(8, 24), WINDOW, painted(0.3, 0.2, 0.1))
    lighter = replace(one, keys=painted(0.5, 0.4, 0.3))
    assert one.likeness(lighter) > 0.85
    assert one.likeness(replace(one, keys=painted(0.3, 0.2 + 2 * CHROMA_CELL, 0.1))) < 0.1
    assert one.likeness(replace(one, keys=painted(*(v + 2 * LUMA_CELL for v in (0.3, 0.2, 0.1))))) < 0.1


def test_places_at_the_edge_of_a_mask_do_not_count() -> None:
    """What is around an object shines through there."""
    keys = painted(0, 0, 0)
    keys[-3, 2:6, 2:6] = 2.0
    mask = square(6, 26)  # half of the places around the red ones, and a quarter of those at the corners
    assert histogram(mask, keys) == pytest.approx(histogram(square(8, 24), keys))
    speck = square(6, 8)
    assert histogram(speck, keys).sum() == pytest.approx(1.0), "all that it meets"


def test_colours_beyond_the_last_cell_count_for_it() -> None:
    one = Outline(square(8, 24), WINDOW, painted(9, 9, 9))
    assert one.likeness(replace(one, keys=painted(40, 40, 40))) == pytest.approx(1.0)
