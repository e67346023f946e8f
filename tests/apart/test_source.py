"""Frames decoded apart are those decoded here, with the same facts, warnings and refusals."""

from __future__ import annotations

import sys
import time
from fractions import Fraction
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest
from PIL import Image

from edgetam_model.apart import decoder
from edgetam_model.apart.canvas import Canvas
from edgetam_model.apart.options import ApartOptions
from edgetam_model.apart.source import ApartSource
from edgetam_model.errors import InputError, MediaError
from edgetam_model.video import FrameSource, MediaLimits, open_source
from tests.test_decode import damaged, long_file
from tests.test_video import CASES
from tests.video_fixtures import Recipe, constant, read_number, write_video

OPTIONS = ApartOptions()
KINDS = (
    "constant_29_97_b_frames",
    "variable_rate_mkv",
    "equal_times_mkv",
    "start_offset_ts",
    "mirrored_rotated_90",
    "avi_without_presentation_times",
)


def write(folder: Path, name: str) -> Path:
    case = CASES[name]
    return write_video(folder / f"{name}.{case.suffix}", case.recipe)


def clip(path: Path, frames: int = 20) -> Path:
    pts, base = constant(frames, 25)
    return write_video(path, Recipe(pts, base, b_frames=2))


def got(source: FrameSource, index: int) -> object:
    """The frame, or what is said of it."""
    try:
        return source.read(index)
    except MediaError as error:
        return str(error)


def compare(apart: FrameSource, here: FrameSource) -> None:
    """Facts, and frames forward, backward and at random."""
    for name in (*("width", "height", "codec", "rotation", "mirrored", "has_b_frames"), "media_duration"):
        assert getattr(apart.info, name) == getattr(here.info, name)
    assert apart.table.pts.tolist() == here.table.pts.tolist()
    for name in ("end", "time_base", "origin", "nominal_rate"):
        assert getattr(apart.table, name) == getattr(here.table, name)
    last = len(here) - 1
    for start, stop in ((0, last), (last, 0)):
        walks = [source.frames(start, stop, reverse=stop < start) for source in (apart, here)]
        for (i, a), (j, b) in zip(*walks, strict=True):
            assert i == j
            np.testing.assert_array_equal(a, b)
    for index in np.random.default_rng(1).integers(0, len(here), 5).tolist():
        np.testing.assert_array_equal(got(apart, index), got(here, index))
    assert apart.warnings == here.warnings


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_those_decoded_here(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name)
    with open_source(path, apart=OPTIONS) as apart, open_source(path) as here:
        assert isinstance(apart, ApartSource)
        compare(apart, here)


def test_damage_is_told_as_here(tmp_path: Path) -> None:
    """A file that is cut off, and one with a hole: decoders fill in, give up, and warn."""
    cut, hole = long_file(tmp_path, "mkv"), long_file(tmp_path, "mp4")
    content = hole.read_bytes()
    at = len(content) * 2 // 5
    hole.write_bytes(content[:at] + bytes(300) + content[at + 300 :])
    for path in (damaged(cut, 0.7), hole):
        with open_source(path, apart=OPTIONS) as apart, open_source(path) as here:
            compare(apart, here)
            assert apart.warnings != ()


def test_without_common_memory_frames_come_with_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Canvas, "make", lambda: None)
    path = clip(tmp_path / "clip.mp4")
    with open_source(path, apart=OPTIONS) as apart, open_source(path) as here:
        compare(apart, here)


def test_images_and_folders_are_sources_too(tmp_path: Path) -> None:
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    for path in (tmp_path, tmp_path / "1.png"):
        with open_source(path, apart=OPTIONS) as apart, open_source(path) as here:
            compare(apart, here)


def test_walks_and_reads_may_cross(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4")
    with open_source(path, apart=OPTIONS) as source:
        up, down = source.frames(0, 9), source.frames(19, 10, reverse=True)
        for k in range(10):
            assert read_number(next(up)[1]) == k
            assert read_number(source.read(5)) == 5
            assert read_number(next(down)[1]) == 19 - k
        first = source.frames(0, 19, ahead=0)
        next(first)
        first.close()  # given up: the next question says so
        assert [i for i, _ in source.frames(3, 5)] == [3, 4, 5]


def test_refusals_are_those_of_here(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4")
    (tmp_path / "text.mp4").write_text("hello")
    for bad, limits in (
        (tmp_path / "text.mp4", MediaLimits()),
        (tmp_path / "none.mp4", MediaLimits()),
        (path, MediaLimits(max_frames=19)),
        (path, MediaLimits(max_pixels=100)),
        (path, MediaLimits(max_bytes=100)),
    ):
        told = []
        for apart in (None, OPTIONS):
            with pytest.raises(MediaError) as caught:
                open_source(bad, limits, apart)
            told.append(str(caught.value))
        assert told[0] == told[1]
    with open_source(path, apart=OPTIONS) as source, pytest.raises(InputError, match="0 to 19"):
        source.read(20)
    with pytest.raises(InputError, match="memory_bytes"):
        ApartOptions(memory_bytes=0)


def test_closing_ends_the_process_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it decodes and somebody waits for it; and nothing is left open."""
    monkeypatch.setattr(decoder, "PROGRAM", Path(__file__).with_name("broken.py"))
    before = psutil.Process().num_fds()
    source = open_source(clip(tmp_path / "spin.mp4"), apart=OPTIONS)
    assert isinstance(source, ApartSource)
    process = psutil.Process(source._decoder.pid)
    told: list[str] = []

    def wait() -> None:
        try:
            source.read(5)
        except MediaError as error:
            told.append(str(error))

    thread = Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    source.close()
    thread.join(20)
    assert not process.is_running()
    assert told == ["spin.mp4: the decoder is closed"]
    with pytest.raises(MediaError, match="is closed"):
        source.read(0)
    assert psutil.Process().num_fds() == before


def test_a_source_that_is_forgotten_ends_its_process(tmp_path: Path) -> None:
    source = open_source(clip(tmp_path / "clip.mp4"), apart=OPTIONS)
    assert isinstance(source, ApartSource)
    process = psutil.Process(source._decoder.pid)
    del source
    assert not process.is_running()


def test_the_decoder_loads_neither_torch_nor_the_face_of_the_product(tmp_path: Path) -> None:
    """So that it starts fast, and holds little."""
    with open_source(clip(tmp_path / "clip.mp4"), apart=OPTIONS) as source:
        assert isinstance(source, ApartSource)
        process = psutil.Process(source._decoder.pid)
        loaded = {map_.path for map_ in process.memory_maps()} if hasattr(process, "memory_maps") else set()
        assert not [path for path in loaded if "torch" in path or "pydantic" in path]
        assert set(process.environ()) <= {*decoder.ENVIRONMENT, *decoder.LOADER, "LC_CTYPE"}
        assert process.cwd() == "/"
        if sys.platform == "linux":
            assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "1000\n"


def test_rates_survive(tmp_path: Path) -> None:
    path = write(tmp_path, "constant_29_97_b_frames")
    with open_source(path, apart=OPTIONS) as source:
        assert source.table.rate == Fraction(30000, 1001)
