"""What colours alone say about an object: on drawn pictures, and with the shipped weights on photographs."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgetam_model.colour_cut import CERTAIN, CUT_LOGIT, SURE, off_ground, with_colours
from edgetam_model.config import CONFIGS
from edgetam_model.image_predictor import ImagePredictor
from edgetam_model.model import EdgeTAM
from edgetam_model.prompts import Prompt
from edgetam_model.training.photo_clips import load_cutout, outlined_objects
from edgetam_model.weights import load_model
from edgetam_model.windows import Window

SIDE = 96
WINDOW = Window(100, 50, 292, 242)  # two pixels of the frame to one of the picture
NOTHING = np.zeros((SIDE, SIDE), np.bool_)
TWO = [[196.0, 146.0], [196.0, 60.0]]


def picture() -> NDArray[np.uint8]:
    """A red disc of radius 20 in the middle and one of radius 8 below it on rippled green."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    ripples = 100 + 25 * np.sin(rows / 3) + 20 * np.cos(columns / 4)
    pixels = np.stack([ripples * 0.4, ripples, ripples * 0.5], -1)
    pixels[disc(48, 20) | disc(86, 8)] = (210, 40, 40)
    return pixels.astype(np.uint8)


def disc(row: int, radius: int) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.asarray((rows - row) ** 2 + (columns - 48) ** 2 <= radius**2)


def cut(prompt: Prompt, mask: NDArray[np.bool_] = NOTHING) -> NDArray[np.bool_]:
    again = with_colours(prompt, WINDOW, picture(), mask)
    assert again is not None
    assert again.logits is not None
    assert again.window == WINDOW
    assert set(np.unique(again.logits)) == {-CUT_LOGIT, CUT_LOGIT}
    return again.logits > 0


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_a_loose_box_is_cut_down_to_its_object() -> None:
    assert iou(cut(Prompt(box=[140, 90, 252, 200])), disc(48, 20)) > 0.95


def test_in_a_box_the_models_own_mask_says_what_is_meant() -> None:
    """A blue disc stands beside the red one; without a guess both would be the object."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    blue = (rows - 48) ** 2 + (columns - 14) ** 2 <= 10**2
    pixels = picture()
    pixels[blue] = (40, 40, 210)
    box = Prompt(box=[108, 100, 240, 200])
    found = [with_colours(box, WINDOW, pixels, guess) for guess in (disc(48, 17), NOTHING)]
    one, both = (again.logits > 0 for again in found if again is not None and again.logits is not None)
    assert iou(one, disc(48, 20)) > 0.9
    assert iou(both, disc(48, 20) | blue) > 0.9


def test_a_wrong_guess_is_corrected_around_a_click_and_stays_in_one_piece() -> None:
    guess = disc(40, 22)
    assert iou(cut(Prompt(points=TWO[:1], labels=[1]), guess), disc(48, 20)) > 0.95
    both = cut(Prompt(points=[TWO[0], [196.0, 222.0]], labels=[1, 1]), guess)
    assert iou(both, disc(48, 20) | disc(86, 8)) > 0.9


def test_clicks_are_certain() -> None:
    box = [140.0, 90.0, 252.0, 200.0]
    found = cut(Prompt(box=box, points=[[196.0, 146.0], [150.0, 100.0]], labels=[0, 1]))
    assert not found[48, 48]
    assert found[25, 25]


def test_the_same_picture_gives_the_same_mask() -> None:
    first = cut(Prompt(points=TWO[:1], labels=[1]), disc(40, 22))
    cv2.setRNGSeed(99)
    assert np.array_equal(first, cut(Prompt(points=TWO[:1], labels=[1]), disc(40, 22)))


def test_nothing_comes_of_a_box_that_fills_the_picture() -> None:
    whole = Prompt(box=[WINDOW.x0, WINDOW.y0, WINDOW.x1, WINDOW.y1])
    assert with_colours(whole, WINDOW, picture(), NOTHING) is None


def waterside() -> NDArray[np.uint8]:
    """The red disc on plain blue."""
    pixels = np.full((SIDE, SIDE, 3), (40, 90, 160), np.uint8)
    pixels[disc(48, 20)] = (210, 40, 40)
    return pixels


TIGHT = Prompt(box=[154, 104, 240, 190])
FLOODED = np.pad(np.ones((43, 43), np.bool_), ((27, 26), (27, 26)))  # all of that box


@pytest.mark.parametrize(("wide", "found"), [(False, True), (True, False)])
def test_ground_is_taken_off_an_answer_that_had_it(wide: bool, found: bool) -> None:
    """Not where the box leaves nothing outside that could go on."""
    box = Prompt(box=[WINDOW.x0, WINDOW.y0, WINDOW.x1, WINDOW.y1]) if wide else TIGHT
    again = off_ground(box, WINDOW, waterside(), FLOODED, FLOODED, 0.5)
    assert (again is not None) == found
    if again is not None and again.logits is not None:
        assert iou(again.logits > 0, disc(48, 20)) > 0.95


def test_ground_is_left_in_a_sure_answer_that_is_mostly_ground() -> None:
    small = waterside()
    small[disc(48, 20) & ~disc(48, 13)] = (40, 90, 160)
    small[47:49, 27:70] = (210, 40, 40)
    doubted, sure = (off_ground(TIGHT, WINDOW, small, FLOODED, FLOODED, one) for one in (SURE - 0.1, SURE))
    assert doubted is not None
    assert sure is None
    small[disc(48, 20) & ~disc(48, 5)] = (40, 90, 160)
    assert off_ground(TIGHT, WINDOW, small, FLOODED, FLOODED, 0.5) is None, "hardly anything is left"


def test_a_certain_answer_keeps_its_ground() -> None:
    doubted, certain = (
        off_ground(TIGHT, WINDOW, waterside(), FLOODED, FLOODED, one) for one in (SURE, CERTAIN)
    )
    assert doubted is not None
    assert certain is None


def test_what_a_box_holds_apart_from_ground_must_be_something() -> None:
    plain = np.full((SIDE, SIDE, 3), 90, np.uint8)
    assert off_ground(TIGHT, WINDOW, plain, FLOODED, FLOODED, 0.5) is None
    assert off_ground(TIGHT, WINDOW, waterside(), disc(48, 20), disc(48, 20), 0.5) is None, "as it is"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 400), st.floats(0, 400), st.integers(0, 1)), min_size=1, max_size=4),
    st.integers(0, 96),
    st.integers(1, 40),
)
def test_any_clicks_give_a_mask_or_nothing(
    clicks: list[tuple[float, float, int]], row: int, radius: int
) -> None:
    """Also those outside the window, which `first_windows` never asks for."""
    points, labels = [[x, y] for x, y, _ in clicks], [label for _, _, label in clicks]
    again = with_colours(Prompt(points=points, labels=labels), WINDOW, picture(), disc(row, radius))
    assert again is None or (again.logits is not None and bool((again.logits > 0).any()))


@pytest.mark.parametrize(("name", "box", "click"), [("head", 0.96, 0.95), ("cup", 0.66, 0.6)])
def test_photographed_objects_are_found_better(name: str, box: float, click: float) -> None:
    """Without colours the IoU is .97 and .62 from the box, .66 and .26 from a click."""
    number = [thing.name for thing in outlined_objects()].index(name)
    cutout = load_cutout(number)
    truth = cutout.cover > 127
    predictor = ImagePredictor(load_model("default"))
    predictor.set_image(cutout.photo)
    assert iou(predictor.predict(Prompt(box=cutout.box)).mask, truth) >= box
    inside = cv2.distanceTransform(np.pad(truth.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    middle = Prompt(points=[[float(x) + 0.5, float(y) + 0.5]], labels=[1])
    assert iou(predictor.predict(middle).mask, truth) >= click


def test_masks_may_be_coarser_than_what_is_seen() -> None:
    """As those of models without a refiner are."""
    coarse = np.zeros((SIDE // 4, SIDE // 4), np.bool_)
    coarse[9:16, 9:16] = True
    again = with_colours(Prompt(points=TWO[:1], labels=[1]), WINDOW, picture(), coarse)
    assert again is not None
    fine = cv2.resize(again.logits, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) > 0
    assert again.logits.shape == coarse.shape
    assert iou(fine, disc(48, 20)) > 0.85
    untrained = EdgeTAM(replace(CONFIGS["tiny"], window_scale=1.7)).eval()
    predictor = ImagePredictor(untrained)
    predictor.set_image(picture())
    clicks = Prompt(points=[[48, 48], [48, 20]], labels=[1, 0])
    assert predictor.predict(clicks).logits.shape == (32, 32)
