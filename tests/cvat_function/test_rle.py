from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import cvat_sdk.masks
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cvat_function.rle import EMPTY, decode_mask, encode_mask
from edgetam_model import InputError

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=23))


def block() -> NDArray[np.bool_]:
    mask = np.zeros((40, 60), np.bool_)
    mask[10:13, 20:24] = True
    return mask


def test_the_known_block() -> None:
    assert encode_mask(block()) == [0, 12, 20, 10, 23, 12]
    np.testing.assert_array_equal(decode_mask([0, 12, 20, 10, 23, 12], 60, 40), block())


@unhurried
@given(masks)
def test_the_numbers_are_those_of_cvats_own_encoder(mask: NDArray[np.bool_]) -> None:
    points = encode_mask(mask)
    assert points == cvat_sdk.masks.encode_mask(mask)
    assert all(type(number) is int for number in points)


@unhurried
@given(masks, st.booleans())
def test_round_trip(mask: NDArray[np.bool_], as_floats: bool) -> None:
    height, width = mask.shape
    points: Sequence[float] = [float(n) for n in encode_mask(mask)] if as_floats else encode_mask(mask)
    np.testing.assert_array_equal(decode_mask(points, width, height), mask)


@unhurried
@given(st.lists(st.integers(-2, 12) | st.sampled_from([0.0, 1.5, 3.0, -1.0]), max_size=12), st.data())
def test_accepts_and_refuses_as_cvats_own_decoder(points: list[float], data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    expected = None
    with suppress(ValueError):
        expected = cvat_sdk.masks.decode_mask(points, image_width=width, image_height=height)
    if expected is None:
        with pytest.raises(InputError, match="points"):
            decode_mask(points, width, height)
    else:
        np.testing.assert_array_equal(decode_mask(points, width, height), expected)


def test_masks_that_nearly_fit_are_decoded_by_both() -> None:
    """The property above hardly ever finds lengths that fill a box: these do."""
    for points in ([1, 2, 1, 0, 0, 1, 1], [4, 1, 1, 2, 2], [0, 1, 5, 5, 5, 5], [0, 0, 0, 2, 0, 0, 0, 1]):
        expected = cvat_sdk.masks.decode_mask(points, image_width=6, image_height=6)
        np.testing.assert_array_equal(decode_mask(points, 6, 6), expected)


def test_an_empty_mask_is_one_pixel_that_is_off() -> None:
    assert tuple(encode_mask(np.zeros((5, 7), np.bool_))) == EMPTY
    assert not decode_mask(EMPTY, 7, 5).any()


@pytest.mark.parametrize(
    ("points", "problem"),
    [
        ([], "run lengths and four corners"),
        ([0, 0, 1, 1], "run lengths and four corners"),
        ([0, 3, 0, 0, 1, 1], "add up to 4"),
        ([1e9, 3, 0, 0, 1, 1], "0 to 4"),
        ([-1, 5, 0, 0, 1, 1], "0 to 4"),
        ([0.5, 3.5, 0, 0, 1, 1], "whole numbers"),
        ([float("nan"), 4, 0, 0, 1, 1], "whole numbers"),
        ([0, 4, 5, 5, 6, 6], "inside the image"),
        ([0, 1, 6, 0, 6, 0], "inside the image"),
        ([0, 1, 0, 6, 0, 6], "inside the image"),
        ([0, 4, 0, -1, 1, 0], "inside the image"),
        ([0, 4, 1, 1, 0, 0], "inside the image"),
        ([0, 4, -1, 0, 0, 1], "inside the image"),
        ([0, 10**400, 0, 0, 1, 1], "whole numbers"),
        (["0", "4", "0", "0", "1", "1"], "whole numbers"),
        ([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]], "whole numbers"),
    ],
)
def test_what_is_wrong_is_said(points: list[Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        decode_mask(points, 6, 6)


@pytest.mark.parametrize(
    "mask", [np.zeros((3, 4), np.uint8), np.zeros(4, np.bool_), np.zeros((0, 4), np.bool_)]
)
def test_only_masks_are_encoded(mask: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="mask"):
        encode_mask(mask)
