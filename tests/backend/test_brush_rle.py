from collections.abc import Sequence
from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from backend.brush_rle import decode_brush, encode_brush
from edgetam_model.errors import InputError

# A busy machine is no bug: neither the time of one example nor of making it counts.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=23))

# Written by label-studio-sdk 2.1.2, `converter.brush.mask2rle` of 255 × the mask;
# tests/platforms/test_label_studio_sdk.py asks it for more.
DOT = [0, 0, 0, 8, 57, 27, 252, 96, 17, 255, 128]
RING = [0, 0, 0, 80, 57, 27, 254, 23, 0, 183, 255, 56, 4, 127, 241, 128, 71, 255, 56, 5, 191, 248, 192, 0]
FULL = [0, 1, 1, 248, 57, 27, 255, 255, 255, 255, 224, 62, 255, 224]
ALIGNED = [0, 0, 1, 24, 57, 27, 255, 1, 23, 255, 0]
# By its `encode_rle` of 9 8 7 0, 9 8 7 1, 1 1 1 1, 200 200 200 200, 200 200 0 0: alpha 0, 1, 1, 200, 0.
COLOURS = [0, 0, 0, 20, 57, 27, 248, 1, 32, 4, 0, 14, 0, 0, 1, 32, 4, 0, 15, 32, 12, 185, 16, 128, 0]


def ring() -> NDArray[np.bool_]:
    mask = np.zeros((4, 5), np.bool_)
    mask[1:, 1:4] = True
    mask[2, 2] = False
    return mask


@pytest.mark.parametrize(
    ("mask", "bytes_"),
    [
        (np.array([[False, True]]), DOT),
        (ring(), RING),
        (np.ones((130, 127), np.bool_), FULL),  # a run longer than one chunk's 65,536 values
        (np.ones((1, 70), np.bool_), ALIGNED),  # the bits fill their bytes: the SDK adds one all the same
    ],
)
def test_bytes_are_those_of_the_sdk(mask: NDArray[np.bool_], bytes_: list[int]) -> None:
    assert encode_brush(mask) == bytes_
    np.testing.assert_array_equal(decode_brush(bytes_, *mask.shape), mask)


def test_what_is_not_fully_transparent_is_the_object() -> None:
    assert decode_brush(COLOURS, 1, 5).tolist() == [[False, True, True, True, False]]


@unhurried
@given(masks)
def test_round_trip(mask: NDArray[np.bool_]) -> None:
    packed = encode_brush(mask)
    assert all(type(byte) is int and 0 <= byte <= 255 for byte in packed)
    np.testing.assert_array_equal(decode_brush(packed, *mask.shape), mask)


def pack(chunks: Sequence[tuple[bool, int, list[int]]], sizes: Sequence[int], word: int = 8) -> list[int]:
    """A stream as other writers may make it: (run?, which size, values) chunks in the order given."""
    count = sum(len(values) for _, _, values in chunks)
    bits = f"{count:032b}{word - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    for is_run, which, values in chunks:
        bits += f"{int(is_run)}{which:02b}{len(values) - 1:0{sizes[which]}b}"
        bits += "".join(f"{value:0{word}b}" for value in (values[:1] if is_run else values))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Chunks of a whole number of pixels in arbitrary sizes, and the values they stand for."""
    sizes = draw(st.lists(st.integers(4, 16), min_size=4, max_size=4))
    chunks = []
    for _ in range(draw(st.integers(1, 12))):
        length, which = 4 * draw(st.integers(1, 4)), draw(st.integers(0, 3))
        if draw(st.booleans()):
            chunks.append((True, which, [draw(st.integers(0, 255))] * length))
        else:
            chunks.append(
                (False, which, draw(st.lists(st.integers(0, 255), min_size=length, max_size=length)))
            )
    return pack(chunks, sizes), [value for _, _, values in chunks for value in values]


@unhurried
@given(streams())
def test_streams_of_other_writers(stream: tuple[list[int], list[int]]) -> None:
    packed, values = stream
    expected = np.array(values).reshape(-1, 4)[:, 3] > 0
    np.testing.assert_array_equal(decode_brush(packed, 1, expected.size)[0], expected)


@unhurried
@given(st.lists(st.integers(0, 255), max_size=40), st.booleans())
def test_junk_is_refused_or_has_the_size(junk: list[int], with_header: bool) -> None:
    data = [*encode_brush(np.zeros((3, 4), np.bool_))[:7], *junk] if with_header else junk
    with suppress(InputError):
        assert decode_brush(data, 3, 4).shape == (3, 4)


@pytest.mark.parametrize("rle", [[], [256], [-1], ["0"], [None], [0.5], "text", {}, None, [0] * 6])
def test_what_is_no_list_of_bytes_is_refused(rle: list[int]) -> None:
    with pytest.raises(InputError, match="rle"):
        decode_brush(rle, 1, 1)


@pytest.mark.parametrize("size", [(1, 3), (0, 2), (2**14, 2**14)])
def test_another_size_is_refused_before_anything_is_allocated(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="rle"):
        decode_brush(DOT, *size)


def test_wide_words_and_cut_off_streams_are_refused() -> None:
    with pytest.raises(InputError, match="8 bits"):
        decode_brush(pack([(True, 0, [1, 1, 1, 1])], (4, 4, 4, 4), word=16), 1, 1)
    with pytest.raises(InputError, match="make up"):
        decode_brush(RING[:-3], 4, 5)


@pytest.mark.parametrize("mask", [np.zeros((0, 3)), np.zeros(4), np.zeros((2, 2, 4))])
def test_only_masks_are_packed(mask: NDArray[np.float64]) -> None:
    with pytest.raises(InputError, match="mask"):
        encode_brush(mask.astype(np.bool_))


def test_4k_takes_little_memory_and_a_chunk_per_run() -> None:
    canvas = np.zeros((2160, 3840), np.uint8)
    cv2.ellipse(canvas, (1900, 1000), (900, 700), 20, 0, 360, 1, -1)
    mask = canvas.astype(bool)
    packed = encode_brush(mask)
    runs = 2 * int((mask.any(axis=1)).sum()) + 1  # one of the object and one of the rest in each of its rows
    assert len(packed) < 27 * (runs + mask.size * 4 // 65536) // 8 + 8
    np.testing.assert_array_equal(decode_brush(packed, *mask.shape), mask)
