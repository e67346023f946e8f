"""What a model with windows is asked, by one that writes down every question."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgetam_model.answering import CLOSER, KNOWN_ANSWERS, WORSE, Scene, one_by_one
from edgetam_model.colour_cut import CUT_LOGIT
from edgetam_model.prompts import Prompt
from edgetam_model.windows import Window, window_around

SIZE = (90, 160)
SIDE = 64
LOOKS = [160, 64, 46, 33, 24]  # sides of the windows, in pixels
BOX = (60, 30, 90, 60)  # of what is red on rippled green


@dataclass(frozen=True, eq=False)
class Said:
    """An answer."""

    logits: NDArray[np.float32]
    iou: float
    window: Window | None

    def showing(self, logits: NDArray[np.float32]) -> Said:
        """With another mask."""
        return replace(self, logits=logits)


@dataclass
class Model:
    """Sees a part of the object, and what it is told to refine; the wider the window, the surer it is.

    Attributes:
        doubts: what is taken off the predicted IoU where colours were minded.
    """

    doubts: float = 0.0
    asked: list[tuple[Window, Prompt]] = field(default_factory=list)

    def ask(self, window: Window, prompt: Prompt) -> Said:
        """Write down, and answer."""
        self.asked.append((window, prompt))
        frame = np.full(SIZE, -5, np.float32)
        frame[40:50, 70:80] = 5
        if prompt.points is not None and prompt.points[-1, 0] < 30:
            frame[74:86, 14:26] = 5  # another part, for who points at it
        logits = stretched(frame, window) if prompt.logits is None else prompt.logits
        iou = 0.5 + max(window.size) / 1000 - (self.doubts if prompt.logits is not None else 0)
        return Said(logits, iou, window)


def stretched(frame: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    part = window.cut(frame)
    rows, columns = (((np.arange(SIDE) + 0.5) * n / SIDE).astype(int) for n in part.shape[:2])
    return np.asarray(part[rows[:, None], columns], np.float32)


def pixels(window: Window) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    ripples = 100 + 25 * np.sin(rows / 3) + 20 * np.cos(columns / 4)
    frame = np.stack([ripples * 0.4, ripples, ripples * 0.5], -1).astype(np.float32)
    frame[BOX[1] : BOX[3], BOX[0] : BOX[2]] = (210, 40, 40)
    return stretched(frame, window).astype(np.uint8)


def scene(model: Model, *, colours: bool = True) -> Scene[Said]:
    return Scene(SIZE, 1.7, model.ask, pixels if colours else lambda _: None)


def area(answer: Said) -> float:
    """Of the mask, in pixels of the frame."""
    assert answer.window is not None
    return float((answer.logits > 0).mean()) * answer.window.size[0] * answer.window.size[1]


def test_colours_make_a_part_of_an_object_the_whole() -> None:
    for prompt in (Prompt(points=[[75, 45]], labels=[1]), Prompt(box=BOX)):
        whole, part = scene(Model()).answer(prompt), scene(Model(), colours=False).answer(prompt)
        assert area(whole) == pytest.approx(900, rel=0.15)
        assert area(part) == pytest.approx(100, rel=0.3)


def test_a_further_click_is_all_that_is_computed() -> None:
    three = Prompt(points=[[75, 45], [20, 80], [150, 10]], labels=[1, 1, 0])
    two = Prompt(points=three.points[:2], labels=three.labels[:2])
    whole, model = Model(), Model()
    wanted, following = scene(whole).answer(three), scene(model)
    following.answer(two)
    before = len(model.asked)
    got = following.answer(three)
    assert np.array_equal(got.logits, wanted.logits)
    assert len(model.asked) == len(whole.asked)
    assert 0 < len(model.asked) - before < before / 2
    assert following.answer(two).window == scene(Model()).answer(two).window
    assert len(model.asked) == len(whole.asked), "nothing is asked twice"


def test_one_more_of_many_clicks_is_all_that_is_computed() -> None:
    """Also where the first answers had to go."""
    points = [[70 + count, 45] for count in range(KNOWN_ANSWERS + 5)]
    model = Model()
    following = scene(model)
    following.answer(Prompt(points=points[:-1], labels=[1] * (len(points) - 1)))
    assert len(following.known) == KNOWN_ANSWERS
    before = len(model.asked)
    following.answer(Prompt(points=points, labels=[1] * len(points)))
    assert 0 < len(model.asked) - before <= 3
    assert len(following.known) == KNOWN_ANSWERS


def test_other_clicks_are_other_questions() -> None:
    following = scene(Model())
    for points, labels in (([[75, 45]], [1]), ([[75, 46]], [1]), ([[75, 45], [20, 80]], [1, 0])):
        prompt = Prompt(points=points, labels=labels)
        assert np.array_equal(following.answer(prompt).logits, scene(Model()).answer(prompt).logits)
    assert len(following.known) == 3


def test_from_a_box_the_surer_answer_is_kept_and_from_a_click_the_one_that_minds_colours() -> None:
    box, click = Prompt(box=BOX), Prompt(points=[[75, 45]], labels=[1])
    assert area(scene(Model(doubts=WORSE * 2)).answer(box)) < 200
    assert area(scene(Model(doubts=WORSE / 2)).answer(box)) > 700
    assert area(scene(Model(doubts=WORSE * 2)).answer(click)) > 700


def test_a_box_is_asked_about_in_the_window_around_it() -> None:
    model = Model()
    scene(model).answer(Prompt(box=BOX))
    around = window_around(np.array(BOX), SIZE, 1.7)
    assert [window for window, _ in model.asked] == [around, around]
    assert set(np.unique(model.asked[1][1].logits)) == {-CUT_LOGIT, CUT_LOGIT}


@dataclass
class Flooded(Model):
    """Takes the left part of the red thing, and all the plain sky around it in its box, for one object.

    Attributes:
        sure: its predicted IoU.
    """

    sure: float = 0.5

    def ask(self, window: Window, prompt: Prompt) -> Said:
        """The same whatever colours say."""
        self.asked.append((window, prompt))
        frame = np.full(SIZE, -5, np.float32)
        frame[BOX[1] - 4 : BOX[3] + 4, BOX[0] : 119] = 5
        return Said(stretched(frame, window), self.sure, window)


def sky(window: Window) -> NDArray[np.uint8]:
    frame = np.full((*SIZE, 3), (90, 130, 220), np.float32)
    frame[BOX[1] : BOX[3], BOX[0] : BOX[2]] = (210, 40, 40)
    frame[44:46, BOX[2] : 120] = (60, 20, 20)  # a line to the far side of the box
    return stretched(frame, window).astype(np.uint8)


@pytest.mark.parametrize(("sure", "pixels_kept"), [(0.5, (700, 1200)), (0.95, (1500, 2500))])
def test_the_ground_that_goes_on_outside_a_box_is_not_the_object(
    sure: float, pixels_kept: tuple[int, int]
) -> None:
    """Unless the model is sure, and the ground would take most of its answer."""
    model = Flooded(sure=sure)
    wide = Prompt(box=(BOX[0], BOX[1] - 4, 120, BOX[3] + 4))
    answer = Scene(SIZE, 1.7, model.ask, sky).answer(wide)
    low, high = pixels_kept
    assert low < area(answer) < high
    if sure < 0.9:
        assert np.array_equal(model.asked[-1][1].logits, answer.logits), "it was told, for the pointer"


@dataclass
class Sharper(Model):
    """Sees a square in the middle of the frame, of another size in a closer window.

    Attributes:
        near, wide: its sides in pixels of the frame.
    """

    near: int = 30
    wide: int = 40

    def ask(self, window: Window, prompt: Prompt) -> Said:
        """Whatever it is told."""
        self.asked.append((window, prompt))
        side = self.wide if max(window.size) > 80 else self.near
        frame = np.full(SIZE, -5, np.float32)
        frame[45 - side // 2 : 45 + side // 2, 75 - side // 2 : 75 + side // 2] = 5
        return Said(stretched(frame, window), 0.8, window)


@pytest.mark.parametrize(("near", "counts"), [(30, 30), (40, 40), (50, 40)])
def test_a_large_box_is_looked_at_more_closely_and_what_has_grown_there_does_not_count(
    near: int, counts: int
) -> None:
    box = Prompt(box=(50, 20, 100, 70))
    model = Sharper(near=near)
    answer = scene(model, colours=False).answer(box)
    wide, closer = (window_around(box.box, SIZE, scale) for scale in (1.7, CLOSER))
    assert area(answer) == pytest.approx(counts**2, rel=0.08)
    assert answer.window == wide, "whichever counts, so that memories are as wide as ever"
    assert {window for window, _ in model.asked} == {wide, closer}
    if counts == near:
        assert np.array_equal(model.asked[-1][1].logits, answer.logits), "it was told, for the pointer"


def test_masks_and_earlier_results_are_answered_as_they_are() -> None:
    logits = np.full((SIDE, SIDE), 3, np.float32)
    refined = Prompt(points=[[75, 45]], labels=[1], logits=logits, window=Window(50, 20, 114, 84))
    for prompt in (Prompt(mask=np.ones(SIZE, bool)), refined):
        model = Model()
        scene(model).answer(prompt)
        assert [asked for _, asked in model.asked] == [prompt]


def test_further_clicks_correct_what_those_before_gave() -> None:
    model = Model()
    first = scene(model).answer(Prompt(points=[[75, 45]], labels=[1]))
    assert [max(window.size) for window, _ in model.asked[::2]] == LOOKS
    looked = len(model.asked)
    both = Prompt(points=[[75, 45], [150, 10]], labels=[1, 0])
    answer = scene(model).answer(both)
    again, minded = model.asked[2 * looked :]
    assert again[1].points.tolist() == both.points.tolist()
    assert np.array_equal(again[1].logits, first.logits)
    assert again[0] == again[1].window == first.window
    assert minded[0] == answer.window == first.window


def test_a_click_on_a_part_that_is_missing_adds_it() -> None:
    model = Model()
    only = scene(model, colours=False)
    both = Prompt(points=[[75, 45], [20, 80]], labels=[1, 1])
    added = only.answer(both)
    part, again = model.asked[-2:]
    assert part[1].points.tolist() == [[20, 80]], "what this click alone shows"
    assert part[1].logits is None
    assert area(added) == pytest.approx(100 + 144, rel=0.2)
    assert again[1].points.tolist() == both.points.tolist()
    asked = len(model.asked)
    only.answer(Prompt(points=[[75, 45], [74, 44]], labels=[1, 1]))
    assert len(model.asked) - asked == 1, "nothing of what it shows already"


def test_the_window_grows_with_what_clicks_show() -> None:
    frame_scene = scene(Model(), colours=False)
    last = Said(np.full((SIDE, SIDE), 5, np.float32), 0.9, Window(60, 30, 90, 60))
    clicks = Prompt(points=[[75, 45], [40, 45]], labels=[1, 1])
    grown = frame_scene._corrected(last, clicks)
    assert grown.window == window_around(np.array((40, 30, 90, 60)), SIZE, 1.7)
    near = Prompt(points=[[75, 45], [62, 45]], labels=[1, 1])
    small = Said(np.full((SIDE, SIDE), -5, np.float32), 0.9, Window(50, 20, 100, 70))
    assert frame_scene._corrected(small, near).window == small.window


def test_clicks_are_told_one_by_one_from_the_first_positive_one_on() -> None:
    clicks = Prompt(points=[[1, 1], [2, 2], [3, 3], [4, 4]], labels=[0, 1, 0, 1])
    told = one_by_one(clicks)
    assert [one.labels.tolist() for one in told] == [[0, 1], [0, 1, 0], [0, 1, 0, 1]]
    assert told[-1].points.tolist() == clicks.points.tolist()


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_windows_hold_every_click_that_is_asked_about(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5))
    places = st.tuples(st.integers(0, SIZE[1]), st.integers(0, SIZE[0]))
    points = data.draw(st.lists(places, min_size=count, max_size=count))
    labels = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count).filter(any))
    model = Model()
    scene(model).answer(Prompt(points=points, labels=labels))
    for window, prompt in model.asked:
        assert window.contains(prompt.points)
        assert window.fits(SIZE)
    assert len(model.asked[-1][1].points) == count
