"""Prompts take what people give, and name the field that is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.errors import PromptError
from edgetam_model.prompts import Prompt
from edgetam_model.results import MaskResult
from edgetam_model.windows import Window

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**70), 2**70) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


def test_values_become_read_only_arrays_of_their_own() -> None:
    points = np.array([[1.5, 2.0]])
    prompt = Prompt(points=points, labels=[1], box=(1, 2, 30, 40))
    points[0, 0] = 99
    assert prompt.points.dtype == np.float32
    assert prompt.points.tolist() == [[1.5, 2.0]]
    assert prompt.labels.tolist() == [1]
    with pytest.raises(ValueError, match="read-only"):
        prompt.box[0] = 7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "prompt: expected points, a box, a mask or logits"),
        ({"points": []}, "prompt: expected"),
        ({"points": [[1, 2]]}, "labels: expected one label per point"),
        ({"labels": [1]}, "labels: given without points"),
        ({"points": [[1, 2]], "labels": [1, 0]}, "labels: expected 1 labels"),
        ({"points": [[1, 2]], "labels": [2]}, "labels: expected 1 positive or 0 negative"),
        ({"points": [1, 2], "labels": [1]}, r"points: expected shape \(N, 2\)"),
        ({"points": [[1, float("nan")]], "labels": [1]}, "points: expected finite"),
        ({"points": [["a", 2]], "labels": [1]}, "points: expected numbers"),
        ({"box": [1, 2, 3]}, "box: expected x0, y0, x1, y1"),
        ({"box": [5, 2, 3, 9]}, "box: expected x0 < x1"),
        ({"mask": [1, 0]}, "mask: expected shape"),
        ({"mask": [[1, 7]]}, "mask: expected booleans"),
        ({"mask": [[1]], "box": [0, 0, 1, 1]}, "mask: excludes"),
        ({"logits": np.zeros((3, 4))}, "logits: expected the"),
        ({"box": [0, 0, 1, 1], "window": [0, 0, 1, 1]}, "window: given without logits"),
        ({"logits": np.zeros((3, 3)), "window": [4, 0, 4, 9]}, "window: expected 0 ≤ x0 < x1"),
        ({"logits": np.zeros((3, 3)), "window": [0, 0, 4.5, 9]}, "window: expected whole pixels"),
        ({"logits": np.zeros((3, 3)), "window": [0, 4]}, "window: expected whole pixels"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Prompt(**values)


@given(points=ANYTHING, labels=ANYTHING, box=ANYTHING, mask=ANYTHING, logits=ANYTHING, window=ANYTHING)
def test_anything_at_all_gives_a_prompt_or_a_prompt_error(**values: Any) -> None:
    try:
        prompt = Prompt(**values)
    except PromptError:
        return
    assert (
        prompt.points is not None
        or prompt.box is not None
        or prompt.mask is not None
        or prompt.logits is not None
    )


def test_prompts_must_fit_the_image() -> None:
    Prompt(points=[[0, 0], [40, 30]], labels=[1, 1], box=[-5, -5, 1, 1]).check_inside(30, 40)
    for prompt, message in (
        (Prompt(points=[[1, 1], [41, 3]], labels=[1, 1]), r"points: .*\(41, 3\)"),
        (Prompt(points=[[-0.5, 3]], labels=[1]), "points"),
        (Prompt(box=[40, 0, 50, 9]), "box: expected one that overlaps"),
        (Prompt(mask=np.ones((30, 41))), "mask: expected 30×40"),
        (Prompt(logits=np.ones((4, 4)), window=[0, 0, 40, 31]), "window: expected one inside"),
    ):
        with pytest.raises(PromptError, match=message):
            prompt.check_inside(30, 40)


def test_clicks_extend_and_boxes_replace() -> None:
    first = Prompt(points=[[1, 2]], labels=[1], box=[0, 0, 5, 5])
    both = first.extended(Prompt(points=[[3, 4]], labels=[0]))
    assert both.points.tolist() == [[1, 2], [3, 4]]
    assert both.labels.tolist() == [1, 0]
    assert both.box.tolist() == [0, 0, 5, 5]
    assert first.extended(Prompt(box=[1, 1, 2, 2])).box.tolist() == [1, 1, 2, 2]
    with pytest.raises(PromptError, match="cannot be extended"):
        Prompt(mask=[[1]]).extended(first)


def test_a_negative_click_alone_says_nothing_positive() -> None:
    assert not Prompt(points=[[1, 2]], labels=[0]).has_positive
    assert Prompt(points=[[1, 2], [3, 3]], labels=[0, 1]).has_positive
    assert Prompt(points=[[1, 2]], labels=[0], logits=np.zeros((4, 4))).has_positive


def test_a_prompt_refines_a_result_where_that_was_seen() -> None:
    window = Window(3, 4, 20, 21)
    result = MaskResult(np.ones((8, 8), np.float32), (30, 40), 0.5, 1.0, window=window)
    click = Prompt(points=[[5, 6]], labels=[0])
    refining = click.refining(result)
    assert refining.window == window
    assert refining.logits.tobytes() == result.logits.tobytes()
    assert refining.points.tolist() == [[5, 6]]
    assert refining.extended(click).window == window, "logits and window stay together"
    anew = Prompt(logits=np.zeros((8, 8)))
    assert refining.extended(anew).window is None
    assert anew.extended(refining).window == window
