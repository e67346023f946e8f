import base64

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from backend.bitmask_png import PREFIX, decode_bitmask, encode_bitmask
from edgetam_model.errors import InputError

# A busy machine is no bug: neither the time of one example nor of making it counts.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=17))


def url(png: bytes) -> str:
    return PREFIX + base64.b64encode(png).decode()


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


@unhurried
@given(masks)
def test_round_trip(mask: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(decode_bitmask(encode_bitmask(mask)), mask)


def test_the_background_is_transparent_and_the_object_black() -> None:
    png = base64.b64decode(encode_bitmask(np.array([[True, False, False]])).removeprefix(PREFIX))
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    assert pixels.tolist() == [[[0, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 0]]]


def test_without_alpha_black_is_the_background() -> None:
    grey = np.array([[0, 3, 255]], np.uint8)
    assert decode_bitmask(url(png_of(grey))).tolist() == [[False, True, True]]
    colour = np.array([[[0, 0, 0], [0, 0, 9]]], np.uint8)
    assert decode_bitmask(url(png_of(colour))).tolist() == [[False, True]]


@unhurried
@given(st.binary(max_size=60), st.booleans())
def test_junk_is_refused(junk: bytes, with_header: bool) -> None:
    head = png_of(np.zeros((2, 2), np.uint8))[:40] if with_header else b""
    with pytest.raises(InputError, match="imageDataURL"):
        decode_bitmask(url(head + junk))


@pytest.mark.parametrize("text", ["", "data:image/png;base64,é", "data:image/jpeg;base64,AA==", PREFIX + "A"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="imageDataURL"):
        decode_bitmask(text)


def test_a_large_image_is_refused_by_its_header() -> None:
    with pytest.raises(InputError, match="expected 1 to 8 pixels"):
        decode_bitmask(encode_bitmask(np.ones((3, 3), np.bool_)), max_pixels=8)
