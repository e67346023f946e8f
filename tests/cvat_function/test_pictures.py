from __future__ import annotations

import base64
import struct
import warnings
import zlib
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cvat_function.pictures import FORMATS, decode_picture, read_picture
from edgetam_model import InputError, MediaLimits
from tests.cvat_function.nuclio_fixtures import base64_of, file_of, picture

LIMITS = MediaLimits(max_pixels=1_000_000, max_bytes=1_000_000)


def gigapixel_png() -> bytes:
    """A valid header that claims 50,000 × 50,000 pixels, and a few bytes of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def test_a_frame_comes_out_as_it_went_in() -> None:
    np.testing.assert_array_equal(decode_picture(base64_of(picture()), LIMITS), picture())


def test_a_data_url_is_taken_too() -> None:
    text = "data:image/png;base64," + base64_of(picture())
    np.testing.assert_array_equal(decode_picture(text, LIMITS), picture())


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_named_is_read(name: str) -> None:
    pixels = np.full((32, 48, 3), (200, 100, 50), np.uint8)
    read = read_picture(file_of(pixels, name), LIMITS)
    assert read.shape == (32, 48, 3)
    assert np.abs(read.astype(int) - pixels).max() <= 40  # GIF's palette, JPEG's loss


def test_what_would_start_other_programs_is_not_read() -> None:
    with pytest.raises(InputError, match="known format"):
        read_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", LIMITS)


def test_phones_with_several_pictures_in_a_file() -> None:
    first, second = Image.fromarray(picture()), Image.fromarray(picture(seed=1))
    file = BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second], quality=95)
    assert read_picture(file.getvalue(), LIMITS).shape == (40, 64, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    name = "PNG" if mode in ("1", "L", "P") else "TIFF"
    expected = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(read_picture(file_of(image, name), LIMITS), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_and_shows_the_colours_below(mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    image.putalpha(0)
    expected = np.array(Image.fromarray(picture()).convert(mode[:-1]).convert("RGB"))
    np.testing.assert_array_equal(read_picture(file_of(image), LIMITS), expected)


def test_sixteen_bits_are_stretched_and_equalised() -> None:
    """Pillow's own conversion clips them to white: 2 of 2,560 values would be left."""
    grey = (np.arange(2560, dtype=np.uint16) * 7 + 3000).reshape(40, 64)
    read = read_picture(file_of(Image.fromarray(grey)), LIMITS)
    low, high = int(grey.min()), int(grey.max())
    stretched = ((grey - low) * (255 / (high - low))).astype(np.uint8)
    expected = np.array(ImageOps.equalize(Image.fromarray(stretched)))
    np.testing.assert_array_equal(read, np.repeat(expected[..., None], 3, axis=2))
    assert len(np.unique(read)) > 200


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_deeper_samples_are_stretched_too(kind: Any) -> None:
    grey = (np.arange(2560).reshape(40, 64) * 1000 - 7).astype(kind)
    read = read_picture(file_of(Image.fromarray(grey), "TIFF"), LIMITS)
    assert read.min() == 0
    assert read.max() == 255


def test_flat_and_broken_samples_are_black() -> None:
    for value in (5.0, np.nan, np.inf):
        flat = np.full((40, 64), value, np.float32)
        assert not read_picture(file_of(Image.fromarray(flat), "TIFF"), LIMITS).any()


def test_the_exif_note_turns_the_picture() -> None:
    exif = Image.Exif()
    exif[274] = 6
    turned = read_picture(file_of(picture(), exif=exif), LIMITS)
    np.testing.assert_array_equal(turned, np.rot90(picture(), k=3))


@pytest.mark.parametrize(
    "text", [None, "", 7, [], {}, b"aGk=", "@@@@", "aGk", "ÄÖÜß", "data:image/png;base64,"]
)
def test_what_is_no_base64_is_refused(text: object) -> None:
    with pytest.raises(InputError) as caught:
        decode_picture(text, LIMITS)
    assert caught.value.field == "image"


@pytest.mark.parametrize("foreign", ["@", "\n", " ", "-", "ä"])
def test_letters_that_are_no_base64_are_not_skipped(foreign: str) -> None:
    text = base64_of(picture())
    with pytest.raises(InputError, match="base64"):
        decode_picture(f"{text[:40]}{foreign}{text[40:]}", LIMITS)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # says what is then refused
@pytest.mark.parametrize("keep", [0, 1, 8, 33, 60, 200, 1000])
@pytest.mark.parametrize("name", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_what_is_cut_off_is_refused(name: str, keep: int) -> None:
    with pytest.raises(InputError) as caught:
        read_picture(file_of(picture(200, 200), name)[:keep], LIMITS)
    assert caught.value.field == "image"


def test_a_gigapixel_header_is_refused_before_it_is_decoded() -> None:
    for limits in (LIMITS, MediaLimits()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(InputError, match="pixels"):
                read_picture(gigapixel_png(), limits)


def test_pixels_and_bytes_are_limited() -> None:
    with pytest.raises(InputError, match="limit of 2,559"):
        decode_picture(base64_of(picture()), MediaLimits(max_pixels=2559))
    with pytest.raises(InputError, match="bytes"):
        decode_picture(base64_of(picture()), MediaLimits(max_bytes=1000))
    assert decode_picture(base64_of(picture()), MediaLimits(max_pixels=2560)).shape == (40, 64, 3)


SEEDS = [file_of(picture(), name) for name in FORMATS]


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12))
def test_damaged_files_are_refused_or_read(data: bytes, edits: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for place, value in edits:
        damaged[place % len(damaged)] = value
    with suppress(InputError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_picture(bytes(damaged), LIMITS).dtype == np.uint8


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    with suppress(InputError):
        decode_picture(base64.b64encode(data).decode(), LIMITS)
