"""Cut-outs: one thing with a clear outline, its distance to it measured, its colours continued beyond it."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgetam_model.training.cutouts import DEPTH, EXTENT, REACH, cut_thing
from edgetam_model.training.procedural import TILE

TEXEL = 2 * REACH / TILE  # a tile's pixel in the thing's coordinates


def disc(side: int, radius: float, x: float, y: float, colour: int = 200) -> NDArray[np.uint8]:
    """A disc on nothing, whose hidden colours are green."""
    rows, columns = np.mgrid[:side, :side]
    layer = np.zeros((side, side, 4), np.uint8)
    layer[..., 1] = 255
    inside = np.hypot(columns - x, rows - y) <= radius
    layer[inside] = (colour, 10, 10, 255)
    return layer


@settings(deadline=None, max_examples=20)
@given(radius=st.floats(30, 90), x=st.floats(95, 160), y=st.floats(95, 160))
def test_a_disc_is_centred_scaled_and_its_distances_are_true(radius: float, x: float, y: float) -> None:
    thing = cut_thing(disc(256, radius, x, y))
    assert thing is not None
    assert thing.shape == (4, TILE, TILE)
    assert thing.dtype == np.uint8
    place = (np.arange(TILE) + 0.5) * TEXEL - REACH
    true = EXTENT - np.hypot(*np.meshgrid(place, place))
    found = (thing[3] / 127.5 - 1) * DEPTH
    near = np.abs(true) < DEPTH * 0.9
    assert np.abs(found - true)[near].max() < 1.5 * TEXEL + 1.5 * EXTENT / radius
    assert (thing[3][true > DEPTH * 1.3] == 255).all()
    assert (thing[3][true < -DEPTH * 1.3] == 0).all()


def test_colours_go_on_beyond_the_outline() -> None:
    thing = cut_thing(disc(200, 60, 100, 100))
    assert thing is not None
    assert (np.abs(thing[:3].astype(int) - np.array((200, 10, 10))[:, None, None]) <= 2).all()


def test_a_hole_lies_outside() -> None:
    layer = disc(200, 80, 100, 100)
    layer[disc(200, 30, 100, 100)[..., 3] > 0, 3] = 0
    thing = cut_thing(layer)
    assert thing is not None
    assert thing[3, TILE // 2, TILE // 2] < 100
    assert thing[3, TILE // 2, TILE // 2 + 30] > 150


def test_a_speck_beside_a_thing_does_not_count() -> None:
    layer = disc(200, 50, 100, 100)
    layer[5:12, 5:12] = 255
    alone, beside = cut_thing(disc(200, 50, 100, 100)), cut_thing(layer)
    assert alone is not None
    assert beside is not None
    assert np.array_equal(alone, beside)


@pytest.mark.parametrize("what", ["nothing", "everything", "a pair", "small", "a line"])
def test_what_is_no_thing_is_left_out(what: str) -> None:
    layer = np.zeros((200, 200, 4), np.uint8)
    if what == "everything":
        layer[..., 3] = 255
    elif what == "a pair":
        layer[20:80, 20:80, 3] = layer[110:170, 110:170, 3] = 255
    elif what == "small":
        layer[90:110, 90:120, 3] = 255
    elif what == "a line":
        cv2.line(layer, (10, 10), (190, 190), (255, 255, 255, 255), 4)
    assert cut_thing(layer) is None
