"""Where else to look for an object: places of its colours, and when they are worth a look."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgetam_model.credence import Sighting
from edgetam_model.outlines import Outline
from edgetam_model.searching import PLACES, further, likenesses, places
from edgetam_model.windows import Window

SIDE, CELLS = 96, 24
FRAME = (480, 480)
WHOLE = Window(0, 0, 480, 480)
RED, BLUE = (3.0, -3.0, -3.0), (-3.0, -3.0, 3.0)
SEEN = Sighting(4.0, 0.9, 6400.0, 6400.0, 0.8, 0.95, 0.95, 6400.0)
AWAY = replace(SEEN, object_score=-3.0, last_area=0.0, overlap=0.0)
COLOURS = arrays(np.float32, (3, CELLS, CELLS), elements=st.floats(-6, 6, width=32) | st.floats(width=32))


def view(*things: tuple[int, int, tuple[float, float, float]], window: Window = WHOLE) -> Outline:
    """Grey with coloured squares of 4 × 4 places at (x, y); the first of them is outlined."""
    keys = np.zeros((5, CELLS, CELLS), np.float32)
    mask = np.zeros((SIDE, SIDE), np.bool_)
    for x, y, colour in things:
        keys[-3:, y : y + 4, x : x + 4] = np.array(colour, np.float32)[:, None, None]
    if things:
        x, y, _ = things[0]
        mask[4 * y : 4 * y + 16, 4 * x : 4 * x + 16] = True
    return Outline(mask, window, keys)


SHOWN = view((10, 10, RED))


@given(st.integers(2, 18), st.integers(2, 18))
def test_the_first_place_is_where_the_colours_are(x: int, y: int) -> None:
    place = places(view((x, y, RED)), SHOWN, 1)[0]
    assert (place.box[:2] + place.box[2:]) / 2 == pytest.approx((20 * x + 40, 20 * y + 40), abs=20)
    window = place.window(FRAME, 1.7)
    assert window.contains(np.array([(20 * x, 20 * y), (20 * x + 80, 20 * y + 80)], np.float32))
    assert max(window.size) == pytest.approx(1.7 * 80, abs=2)


def test_places_are_apart_and_the_best_one_comes_first() -> None:
    first, second = places(view((3, 4, RED), (15, 16, RED), (15, 4, BLUE)), SHOWN, 2)
    assert first.likeness >= second.likeness > 0.5
    assert np.abs(first.box - second.box).max() > 0.5 * 80
    assert not places(SHOWN, view(), 2), "nothing was shown"


def test_places_are_sought_in_the_part_of_the_frame_that_a_view_shows() -> None:
    half = Window(240, 240, 480, 480)
    place = places(replace(view((8, 8, RED)), window=half), SHOWN, 1)[0]
    assert place.box[2:] - place.box[:2] == pytest.approx((80, 80))
    assert (place.box[:2] + place.box[2:]) / 2 == pytest.approx((340, 340), abs=25)


@given(COLOURS, COLOURS, st.integers(1, CELLS), st.integers(1, CELLS))
def test_likenesses_are_shares_whatever_the_colours(
    here: NDArray[np.float32], there: NDArray[np.float32], width: int, height: int
) -> None:
    one, other = replace(SHOWN, keys=here), replace(SHOWN, keys=there)
    alike = likenesses(one, other, width, height)
    assert alike.shape == (CELLS, CELLS)
    assert (alike >= 0).all()
    assert (alike <= 1 + 1e-6).all()
    assert len(places(one, other, 2)) <= 2


def test_what_is_away_is_sought_by_its_colours_and_near_what_was_found() -> None:
    now = view((15, 15, RED))
    search = further(now, SHOWN, AWAY, FRAME, 1.7)
    assert search.first_counts
    assert len(search.windows) <= PLACES
    assert search.windows[0].contains(np.array([(300, 300), (380, 380)], np.float32))
    closer = further(now, SHOWN, replace(AWAY, object_score=2.0), FRAME, 1.7)
    assert not closer.first_counts, "the look from near decides in its place"
    assert closer.windows[1:] == search.windows


def test_what_is_followed_is_compared_with_places_that_are_like_the_object() -> None:
    blue, doubted = view((3, 3, BLUE), (15, 15, RED)), replace(SEEN, likeness=0.6)
    search = further(blue, SHOWN, doubted, FRAME, 1.7)
    assert search.first_counts
    assert [window.contains(np.array([(320, 320)], np.float32)) for window in search.windows] == [True]
    assert not further(blue, SHOWN, SEEN, FRAME, 1.7).windows, "alike enough"
    assert not further(SHOWN, SHOWN, doubted, FRAME, 1.7).windows, "there it is"
    assert not further(view((3, 3, BLUE)), SHOWN, doubted, FRAME, 1.7).windows, "nothing else is like it"
    assert not further(blue, view(), doubted, FRAME, 1.7).windows, "nothing was shown"
    assert not further(blue, SHOWN, replace(doubted, object_score=-5.0), FRAME, 1.7).windows
