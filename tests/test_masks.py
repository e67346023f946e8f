from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco

from edgetam_model.errors import InputError
from edgetam_model.masks import (
    Mask,
    Polygon,
    compress_counts,
    decode_rle,
    decompress_counts,
    encode_rle,
    fill_holes,
    mask_box,
    mask_counts,
    mask_iou,
    mask_to_polygons,
    polygons_to_mask,
    remove_islands,
    rle_area,
    rle_box,
)

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=23))


def ellipse(
    height: int = 97, width: int = 131, centre: tuple[int, int] = (60, 40), axes: tuple[int, int] = (30, 20)
) -> Mask:
    canvas = np.zeros((height, width), np.uint8)
    cv2.ellipse(canvas, centre, axes, 25, 0, 360, 1, -1)
    return canvas.astype(bool)


# Run lengths


@given(masks)
def test_rle_is_byte_for_byte_that_of_pycocotools(mask: Mask) -> None:
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(mask)
    assert ours == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    assert rle_area(ours) == coco.area(theirs)


@given(masks)
def test_rle_round_trip_in_every_form(mask: Mask) -> None:
    rle = encode_rle(mask)
    listed = {"size": rle["size"], "counts": mask_counts(mask).tolist()}
    for form in (rle, {**rle, "counts": rle["counts"].encode()}, listed):
        back = decode_rle(form)
        assert back.dtype == np.bool_
        np.testing.assert_array_equal(back, mask)


@given(masks)
def test_boxes_agree_with_each_other_and_with_the_pixels(mask: Mask) -> None:
    box = mask_box(mask)
    assert rle_box(encode_rle(mask)) == box
    if box is None:
        assert not mask.any()
    else:
        x0, y0, x1, y1 = box
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert mask[y0, :].any()
        assert mask[y1 - 1, :].any()
        assert mask[:, x0].any()
        assert mask[:, x1 - 1].any()


def test_box_of_runs_with_empty_ones_between() -> None:
    assert rle_box({"size": [4, 5], "counts": [5, 0, 1, 1, 13]}) == (1, 2, 2, 3)
    assert rle_box({"size": [4, 5], "counts": [20, 0]}) is None


@given(st.lists(st.integers(0, 2**27), min_size=1, max_size=40))
def test_compressed_counts_round_trip(counts: list[Any]) -> None:
    array = np.array(counts, np.int64)
    np.testing.assert_array_equal(decompress_counts(compress_counts(array), 2**27), array)


def test_large_mask_equals_pycocotools() -> None:
    mask = ellipse(1080, 1920, (900, 500), (700, 400))
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(mask)["counts"].encode() == theirs["counts"]
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


@given(st.text(max_size=30), st.integers(1, 9), st.integers(1, 9))
def test_any_string_is_a_mask_or_an_input_error(text: str, height: int, width: int) -> None:
    try:
        mask = decode_rle({"size": [height, width], "counts": text})
    except InputError as error:
        assert error.field == "counts"  # noqa: PT017 - hypothesis finds both outcomes
    else:
        assert mask.shape == (height, width)


@given(st.lists(st.one_of(st.integers(), st.floats(), st.booleans(), st.none()), max_size=9))
def test_any_list_is_a_mask_or_an_input_error(counts: list[Any]) -> None:
    try:
        mask = decode_rle({"size": [3, 4], "counts": counts})
    except InputError as error:
        assert error.field == "counts"  # noqa: PT017
    else:
        assert mask.shape == (3, 4)


@pytest.mark.parametrize(
    ("rle", "field"),
    [
        ({"counts": "0"}, "size"),
        ({"size": [2], "counts": "4"}, "size"),
        ({"size": [2, 2.0], "counts": "4"}, "size"),
        ({"size": [2, True], "counts": "2"}, "size"),
        ({"size": [0, 2], "counts": ""}, "size"),
        ({"size": [-2, -2], "counts": "4"}, "size"),
        ({"size": [10**6, 10**6], "counts": "0"}, "size"),
        ({"size": [2, 2]}, "counts"),
        ({"size": [2, 2], "counts": ""}, "counts"),
        ({"size": [2, 2], "counts": "é"}, "counts"),
        ({"size": [2, 2], "counts": "4o"}, "counts"),
        ({"size": [2, 2], "counts": "5"}, "counts"),
        ({"size": [2, 2], "counts": "oooooooo0"}, "counts"),
        ({"size": [2, 2], "counts": "0" * 100}, "counts"),
        ({"size": [2, 2], "counts": [5, -1]}, "counts"),
        ({"size": [2, 2], "counts": [0] * 9}, "counts"),
        ({"size": [2, 2], "counts": [2**80]}, "counts"),
    ],
)
def test_a_wrong_rle_names_its_field(rle: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_rle(rle)
    assert caught.value.field == field


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (0, 4)])
def test_only_planes_are_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="mask"):
        encode_rle(np.zeros(shape, bool))


def test_masks_in_any_memory_layout_are_taken() -> None:
    mask = ellipse()
    assert encode_rle(mask.T) == encode_rle(np.ascontiguousarray(mask.T))


# Polygons


@given(masks)
def test_polygons_keep_every_pixel_at_tolerance_zero(mask: Mask) -> None:
    np.testing.assert_array_equal(polygons_to_mask(mask_to_polygons(mask), *mask.shape), mask)


def test_a_pixel_is_a_unit_square() -> None:
    mask = np.zeros((5, 7), bool)
    mask[2, 3] = True
    (polygon,) = mask_to_polygons(mask)
    assert sorted(map(tuple, polygon.outline.tolist())) == [(3, 2), (3, 3), (4, 2), (4, 3)]


def test_holes_and_regions_are_kept_apart_largest_first() -> None:
    mask = np.zeros((40, 60), bool)
    mask[30:35, 2:7] = True
    mask[5:25, 20:50] = True
    mask[10:15, 30:36] = False
    large, small = mask_to_polygons(mask)
    assert cv2.contourArea(large.outline) == 600
    assert [hole.min(axis=0).tolist() for hole in large.holes] == [[30, 10]]
    assert cv2.contourArea(small.outline) == 25
    assert small.holes == ()


def test_tolerance_trades_points_for_fit() -> None:
    mask = ellipse()
    exact, loose = mask_to_polygons(mask), mask_to_polygons(mask, 1.0)
    assert len(loose[0].outline) < len(exact[0].outline) / 3
    fit = mask_iou(polygons_to_mask(loose, *mask.shape), mask)
    assert 0.95 < fit < 1


def test_a_region_is_never_lost_to_the_tolerance() -> None:
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    assert polygons_to_mask(mask_to_polygons(mask, 5.0), 9, 9)[4, 4]


@pytest.mark.parametrize("outline", [[[0, 0], [1, 1]], [0, 1, 2], [[0, 0], [4, 0], [0, np.nan]]])
def test_outlines_are_checked(outline: list[Any]) -> None:
    with pytest.raises(InputError, match="polygon"):
        polygons_to_mask([Polygon(np.array(outline, np.float32))], 8, 8)


def test_polygons_may_reach_outside() -> None:
    huge = Polygon(np.array([[-1e9, -1e9], [1e9, -1e9], [1e9, 1e9], [-1e9, 1e9]], np.float32))
    assert polygons_to_mask([huge], 8, 11).all()


# Small regions and overlap


def logits_of(mask: Mask) -> NDArray[np.float32]:
    return np.where(mask, 5, -5).astype(np.float32)


def test_holes_up_to_the_area_are_filled_and_larger_ones_stay() -> None:
    mask = np.ones((32, 32), bool)
    mask[3:5, 3:7] = False  # 8 pixels
    mask[20:23, 10:13] = False  # 9 pixels
    logits = logits_of(mask)
    filled = fill_holes(logits, 8)
    assert (filled[3:5, 3:7] == np.float32(0.1)).all()
    assert (filled[20:23, 10:13] == -5).all()
    assert np.array_equal(filled[mask], logits[mask])
    assert logits[3, 3] == -5, "the input was written to"


def test_regions_that_touch_at_a_corner_are_one() -> None:
    mask = np.ones((16, 16), bool)
    mask[2, 2:7] = False
    mask[3, 7:11] = False  # 5 + 4 pixels over a corner
    assert fill_holes(logits_of(mask), 8)[2, 2] == -5
    assert fill_holes(logits_of(mask), 9)[2, 2] > 0


def test_islands_go_but_the_largest_region_stays() -> None:
    mask = np.zeros((32, 32), bool)
    mask[2, 2:6] = True
    mask[20:22, 20:23] = True
    cleaned = remove_islands(logits_of(mask), 50)
    assert (cleaned[2, 2:6] == np.float32(-0.1)).all()
    assert (cleaned[20:22, 20:23] == 5).all()
    assert (remove_islands(logits_of(mask), 3) > 0).sum() == mask.sum()


@given(
    hnp.arrays(np.float32, (12, 12), elements=st.sampled_from([-2.0, 0.0, 3.0]).map(float)), st.integers(0, 9)
)
def test_small_regions_against_a_flood_fill(logits: NDArray[np.float32], area: int) -> None:
    filled = np.where(flooded_small(logits <= 0, area), np.float32(0.1), logits)
    np.testing.assert_array_equal(fill_holes(logits, area), filled)
    cleaned = remove_islands(logits, area)
    changed = cleaned != logits
    assert not changed[~flooded_small(logits > 0, area)].any()
    assert (cleaned > 0).any() == (logits > 0).any()


def flooded_small(mask: Mask, area: int) -> Mask:
    """Pixels of 8-connected regions of at most `area`, by plain flood fill."""
    small, seen = np.zeros_like(mask), np.zeros_like(mask)
    for start in zip(*np.nonzero(mask), strict=True):
        region, queue = [], [start]
        while queue:
            y, x = queue.pop()
            inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
            if not inside or seen[y, x] or not mask[y, x]:
                continue
            seen[y, x] = True
            region.append((y, x))
            queue += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        if len(region) <= area:
            for y, x in region:
                small[y, x] = True
    return small


def test_area_zero_changes_nothing() -> None:
    logits = logits_of(ellipse())
    assert fill_holes(logits, 0) is logits
    assert remove_islands(logits, 0) is logits


def test_iou() -> None:
    a, b = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    assert mask_iou(a, b) == 1
    a[:, :4] = True
    assert mask_iou(a, b) == 0
    b[:, 2:] = True
    assert mask_iou(a, b) == pytest.approx(8 / 24)
    with pytest.raises(InputError):
        mask_iou(a, b[:3])
