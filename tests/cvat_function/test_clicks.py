from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvat_function.clicks import MAX_CLICKS, Clicks, parse_clicks
from edgetam_model import InputError, Prompt

coordinates = st.floats(-300, 300) | st.integers(-300, 300)
points = st.tuples(coordinates, coordinates)
boxes = st.tuples(coordinates, coordinates, coordinates, coordinates)
junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=2) | st.integers(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
)


def parse(pos: Any = None, neg: Any = None, box: Any = None) -> Clicks:
    return parse_clicks(pos, neg, box, max_boxes=8)


def clicks_of(prompt: Prompt) -> dict[int, list[list[float]]]:
    found: dict[int, list[list[float]]] = {0: [], 1: []}
    if prompt.points is not None:
        for point, label in zip(prompt.points.tolist(), prompt.labels.tolist(), strict=True):
            found[label].append(point)
    return found


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (None, 0),
        ([], 0),
        ([[380, 200], [520, 400]], 1),
        ([380, 200, 520, 400], 1),
        ([[1, 2], [3, 4], [5, 6], [7, 8]], 2),
        ([1, 2, 3, 4, 5, 6, 7, 8], 2),
    ],
)
def test_boxes_come_in_every_form_that_was_seen(raw: Any, count: int) -> None:
    found = parse(box=raw).boxes
    assert len(found) == count
    assert all(len(corners) == 4 for corners in found)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"pos": 7}, "pos_points"),
        ({"pos": "ab"}, "pos_points"),
        ({"pos": {}}, "pos_points"),
        ({"pos": [[1, 2, 3]]}, "pos_points[0]"),
        ({"pos": [[1, 2], [1]]}, "pos_points[1]"),
        ({"pos": [1, 2]}, "pos_points[0]"),
        ({"pos": [["1", "2"]]}, "pos_points[0]"),
        ({"pos": [[float("nan"), 2]]}, "pos_points[0]"),
        ({"pos": [[0, 0]] * (MAX_CLICKS + 1)}, "pos_points"),
        ({"neg": [[None, 2]]}, "neg_points[0]"),
        ({"box": 1}, "obj_bbox"),
        ({"box": [[1, 2]]}, "obj_bbox"),
        ({"box": [1, 2, 3]}, "obj_bbox"),
        ({"box": [[1, 2], 3]}, "obj_bbox[1]"),
        ({"box": [[1, 2], [3, True]]}, "obj_bbox[1]"),
        ({"box": [[0, 0], [1, 1]] * 9}, "obj_bbox"),
    ],
)
def test_what_is_wrong_is_named(request_: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(**request_)
    assert caught.value.field == field


@given(junk, junk, junk)
def test_parsing_refuses_and_never_breaks(pos: Any, neg: Any, box: Any) -> None:
    with suppress(InputError):
        parse(pos, neg, box)


@given(st.lists(points, max_size=4), st.lists(points, max_size=4), st.lists(boxes, max_size=3))
def test_prompts_fit_the_image(pos: list[Any], neg: list[Any], drawn: list[Any]) -> None:
    with suppress(InputError):
        prompts = Clicks(tuple(pos), tuple(neg), tuple(drawn)).prompts(100, 80)
        assert 1 <= len(prompts) <= len(drawn) + 1
        for prompt in prompts:
            assert prompt.has_positive
            prompt.check_inside(80, 100)


def test_clicks_of_a_part_of_the_image() -> None:
    clicks = Clicks(((30, 20),), ((12, 40),), ((10, 5, 50, 35),))
    assert clicks.moved(10, 5) == Clicks(((20, 15),), ((2, 35),), ((0, 0, 40, 30),))


def test_clicks_and_a_box_are_one_object() -> None:
    (prompt,) = parse([[5, 5], [200, 5]], [[6, 6]], [[30, 40], [10, 20]]).prompts(100, 80)
    assert clicks_of(prompt) == {1: [[5, 5]], 0: [[6, 6]]}
    assert prompt.box.tolist() == [10, 20, 30, 40]


def test_clicks_that_slip_off_the_edge_are_drawn_in_and_others_count_for_nothing() -> None:
    (prompt,) = parse([[-1.5, 40], [100, 80], [-30, 40]], [[50, 500]]).prompts(100, 80)
    assert clicks_of(prompt) == {1: [[0, 40], [99, 79]], 0: []}


def test_a_box_without_an_area_counts_for_nothing_beside_others() -> None:
    (prompt,) = parse([[5, 5]], None, [[10, 10], [10, 50]]).prompts(100, 80)
    assert prompt.box is None
    (prompt,) = parse(box=[[10, 10], [10, 50], [1, 1], [9, 9]]).prompts(100, 80)
    assert prompt.box.tolist() == [1, 1, 9, 9]


def test_of_several_boxes_each_takes_the_clicks_inside_it() -> None:
    drawn = [[0, 0], [20, 20], [15, 0], [60, 40]]
    first, second, free = parse([[5, 5], [90, 70], [18, 10]], [[50, 30], [80, 5], [50, 60]], drawn).prompts(
        100, 80
    )
    assert clicks_of(first) == {1: [[5, 5], [18, 10]], 0: []}
    assert clicks_of(second) == {1: [[18, 10]], 0: [[50, 30]]}
    assert clicks_of(free) == {1: [[90, 70]], 0: [[50, 30], [80, 5], [50, 60]]}
    assert free.box is None


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({}, "pos_points"),
        ({"neg": [[5, 5]]}, "pos_points"),
        ({"pos": [[500, 5]]}, "pos_points"),
        ({"box": [[5, 5], [5, 9]]}, "obj_bbox"),
        ({"box": [[105, 5], [120, 9]], "neg": [[5, 5]]}, "obj_bbox"),
    ],
)
def test_nothing_selected_is_said(request_: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(**request_).prompts(100, 80)
    assert caught.value.field == field
