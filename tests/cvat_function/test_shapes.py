from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cvat_function.rle import encode_mask
from cvat_function.shapes import (
    TYPES,
    Shape,
    ordered_box,
    parse_shape,
    shape_mask,
    shape_of_mask,
    shape_prompt,
)
from edgetam_model import InputError
from edgetam_model.masks import mask_box, mask_iou

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=23))
pixels = st.floats(-50, 150) | st.integers(-50, 150)


def disc(height: int = 60, width: int = 80, radius: int = 20) -> NDArray[np.bool_]:
    y, x = np.mgrid[:height, :width]
    mask: NDArray[np.bool_] = (x - 40) ** 2 + (y - 30) ** 2 < radius**2
    return mask


def test_shapes_come_as_objects_and_from_older_servers_as_four_numbers() -> None:
    assert parse_shape({"type": "rectangle", "points": [1, 2, 3, 4]}, "shapes[0]") == Shape(
        "rectangle", (1.0, 2.0, 3.0, 4.0)
    )
    assert parse_shape([1, 2, 3, 4], "shapes[0]") == Shape("rectangle", (1.0, 2.0, 3.0, 4.0))
    assert (
        parse_shape({"type": "polygon", "points": [0, 0, 9, 0, 9, 9], "rotation": 0}, "s").type == "polygon"
    )


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (None, "s"),
        ("rectangle", "s"),
        (7, "s"),
        ({}, "s.type"),
        ({"type": "ellipse", "points": [1, 2, 3, 4]}, "s.type"),
        ({"type": ["mask"], "points": [1, 2, 3, 4]}, "s.type"),
        ({"type": "rectangle"}, "s.points"),
        ({"type": "rectangle", "points": {}}, "s.points"),
        ({"type": "rectangle", "points": [1, 2, 3]}, "s.points"),
        ({"type": "rectangle", "points": [1, 2, 3, "4"]}, "s.points"),
        ({"type": "rectangle", "points": [1, 2, 3, math.nan]}, "s.points"),
        ({"type": "rectangle", "points": [1, 2, 3, 4], "rotation": 30}, "s.rotation"),
        ({"type": "polygon", "points": [0, 0, 9, 9]}, "s.points"),
        ({"type": "polygon", "points": [0, 0, 9, 9, 4, 4, 1]}, "s.points"),
        ({"type": "mask", "points": [1, 0, 0, 0]}, "s.points"),
        ([1, 2, 3], "s.points"),
    ],
)
def test_what_is_no_shape_is_refused_by_name(raw: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_shape(raw, "s")
    assert caught.value.field == field


@given(masks, st.sampled_from(TYPES))
def test_shapes_of_masks_go_through_json_and_back(mask: NDArray[np.bool_], kind: str) -> None:
    shape = shape_of_mask(mask, kind)
    if shape is None:
        assert not mask.any()
        return
    again = parse_shape(json.loads(json.dumps(shape.to_json())), "s")
    assert again == shape
    assert shape.type == kind
    height, width = mask.shape
    if kind == "rectangle":
        box = mask_box(mask)
        assert ordered_box(again.points, width, height) == box
    elif kind == "mask":
        np.testing.assert_array_equal(shape_mask(again, width, height), mask)
    else:
        assert len(again.points) >= 6
        assert all(0 <= x <= width for x in again.points[0::2])
        assert all(0 <= y <= height for y in again.points[1::2])


def test_masks_are_written_in_integers_and_nothing_in_numpys_numbers() -> None:
    for kind, number in (("mask", int), ("rectangle", float), ("polygon", float)):
        shape = shape_of_mask(disc(), kind)
        assert shape is not None
        assert {type(n) for n in shape.to_json()["points"]} == {number}


def test_a_polygon_is_short_and_close_to_its_mask() -> None:
    shape = shape_of_mask(disc(), "polygon")
    assert shape is not None
    assert len(shape.points) < 60
    assert mask_iou(shape_mask(shape, 80, 60), disc()) > 0.95


def test_a_polygon_is_the_largest_region() -> None:
    mask = disc(radius=10)
    mask[:3, :3] = True
    shape = shape_of_mask(mask, "polygon")
    assert shape is not None
    assert min(shape.points[0::2]) >= 29


def test_other_types_are_not_drawn() -> None:
    with pytest.raises(InputError, match="cuboid"):
        shape_of_mask(disc(), "cuboid")


@given(st.tuples(pixels, pixels, pixels, pixels))
def test_a_rectangle_becomes_a_box_inside_the_image_or_is_refused(points: tuple[float, ...]) -> None:
    with suppress(InputError):
        prompt = shape_prompt(Shape("rectangle", points), 80, 60)
        x0, y0, x1, y1 = prompt.box.tolist()
        assert 0 <= x0 < x1 <= 80
        assert 0 <= y0 < y1 <= 60
        prompt.check_inside(60, 80)


def test_corners_come_in_any_order_and_are_drawn_into_the_image() -> None:
    for points in ((10, 5, 70, 50), (70, 50, 10, 5), (10, 50, 70, 5)):
        assert shape_prompt(Shape("rectangle", points), 80, 60).box.tolist() == [10, 5, 70, 50]
    assert shape_prompt(Shape("rectangle", (-9, 20, 200, 300)), 80, 60).box.tolist() == [0, 20, 80, 60]


@pytest.mark.parametrize(
    "corners", [(5, 5, 5, 30), (5, 5, 30, 5), (5, 5, 5.001, 30), (90, 5, 99, 30), (5, 70, 30, 99)]
)
def test_a_box_without_an_area_is_none(corners: tuple[float, ...]) -> None:
    assert ordered_box(corners, 80, 60) is None


@pytest.mark.parametrize(
    "shape",
    [
        Shape("rectangle", (5, 5, 5, 30)),
        Shape("rectangle", (90, 5, 99, 30)),
        Shape("polygon", (90, 90, 99, 90, 99, 99)),
        Shape("polygon", (5, 5, 5, 5, 5, 5)),
        Shape("polygon", (2e9, 2e9, -2e9, 2e9, 2e9, 2e9)),
        Shape("mask", (1, 0, 0, 0, 0)),
        Shape("mask", (0, 1, 79, 59, 80, 59)),
        Shape("mask", (0.5, 0.5, 1, 1, 1, 1)),
    ],
)
def test_what_shows_nothing_is_refused(shape: Shape) -> None:
    with pytest.raises(InputError):
        shape_prompt(shape, 80, 60)


def test_polygons_and_masks_become_masks() -> None:
    square = np.zeros((60, 80), np.bool_)
    square[10:20, 30:50] = True
    outline = (30.0, 10.0, 50.0, 10.0, 50.0, 20.0, 30.0, 20.0)
    np.testing.assert_array_equal(shape_prompt(Shape("polygon", outline), 80, 60).mask, square)
    points = tuple(float(n) for n in encode_mask(square))
    np.testing.assert_array_equal(shape_prompt(Shape("mask", points), 80, 60).mask, square)
