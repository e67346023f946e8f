from math import nan

import numpy as np
import pytest

from backend.bitmask_png import encode_bitmask
from backend.brush_rle import encode_brush
from backend.image_shapes import (
    Bitmask,
    Brush,
    Click,
    Outline,
    Rectangle,
    checked,
    fitted,
    shape_class,
)
from edgetam_model.errors import InputError

SIZE = (200, 400)


def test_types_with_and_without_labels_draw_the_same() -> None:
    for kind, model in (
        ("keypoint", Click),
        ("rectangle", Rectangle),
        ("brush", Brush),
        ("bitmask", Bitmask),
        ("polygon", Outline),
    ):
        assert shape_class(kind) is shape_class(f"{kind}labels") is model
    assert shape_class("labels") is shape_class("videorectangle") is None


def test_percent_become_pixels() -> None:
    assert Click(x=25, y=75).pixel(SIZE) == (100, 150)
    assert Rectangle(x=25, y=50, width=50, height=10).box(SIZE) == (100, 100, 300, 120)


def test_a_click_may_slip_over_the_border_by_one_percent() -> None:
    assert Click(x=100.6, y=-0.6).pixel(SIZE) == (400, 0)
    with pytest.raises(InputError, match="points"):
        Click(x=101.5, y=50).pixel(SIZE)


def test_a_rectangle_is_turned_in_pixels_about_its_corner() -> None:
    # 100 × 20 pixels from (200, 100), turned by 90°: down from the corner, 20 wide to its left.
    box = Rectangle(x=50, y=50, width=25, height=10, rotation=90).box(SIZE)
    assert box == pytest.approx((180, 100, 200, 200))
    leaning = Rectangle(x=50, y=25, width=10, height=20, rotation=45).box(SIZE)
    side = 40 * 0.5**0.5
    assert leaning == pytest.approx((200 - side, 50, 200 + side, 50 + 2 * side))


def test_a_rectangle_is_cut_to_the_image() -> None:
    assert Rectangle(x=-10, y=-10, width=200, height=200).box(SIZE) == (0, 0, 400, 200)


def test_masks_drawn_at_another_size_fit_the_image() -> None:
    drawn = np.zeros((50, 100), np.bool_)
    drawn[10:30, 20:40] = True
    expected = np.zeros(SIZE, np.bool_)
    expected[40:120, 80:160] = True
    brush = Brush(rle=encode_brush(drawn))
    bitmask = Bitmask(imageDataURL=encode_bitmask(drawn))
    np.testing.assert_array_equal(brush.mask(SIZE, (50, 100)), expected)
    np.testing.assert_array_equal(bitmask.mask(SIZE, (50, 100)), expected)
    outline = Outline(points=((20, 20), (40, 20), (40, 60), (20, 60)))
    np.testing.assert_array_equal(outline.mask(SIZE, (50, 100)), expected)
    assert fitted(expected, SIZE) is expected


def test_a_bitmask_larger_than_the_image_and_the_browsers_is_refused() -> None:
    with pytest.raises(InputError, match="imageDataURL"):
        Bitmask(imageDataURL=encode_bitmask(np.ones((9, 9), np.bool_))).mask((4, 4), (8, 8))


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"y": 1}, "here.x"),
        ({"x": "left", "y": 1}, "here.x"),
        ({"x": nan, "y": 1}, "here.x"),
        ({"x": 1e300, "y": 1}, "here.x"),
        ({"x": None, "y": 1}, "here.x"),
        ([], "here"),
    ],
)
def test_the_field_at_fault_is_named_and_its_value_is_not_repeated(value: object, field: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(Click, value, "here")
    assert caught.value.field == field
    assert "left" not in str(caught.value)
