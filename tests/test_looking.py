"""Where a prompt's object is looked for, with an engine that says what was asked of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edgetam_model.answering import CLOSER
from edgetam_model.config import CONFIGS
from edgetam_model.engine import View
from edgetam_model.first_looks import first_windows, merit, shown_window
from edgetam_model.looking import Answer, look
from edgetam_model.model_io import Decoded, ImageFeatures
from edgetam_model.prompts import Prompt
from edgetam_model.windows import Window, window_around

SIZE = (90, 160)
SIDE = 64
IMAGE = ImageFeatures(torch.zeros(1), torch.zeros(1), torch.zeros(1))
LOOKS = [160, 64, 46, 33, 24]  # sides of the windows, in pixels
SQUARE = np.zeros(SIZE, bool)
SQUARE[20:50, 30:70] = True


def decoded(mask: np.ndarray, iou: float) -> Decoded:
    logits = torch.from_numpy(np.where(mask, 5, -5).astype(np.float32))[None]
    number = torch.tensor([iou])
    return Decoded(logits, logits, number, torch.zeros(1, 4), number, logits[None], number[None])


class SquareEngine:
    """Sees a square of the frame in any window, and trusts what it sees in some of them."""

    windowed = True
    size = SIZE

    class model:  # noqa: N801
        config = CONFIGS["nano"]

    def __init__(self, object_box: tuple[int, int, int, int], trusted: float = 45) -> None:
        self.frame = np.zeros(SIZE, bool)
        x0, y0, x1, y1 = object_box
        self.frame[y0:y1, x0:x1] = True
        self.trusted = trusted
        self.asked: list[Window] = []
        self.sure = 1.0

    def decode_prompt(self, view: View, prompt: Prompt, **_: Any) -> Decoded:
        assert view.window is not None
        self.asked.append(view.window)
        part = view.window.cut(self.frame)
        rows, columns = ((np.arange(SIDE) + 0.5) * n / SIDE for n in part.shape)
        mask = part[rows.astype(int)[:, None], columns.astype(int)]
        return decoded(mask, 0.9 - self.sure * abs(max(view.window.size) - self.trusted) / 1000)


def see(window: Window | None) -> View:
    return View(IMAGE, window)


def looked(engine: SquareEngine, prompt: Prompt) -> Answer:
    return look(engine, see, prompt)  # type: ignore[arg-type]


def test_a_box_and_a_mask_are_seen_in_the_window_around_them() -> None:
    around = window_around(np.array((30, 20, 70, 50)), SIZE, 1.7)
    closer = window_around(np.array((30, 20, 70, 50)), SIZE, CLOSER)
    asked = [around, closer, around]  # the last to say what came of the closer look
    for prompt, windows in ((Prompt(box=[30, 20, 70, 50]), asked), (Prompt(mask=SQUARE), [around])):
        engine = SquareEngine((30, 20, 70, 50))
        assert looked(engine, prompt).view.window == around
        assert engine.asked == windows
    assert shown_window(Prompt(mask=np.zeros(SIZE)), SIZE, 1.7) == Window.whole(SIZE)


def test_clicks_beside_a_box_or_an_earlier_result_enlarge_the_window() -> None:
    box = Prompt(box=[30, 20, 40, 30], points=[[120, 80]], labels=[0])
    found = looked(SquareEngine((30, 20, 40, 30)), box).view.window
    assert found is not None
    assert found.contains(np.array([[30, 20], [40, 30], [120, 80]]))

    last = Window(20, 10, 60, 50)
    logits = np.zeros((SIDE, SIDE), np.float32)
    inside = Prompt(points=[[30, 20]], labels=[1], logits=logits, window=last)
    assert shown_window(inside, SIZE, 1.7) == last, "an earlier result is corrected where it was seen"
    outside = Prompt(points=[[90, 20]], labels=[1], logits=logits, window=last)
    larger = shown_window(outside, SIZE, 1.7)
    assert larger is not None
    assert larger.contains(np.array([[20, 10], [60, 50], [90, 20]]))
    everywhere = Prompt(points=[[90, 20]], labels=[1], logits=logits)
    assert shown_window(everywhere, SIZE, 1.7) == Window.whole(SIZE)


def test_a_click_is_answered_at_several_sizes_and_the_best_answer_is_kept() -> None:
    engine = SquareEngine((100, 30, 112, 42), trusted=32)
    engine.sure = 0.1
    answer = looked(engine, Prompt(points=[[105, 35]], labels=[1]))
    assert [max(window.size) for window in engine.asked] == LOOKS
    assert all(window.contains(np.array([[105, 35]])) for window in engine.asked)
    assert answer.view.window == Window.whole(SIZE), "the closer looks are hardly surer, and trusted less"
    engine.sure = 10
    assert looked(engine, Prompt(points=[[105, 35]], labels=[1])).view.window == engine.asked[3]


def test_windows_that_miss_a_click_are_not_looked_through() -> None:
    prompt = Prompt(points=[[20, 20], [40, 20], [150, 80]], labels=[1, 1, 0])
    assert first_windows(prompt, SIZE) == [Window.whole(SIZE)]
    prompt = Prompt(points=[[80, 50], [88, 50]], labels=[1, 1])
    assert [max(window.size) for window in first_windows(prompt, SIZE)] == LOOKS


def test_further_clicks_are_answered_in_windows_that_the_first_one_had() -> None:
    one = Prompt(points=[[80, 50]], labels=[1])
    more = Prompt(points=[[80, 50], [95, 60], [70, 45]], labels=[1, 0, 1])
    assert first_windows(more, SIZE)
    assert set(first_windows(more, SIZE)) <= set(first_windows(one, SIZE))


def test_a_mask_that_its_window_cuts_off_or_a_speck_is_worth_less() -> None:
    good, across, speck = (np.zeros((SIDE, SIDE), bool) for _ in range(3))
    good[5:60, 0:63] = True
    across[5:9] = True
    speck[5, 5] = True
    view = see(Window(0, 0, 50, 50))
    merits = [merit(iou, mask, view.window, SIZE) for mask, iou in ((good, 0.2), (across, 1.0), (speck, 1.0))]
    assert merits[0] > max(merits[1:])
    engine = SquareEngine((10, 20, 150, 60), trusted=24)  # sure of itself where it sees nothing but object
    answer = looked(engine, Prompt(points=[[80, 40]], labels=[1]))
    assert answer.view.window == Window.whole(SIZE)


def test_an_object_that_is_not_found_leaves_an_empty_answer() -> None:
    answer = looked(SquareEngine((0, 0, 0, 0), trusted=160), Prompt(points=[[80, 40]], labels=[1]))
    assert answer.view.window == Window.whole(SIZE)
    assert not (answer.decoded.logits > 0).any()
