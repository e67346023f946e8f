from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.field.packed_media import Progress, fitted_size, pack_image, pack_video
from edgetam_model import MediaError, MediaLimits, OverlayWriter, open_source, read_image
from tests.backend.field.kits import HEIGHT, WIDTH, picture

LIMITS = MediaLimits()


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(64, 4096))
def test_sizes_fit_and_never_grow(height: int, width: int, most: int) -> None:
    for even in (False, True):
        size = fitted_size((height, width), most, even=even)
        assert max(size) <= max(most, 2)
        if max(height, width) <= most:
            assert size == (height, width)
        elif even:
            assert all(side % 2 == 0 for side in size)
    assert fitted_size((height, width), None) == (height, width)


def test_an_image_that_needs_no_change_goes_byte_for_byte(still: Path, tmp_path: Path) -> None:
    packed = pack_image(still, tmp_path, "media/a", None, LIMITS)
    assert (tmp_path / "media/a.png").read_bytes() == still.read_bytes()
    assert (packed.original, packed.size, packed.scale) == ((HEIGHT, WIDTH), (HEIGHT, WIDTH), (1.0, 1.0))


def test_photos_are_turned_upright_and_made_smaller(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    Image.fromarray(picture()).save(path, exif=exif)
    packed = pack_image(path, tmp_path, "media/a", 48, LIMITS)
    assert packed.original == (WIDTH, HEIGHT)
    assert packed.size == (48, 32)
    assert packed.scale == (0.5, 0.5)
    upright = read_image(tmp_path / packed.file.path)
    assert upright.shape == (48, 32, 3)
    with Image.open(tmp_path / packed.file.path) as image:
        assert 274 not in image.getexif()
    full = pack_image(path, tmp_path, "media/b", None, LIMITS)
    assert full.size == (WIDTH, HEIGHT)


def test_a_video_is_kept_unless_less_is_asked_for(clip: Path, tmp_path: Path) -> None:
    packed = pack_video(clip, tmp_path, "media/a", WIDTH, LIMITS)
    assert (tmp_path / "media/a.video").read_bytes() == clip.read_bytes()
    assert (packed.kind, packed.frames, packed.scale) == ("video", 6, (1.0, 1.0))


def test_a_smaller_video_has_the_same_frames_at_the_same_times(tmp_path: Path) -> None:
    times = np.cumsum([0.5, 0.04, 0.02, 0.1, 0.033, 0.04, 0.2])  # no constant rate
    with OverlayWriter(tmp_path / "vfr.mp4", 128, 96, 25) as video:
        for index, time in enumerate(times):
            video.write(np.full((96, 128, 3), 30 * index, np.uint8), float(time))
    packed = pack_video(tmp_path / "vfr.mp4", tmp_path, "media/a", 64, LIMITS)
    assert packed.size == (48, 64)
    with open_source(tmp_path / "vfr.mp4") as before, open_source(tmp_path / packed.file.path) as after:
        assert len(after) == len(before) == packed.frames == 7
        shift = after.info.times[0] - before.info.times[0]
        assert np.abs(after.info.times - before.info.times - shift).max() <= 1 / 60_000
        for index in range(7):
            assert abs(float(after.read(index).mean()) - 30 * index) < 8
        assert packed.facts is not None
        assert (packed.facts.info().times == before.info.times).all()


def test_frames_that_are_no_file_become_a_video_with_even_sides(tmp_path: Path) -> None:
    frames = [np.full((63, 95, 3), 40 * index, np.uint8) for index in range(4)]
    told: list[str] = []
    packed = pack_video(frames, tmp_path, "media/a", None, LIMITS, Progress(told.append, "task 1"))
    assert (packed.original, packed.size, packed.frames, packed.facts) == ((63, 95), (62, 94), 4, None)
    assert told == []  # it took no time
    with open_source(tmp_path / packed.file.path) as written:
        assert [round(float(written.read(index).mean()) / 40) for index in range(4)] == [0, 1, 2, 3]


def test_what_is_no_media_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"<html>")
    with pytest.raises(MediaError):
        pack_image(path, tmp_path, "media/a", None, LIMITS)
    with pytest.raises(MediaError):
        pack_video(path, tmp_path, "media/a", None, LIMITS)
