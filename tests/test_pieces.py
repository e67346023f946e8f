"""Which pieces of a tracked mask are something else's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgetam_model.outlines import Outline
from edgetam_model.pieces import foreign
from edgetam_model.windows import Window

SIDE, PLACES = 64, 16
WINDOW = Window(0, 0, 64, 64)
RED, GREEN = (2.0, 0.0, 0.0), (0.0, 2.0, 0.0)


def blocks(*corners: tuple[int, int], side: int = 12) -> NDArray[np.bool_]:
    """Squares at (x, y)."""
    mask = np.zeros((SIDE, SIDE), np.bool_)
    for x, y in corners:
        mask[y : y + side, x : x + side] = True
    return mask


def scene(green: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Keys of a red picture with something green in it."""
    there = green[::4, ::4]
    return np.where(there, np.array(GREEN)[:, None, None], np.array(RED)[:, None, None]).astype(np.float32)


HERE, THERE, CORNER = (8, 8), (40, 40), (48, 4)
PLAIN = scene(blocks(side=0))
SHOWN = Outline(blocks(HERE), WINDOW, PLAIN)
AWAY = replace(SHOWN, mask=blocks(side=0))


def test_what_comes_back_is_the_piece_that_looks_like_the_object() -> None:
    now = Outline(blocks(HERE, THERE), WINDOW, scene(blocks(HERE)))
    assert (foreign(now, AWAY, SHOWN) == blocks(HERE)).all()


def test_pieces_that_look_alike_come_back_together() -> None:
    """The object may be seen on both sides of a post."""
    now = Outline(blocks(HERE, THERE, side=8), WINDOW, PLAIN)  # .44 of it each
    assert not foreign(now, AWAY, SHOWN).any()


def test_of_pieces_that_could_be_all_of_the_object_the_one_most_like_it_comes_back() -> None:
    green = blocks(HERE)
    green[HERE[1] + 4 :] = False  # a third of this piece: as like the object as .82
    now = Outline(blocks(HERE, THERE), WINDOW, scene(green))
    assert (foreign(now, AWAY, SHOWN) == blocks(HERE)).all()
    small = replace(now, mask=blocks(HERE) | blocks(THERE, side=9))  # .56 of it
    assert (foreign(small, AWAY, SHOWN) == blocks(THERE, side=9)).all(), "too little to be all of it"


def test_where_the_object_is_all_there_other_pieces_are_look_alikes() -> None:
    now = Outline(blocks(HERE, THERE), WINDOW, PLAIN)
    assert (foreign(now, SHOWN, SHOWN) == blocks(THERE)).all()


def test_where_most_of_it_is_hidden_pieces_elsewhere_belong_to_it_by_their_colours() -> None:
    """It comes out on the other side of what hides it."""
    left = blocks(HERE, side=9)  # .56 of it
    now = Outline(left | blocks(THERE), WINDOW, scene(blocks(THERE)))
    assert (foreign(now, SHOWN, SHOWN) == blocks(THERE)).all()
    assert not foreign(replace(now, keys=PLAIN), SHOWN, SHOWN).any(), "its own colours"


def test_a_piece_where_the_object_was_stays_whatever_its_colours() -> None:
    now = Outline(blocks(HERE, THERE), WINDOW, scene(blocks(THERE)))
    last = replace(SHOWN, mask=blocks(HERE, THERE))
    assert not foreign(now, last, SHOWN).any()
    beside = replace(SHOWN, mask=blocks(HERE, (THERE[0] - 13, THERE[1])))
    assert not foreign(now, beside, SHOWN).any(), "a pixel apart"


def test_the_last_mask_is_found_in_this_frame_s_window() -> None:
    now = Outline(blocks(HERE, THERE), WINDOW, scene(blocks(THERE)))
    moved = Outline(blocks((THERE[0] - 16, THERE[1] - 16)), Window(16, 16, 80, 80), PLAIN)
    assert not foreign(now, moved, SHOWN)[blocks(THERE)].any()


def test_specks_stay_while_the_object_is_followed_and_do_not_come_back() -> None:
    speck = blocks(CORNER, side=1)
    now = Outline(blocks(HERE) | speck, WINDOW, scene(blocks(CORNER, side=8)))
    assert not foreign(now, SHOWN, SHOWN).any()
    assert (foreign(now, AWAY, SHOWN) == speck).all()


@pytest.mark.parametrize("mask", [blocks(side=0), blocks(HERE)])
def test_one_piece_or_none_is_left_as_it_is(mask: NDArray[np.bool_]) -> None:
    now = Outline(mask, WINDOW, scene(blocks(HERE)))
    assert not foreign(now, AWAY, SHOWN).any()
    assert not foreign(now, SHOWN, SHOWN).any()


def test_without_a_prompted_mask_there_is_nothing_to_compare_with() -> None:
    now = Outline(blocks(HERE, THERE), WINDOW, scene(blocks(THERE)))
    assert not foreign(now, SHOWN, AWAY).any()


@given(arrays(np.bool_, (SIDE, SIDE)), arrays(np.bool_, (SIDE, SIDE)), st.booleans())
def test_never_all_of_a_mask_is_left_out(
    mask: NDArray[np.bool_], green: NDArray[np.bool_], away: bool
) -> None:
    now = Outline(mask, WINDOW, scene(green))
    wrong = foreign(now, AWAY if away else SHOWN, SHOWN)
    assert not (wrong & ~mask).any()
    assert wrong.sum() < max(mask.sum(), 1)
