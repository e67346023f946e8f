"""Images come out as people see them, and folders in the order people expect."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edgetam_model.errors import MediaError
from edgetam_model.images import natural_key, read_image
from edgetam_model.video import MediaLimits, open_source


def scene(height: int = 7, width: int = 11) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {"lossless": True})],
)
def test_lossless_formats_keep_every_pixel(kind: str, options: dict[str, object]) -> None:
    rgb = read_image(encoded(Image.fromarray(scene()), kind, **options))
    np.testing.assert_array_equal(rgb, scene())
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous


# What a viewer must do for each EXIF orientation (EXIF 2.32, tag 0x0112), as stored → upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(scene()), exif=exif)
    np.testing.assert_array_equal(read_image(data), UPRIGHT[orientation](scene()))


def test_transparency_lies_over_white() -> None:
    alpha = np.array([[0, 128, 255]], np.uint8)
    red = np.dstack([np.full_like(alpha, 200), np.zeros_like(alpha), np.zeros_like(alpha), alpha])
    expected = [[255, 255, 255], [227, 127, 127], [200, 0, 0]]
    assert np.abs(read_image(encoded(Image.fromarray(red)))[0].astype(int) - expected).max() <= 1
    grey = np.dstack([np.full_like(alpha, 10), alpha])
    assert read_image(encoded(Image.fromarray(grey, "LA")))[0, :, 0].tolist() == [255, 132, 10]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert read_image(encoded(palette, transparency=0))[0].tolist() == [[255, 255, 255], [0, 0, 255]]
    assert read_image(encoded(palette))[0].tolist() == [[255, 0, 0], [0, 0, 255]]


def test_other_sample_formats() -> None:
    deep = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        assert read_image(encoded(Image.fromarray(deep), kind))[0, :, 1].tolist() == [0, 0, 1, 128, 255]
    ink = Image.fromarray(np.array([[[0, 0, 0, 0], [255, 255, 0, 0], [0, 0, 0, 255]]], np.uint8), "CMYK")
    assert read_image(encoded(ink, "TIFF"))[0].tolist() == [[255, 255, 255], [0, 0, 255], [0, 0, 0]]
    one_bit = Image.fromarray(np.array([[True, False]]))
    assert read_image(encoded(one_bit))[0].tolist() == [[255] * 3, [0] * 3]
    with pytest.raises(MediaError, match="floating-point"):
        read_image(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))
    with pytest.raises(MediaError, match="more than 16 bits"):
        read_image(encoded(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"))


def test_limits_and_damage(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(scene(40, 60)), "JPEG")
    refused: list[tuple[bytes | Path, MediaLimits | None, str]] = [
        (data, MediaLimits(max_pixels=2399), "60×40 pixels are more than the limit of 2,399"),
        (data, MediaLimits(max_bytes=100), "bytes are more than the limit of 100"),
        (data[: len(data) // 2], None, "damaged or cut off"),
        (b"", None, "empty"),
        (b"words", None, "not an image of a known format"),
        (tmp_path / "missing.png", None, "cannot read missing.png"),
    ]
    for source, limits, problem in refused:
        with pytest.raises(MediaError, match=problem) as caught:
            read_image(source, limits)
        assert caught.value.field == "image"


KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"]
SAMPLES = {kind: encoded(Image.fromarray(scene(9, 8)), kind) for kind in KINDS}


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    hits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=6
    ),
    keep=st.floats(0, 1),
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*:RuntimeWarning")  # Pillow's remarks on damage
def test_damaged_images_are_refused_or_read(kind: str, hits: list[tuple[float, bytes]], keep: float) -> None:
    data = bytearray(SAMPLES[kind])
    for place, noise in hits:
        start = int(place * len(data))
        data[start : start + len(noise)] = noise
    try:
        rgb = read_image(bytes(data[: int(len(data) * keep)]), MediaLimits(max_pixels=1_000_000))
    except MediaError:
        return
    assert rgb.ndim == 3
    assert rgb.dtype == np.uint8


def test_one_image_is_a_source_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "picture.dat"
    path.write_bytes(encoded(Image.fromarray(scene())))
    with open_source(path) as source:
        assert len(source) == 1
        np.testing.assert_array_equal(source.read(0), scene())


def folder_of(tmp_path: Path, names: dict[str, NDArray[np.uint8]]) -> Path:
    for name, pixels in names.items():
        (tmp_path / name).write_bytes(encoded(Image.fromarray(pixels)))
    return tmp_path


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    order = ["1.png", "2.png", "010.png", "A3.PNG", "a20.png"]
    folder = folder_of(tmp_path, {name: np.full((4, 6, 3), k, np.uint8) for k, name in enumerate(order)})
    folder_of(tmp_path, {".hidden.png": scene()})
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "sub.png").mkdir()
    with open_source(folder) as source:
        assert (len(source), source.info.width, source.info.height, source.info.codec) == (5, 6, 4, "images")
        assert [int(frame[0, 0, 0]) for _, frame in source.frames(0, 4)] == [0, 1, 2, 3, 4]
        assert [int(frame[0, 0, 0]) for _, frame in source.frames(4, 0, reverse=True)] == [4, 3, 2, 1, 0]
    with pytest.raises(MediaError, match="more frames than the limit of 4"):
        open_source(folder, MediaLimits(max_frames=4))


def test_images_of_another_size_are_scaled_and_unreadable_ones_end_the_iteration(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"1.png": scene(), "2.png": scene(14, 22), "4.png": scene()})
    (tmp_path / "3.png").write_bytes(encoded(Image.fromarray(scene()))[:60])
    with open_source(folder) as source:
        assert [(i, frame.shape) for i, frame in source.frames(0, 3)] == [(0, (7, 11, 3)), (1, (7, 11, 3))]
        assert source.warnings[0] == "2.png: scaled to 11×7 pixels like frame 0"
        assert source.warnings[1].startswith("3.png: damaged or cut off")
        assert source.warnings[2] == "frame 2 of 4 cannot be decoded"
        with pytest.raises(MediaError, match="frame 2 of 4"):
            source.read(2)
        np.testing.assert_array_equal(source.read(3), scene())


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no images"):
        open_source(tmp_path)


@given(st.integers(0, 10**30), st.integers(0, 10**30), st.text(max_size=4))
def test_numbers_in_names_count_as_numbers(low: int, high: int, rest: str) -> None:
    low, high = sorted((low, high))
    assert natural_key(f"{rest}_{low}.png") <= natural_key(f"{rest}_{high}.png")
    assert natural_key(f"{rest}_{low}.png") < natural_key(f"{rest}_{high + 1}.png")
