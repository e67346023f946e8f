from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edgetam_model.errors import InputError
from edgetam_model.masks import encode_rle, mask_iou, mask_to_polygons
from edgetam_model.timetable import TimeTable
from edgetam_model.training.annotations import (
    PERCENT,
    BoxShape,
    FrameNumbers,
    Given,
    MaskShape,
    PolygonShape,
)
from tests.training.annotation_tasks import SIZE, box, image_task, sighting, square, thing

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=23)).filter(np.any)


@given(masks)
def test_a_painted_mask_comes_back_bit_for_bit(mask: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(MaskShape.of(mask).mask(mask.shape), mask)


def test_a_painted_mask_fits_another_size_of_the_image() -> None:
    double = MaskShape.of(square()).mask((SIZE[0] * 2, SIZE[1] * 2))
    np.testing.assert_array_equal(double, np.kron(square(), np.ones((2, 2), bool)))


@given(masks)
def test_outlines_without_holes_come_back_bit_for_bit(mask: NDArray[np.bool_]) -> None:
    parts = mask_to_polygons(mask)
    outlines = tuple(tuple((float(x), float(y)) for x, y in part.outline) for part in parts)
    filled = PolygonShape(outlines, mask.shape).mask(mask.shape)
    assert not (mask & ~filled).any()
    if not any(part.holes for part in parts):
        np.testing.assert_array_equal(filled, mask)


def test_percent_and_pixels_mean_the_same() -> None:
    corners = ((10.0, 25.0), (60.0, 25.0), (60.0, 75.0), (10.0, 75.0))
    pixels = tuple((x * SIZE[1] / 100, y * SIZE[0] / 100) for x, y in corners)
    in_percent, in_pixels = PolygonShape((corners,), PERCENT), PolygonShape((pixels,), SIZE)
    np.testing.assert_array_equal(in_percent.mask(SIZE), in_pixels.mask(SIZE))
    same = BoxShape(10, 25, 50, 50, PERCENT)
    np.testing.assert_array_equal(same.mask(SIZE), in_percent.mask(SIZE))


@given(st.floats(-720, 720), st.floats(5, 25), st.floats(5, 25))
def test_a_turned_rectangle_keeps_its_corner_and_its_area(turn: float, width: float, height: float) -> None:
    size = (120, 160)
    shape = BoxShape(80, 60, width, height, size, turn)
    corners = np.array(shape.corners(size))
    assert corners[0] == pytest.approx((80, 60))
    assert np.linalg.norm(corners[1] - corners[0]) == pytest.approx(width)
    assert np.linalg.norm(corners[3] - corners[0]) == pytest.approx(height)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    a = math.radians(turn)
    along = (x - 80) * math.cos(a) + (y - 60) * math.sin(a)
    down = -(x - 80) * math.sin(a) + (y - 60) * math.cos(a)
    near = 0.6  # of a pixel: the polygon's own quarter, both ways
    inside = (along > near) & (along < width - near) & (down > near) & (down < height - near)
    outside = (along < -near) | (along > width + near) | (down < -near) | (down > height + near)
    mask = shape.mask(size)
    assert mask[inside].all()
    assert not mask[outside].any()


def test_a_turn_happens_in_pixels() -> None:
    """A square of a wide image, given in percent, stays a square."""
    shape = BoxShape(50, 50, 10, 20, PERCENT, 45)  # 20×20 pixels of 100×200
    a, b, c, d = (np.array(corner) for corner in shape.corners((100, 200)))
    assert np.linalg.norm(b - a) == pytest.approx(20)
    assert np.linalg.norm(d - a) == pytest.approx(20)
    assert np.dot(b - a, d - a) == pytest.approx(0)
    assert np.linalg.norm(c - a) == pytest.approx(20 * math.sqrt(2))


def test_a_box_is_cut_to_the_image() -> None:
    assert BoxShape(-5, -5, 10, 10, SIZE).box(SIZE) == (0, 0, 5, 5)
    assert BoxShape(100, 5, 10, 10, SIZE).box(SIZE) is None
    assert not BoxShape(100, 5, 10, 10, SIZE).mask(SIZE).any()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: MaskShape.of(np.zeros((3, 3), np.bool_)), "mask"),
        (lambda: MaskShape((3, 3), "nonsense"), "counts"),
        (lambda: MaskShape((0, 3), encode_rle(square())["counts"]), "size"),
        (lambda: PolygonShape((), SIZE), "polygon"),
        (lambda: PolygonShape((((0, 0), (1, 1)),), SIZE), "polygon"),
        (lambda: PolygonShape((((0, 0), (1, 1), (math.nan, 0)),), SIZE), "polygon"),
        (lambda: PolygonShape((((0, 0), (1, 1), (2e6, 0)),), SIZE), "polygon"),
        (lambda: PolygonShape((((0, 0), (1, 1), (2, 0)),), (0, 5)), "size"),
        (lambda: BoxShape(0, 0, 0, 5, SIZE), "rectangle"),
        (lambda: BoxShape(0, math.inf, 5, 5, SIZE), "rectangle"),
        (lambda: BoxShape(0, 0, 5, 5, (math.nan, 5)), "size"),
    ],
)
def test_what_is_no_shape_is_refused(make: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.field == field


def test_given_prompts_come_in_pixels() -> None:
    told = Given(((25, 50), (101, 50)), (1, 0), PERCENT, BoxShape(10, 10, 50, 50, PERCENT))
    prompt = told.prompt((100, 200))
    assert prompt is not None
    assert prompt.points.tolist() == [[50, 50], [200, 50]]
    assert prompt.labels.tolist() == [1, 0]
    assert prompt.box.tolist() == [20, 10, 120, 60]
    assert Given(box=BoxShape(200, 0, 10, 10, PERCENT)).prompt((100, 200)) is None


def test_a_persons_word_counts_most() -> None:
    human, model, between = (sighting(0, origin).weight for origin in ("human", "model", "interpolated"))
    assert 1 == human > model > between > 0


def test_what_is_known_of_an_object() -> None:
    each = thing(sighting(3), sighting(5), absent=(range(6, 9),))
    assert each.known_among(range(12)) == (3, 5, 6, 7, 8)
    assert each.known_among([1, 3, 7, 9]) == (3, 7)
    assert each.sighting_on(5) == sighting(5)
    assert each.sighting_on(6) is None


def test_numbers_mean_frames_or_times() -> None:
    table = TimeTable.constant(10, 25)
    assert [FrameNumbers().frame(n, table) for n in (-1, 0, 9, 10)] == [None, 0, 9, None]
    doubled = FrameNumbers(Fraction(50), Fraction(2, 1000))
    assert [doubled.frame(n, table) for n in range(6)] == [0, 0, 1, 1, 2, 2]


def test_the_digest_tells_what_was_drawn_not_where_the_file_lies() -> None:
    task = image_task("1")
    assert replace(task, media="other.png?signature=1", annotations=("9",)).digest == task.digest
    for other in (
        replace(task, objects=(thing(sighting(shape=box())),)),
        replace(task, objects=(replace(thing(), labels=("dog",)),)),
        replace(task, objects=(thing(sighting(origin="model")),)),
        replace(task, kind="video"),
    ):
        assert other.digest != task.digest
    assert mask_iou(task.objects[0].sightings[0].shape.mask(SIZE), square()) == 1
