"""Every frame of every kind of file is the one that was written, from both directions and from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from edgetam_model import decode
from edgetam_model.errors import InputError, MediaError
from edgetam_model.video import FrameSource, MediaLimits, is_video, open_source
from tests.video_fixtures import (
    Recipe,
    constant,
    hide_vp8_frames,
    numbered_frame,
    read_number,
    replace_edit_list,
    write_video,
)

COUNT = 50
UNEVEN = [7, 40, 41, 200, 233, 266, 300, 301, 302, 900, *range(950, 2950, 50)]  # milliseconds


@dataclass(frozen=True)
class Case:
    """A file to write and what must come out of it.

    Attributes:
        numbers: what the frames' pixels say, in presentation order.
        times: seconds at which they appear; by default the recipe's.
        rounding: seconds by which the container rounds its times.
        patch: changes the file after writing.
    """

    suffix: str
    recipe: Recipe
    numbers: list[int]
    times: list[Fraction]
    rounding: float = 0.0
    patch: Callable[[Path], None] | None = None


def at(rate: Fraction | int, suffix: str = "mp4", *, start: Fraction | float = 0, **options: Any) -> Case:
    """A case of COUNT frames at a constant rate that begin at `start`."""
    pts, base = constant(COUNT, rate)
    recipe = replace(Recipe(pts, base, rate=Fraction(rate)), **options)
    times = [Fraction(start).limit_denominator(10**6) + p * base for p in pts]
    rounding = {"mkv": 0.0005, "webm": 0.0005}.get(suffix, 0.0)
    return Case(suffix, recipe, list(range(COUNT)), times, rounding)


def uneven(suffix: str, rounding: float = 0.0) -> Case:
    base = Fraction(1, 1000)
    return Case(
        suffix,
        Recipe(UNEVEN, base, b_frames=2),
        list(range(len(UNEVEN))),
        [p * base for p in UNEVEN],
        rounding,
    )


def edited(edits: tuple[tuple[int, int], ...], numbers: list[int], times: list[float]) -> Case:
    """25 frames per second: 512 media ticks and 40 movie ticks a frame, B-frames delayed by 1024 ticks."""
    case = at(25, b_frames=2, gop=24)
    exact = [Fraction(t).limit_denominator(10**6) for t in times]
    return replace(case, numbers=numbers, times=exact, patch=lambda path: replace_edit_list(path, edits))


def x264(**options: Any) -> dict[str, str]:
    return {"x264-params": ":".join(f"{key.replace('_', '-')}={value}" for key, value in options.items())}


VP9 = {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "8"}
AV1 = {"preset": "12", "svtav1-params": "lp=1:keyint=12"}
SHOWN = [k for k in range(COUNT) if k not in (5, 17)]
OPEN_GOP = x264(open_gop=1, keyint=12, bframes=3, b_adapt=0, scenecut=0)
REFRESH = x264(intra_refresh=1, keyint=12, bframes=0, scenecut=0)
HEVC = {"x265-params": "log-level=none:keyint=12:open-gop=1:pools=1:bframes=3", "preset": "ultrafast"}

CASES = {
    "constant_24": at(24),
    "constant_25_b_frames": at(25, b_frames=3),
    "constant_29_97_b_frames": at(Fraction(30000, 1001), b_frames=2),
    "constant_60": at(60, b_frames=3),
    "constant_23_976_mkv": at(Fraction(24000, 1001), "mkv", b_frames=2),
    "constant_30_mkv": at(30, "mkv", b_frames=2),
    "variable_rate": uneven("mp4"),
    "variable_rate_mkv": uneven("mkv", 0.0005),
    "equal_times_mkv": Case(  # 0.4 ms apart: the container rounds every pair to one time
        "mkv",
        Recipe([400 * (k // 2) + 4 * (k % 2) for k in range(COUNT)], Fraction(1, 10_000), gop=5),
        list(range(COUNT)),
        [Fraction(k // 2, 25) for k in range(COUNT)],
    ),
    "start_offset": replace(
        at(25, start=0.52, b_frames=2), recipe=Recipe(range(13, 13 + COUNT), Fraction(1, 25), b_frames=2)
    ),
    "start_offset_ts": at(25, "ts", start=0.08, b_frames=2),
    "fragmented": at(25, start=0.08, b_frames=2, mux={"movflags": "frag_keyframe+empty_moov"}),
    "edit_cuts_beginning": edited(((1000, 1024 + 7 * 512),), list(range(7, 32)), [k / 25 for k in range(25)]),
    "edit_delays_and_cuts": edited(
        ((500, -1), (1000, 1024 + 7 * 512)), list(range(7, 32)), [0.5 + k / 25 for k in range(25)]
    ),
    "edit_repeats": edited(
        ((400, 1024 + 5 * 512), (400, 1024 + 5 * 512)),
        [*range(5, 15), *range(5, 15)],
        [k / 25 for k in range(20)],
    ),
    "rotated_90": at(25, turn=1, b_frames=2),
    "rotated_180": at(25, turn=2, b_frames=2),
    "rotated_270": at(25, turn=3, b_frames=2),
    "mirrored": at(25, mirrored=True),
    "mirrored_rotated_90": at(25, turn=1, mirrored=True),
    "sound_longer": at(25, sound_seconds=4.0, b_frames=2),
    "vp8": at(25, "webm", codec="libvpx"),
    "vp8_hidden_frames": replace(
        at(25, "webm", codec="libvpx"),
        numbers=SHOWN,
        times=[Fraction(k, 25) for k in SHOWN],
        patch=lambda path: hide_vp8_frames(path, {5, 17}),
    ),
    "vp9": at(25, "webm", codec="libvpx-vp9", options=VP9),
    "av1": at(25, codec="libsvtav1", options=AV1),
    "mpeg2_open_gop_ts": at(25, "ts", start=0.04, codec="mpeg2video", b_frames=2),
    "avi": at(25, "avi", codec="mpeg4"),
    "avi_without_presentation_times": at(25, "avi", b_frames=2),
    "mpeg4_b_frames": at(25, codec="mpeg4", b_frames=2),
    "open_gop": at(25, options=OPEN_GOP),
    "open_gop_ts": at(25, "ts", start=0.08, options=OPEN_GOP),
    "open_gop_hevc_ts": at(25, "ts", start=0.08, codec="libx265", options=HEVC),
    "intra_refresh": at(25, options=REFRESH),
    "intra_refresh_ts": at(25, "ts", options=REFRESH),
    "motion_jpeg": at(25, "mov", codec="mjpeg", pixel_format="yuvj420p"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("videos")

    def write(name: str) -> Path:
        case = CASES[name]
        path = folder / f"{name}.{case.suffix}"
        if not path.exists():
            write_video(path, case.recipe)
            if case.patch is not None:
                case.patch(path)
        return path

    return write


@pytest.mark.parametrize("name", CASES)
def test_frames_and_times_are_those_written(name: str, written: Callable[[str], Path]) -> None:
    case = CASES[name]
    with open_source(written(name)) as source:
        count = len(source)
        forward = dict(source.frames(0, count - 1))
        backward = dict(source.frames(count - 1, 0, reverse=True))
        assert [read_number(frame) for frame in forward.values()] == case.numbers
        assert list(forward) == list(range(count))
        assert list(backward) == list(range(count))[::-1]
        for index in np.random.default_rng(3).permutation(count).tolist():
            np.testing.assert_array_equal(source.read(index), forward[index])
            np.testing.assert_array_equal(backward[index], forward[index])
        assert len(case.times) == count
        np.testing.assert_allclose(
            source.info.times, [float(t) for t in case.times], rtol=0, atol=case.rounding + 1e-9
        )
        assert source.warnings == ()


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"avi_without_presentation_times"}))
def test_the_table_equals_a_full_decode(name: str, written: Callable[[str], Path]) -> None:
    path = written(name)
    with av.open(str(path)) as whole, open_source(path) as source:
        decoded = [frame.pts for frame in whole.decode(video=0)]
        assert source.table.pts.tolist() == decoded
        assert source.table.time_base == whole.streams.video[0].time_base


@pytest.mark.parametrize("name", ["constant_25_b_frames", "open_gop_ts", "avi_without_presentation_times"])
def test_stretches_begin_and_end_where_asked(name: str, written: Callable[[str], Path]) -> None:
    with open_source(written(name)) as source:
        for start, stop in [(0, 0), (17, 31), (49, 49), (11, 12), (23, 49)]:
            up = [(i, read_number(frame)) for i, frame in source.frames(start, stop)]
            down = [(i, read_number(frame)) for i, frame in source.frames(stop, start, reverse=True, ahead=0)]
            assert up == [(i, i) for i in range(start, stop + 1)]
            assert down == up[::-1]


def test_going_backward_holds_no_more_than_a_chunk(
    written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One keyframe in 50 frames and room for 7: the stretch is decoded in pieces."""
    path = written("constant_25_b_frames").with_name("one_keyframe.mp4")
    write_video(path, replace(CASES["constant_25_b_frames"].recipe, gop=250))
    monkeypatch.setattr(decode, "REVERSE_BYTES", 7 * 160 * 96 * 3 // 2)
    with open_source(path) as source:
        numbers = [(i, read_number(frame)) for i, frame in source.frames(COUNT - 1, 0, reverse=True)]
    assert numbers == [(i, i) for i in range(COUNT)][::-1]


def test_facts(written: Callable[[str], Path]) -> None:
    with open_source(written("constant_29_97_b_frames")) as source:
        info = source.info
    assert (info.width, info.height, info.frames, info.codec) == (160, 96, COUNT, "h264")
    assert info.has_b_frames
    assert not info.variable_rate
    assert info.table.rate == Fraction(30000, 1001)
    assert info.duration == pytest.approx(COUNT * 1001 / 30000)
    assert (info.rotation, info.mirrored, info.start_time) == (0, False, 0.0)


def test_facts_of_odd_files(written: Callable[[str], Path]) -> None:
    infos = {
        name: open_source(written(name)).info
        for name in ("rotated_90", "rotated_270", "mirrored", "sound_longer", "variable_rate", "start_offset")
    }
    assert (infos["rotated_90"].width, infos["rotated_90"].height, infos["rotated_90"].rotation) == (
        160,
        96,
        90,
    )
    assert infos["rotated_270"].rotation == 270
    assert infos["mirrored"].mirrored
    assert infos["sound_longer"].duration == pytest.approx(2.0)
    assert infos["sound_longer"].media_duration == pytest.approx(4.0, abs=0.05)
    assert infos["variable_rate"].variable_rate
    assert infos["start_offset"].start_time == pytest.approx(0.52)
    assert infos["start_offset"].table.frame_at_rate(3, 25) == 3  # a player's clock begins with the video


@pytest.mark.parametrize("size", [(160, 96), (1280, 720)])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_survive(size: tuple[int, int], full_range: bool, tmp_path: Path) -> None:
    """Untagged HD is BT.709 and untagged smaller video BT.601; the range of the file is kept to."""
    width, height = size
    colours = [(220, 30, 30), (30, 220, 30), (30, 30, 220), (255, 255, 255)]
    bars = np.repeat(np.array(colours, np.uint8), width // 4, axis=0)
    pixels = np.broadcast_to(bars, (height, width, 3)).copy()
    frame = VideoReformatter().reformat(
        av.VideoFrame.from_ndarray(pixels, format="rgb24"),
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709 if height == 720 else Colorspace.ITU601,
        dst_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
    )
    frame.colorspace = 2  # not named
    with av.open(str(tmp_path / "bars.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "4", "preset": "ultrafast"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.color_range = 2 if full_range else 1
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with open_source(tmp_path / "bars.mp4") as source:
        read = source.read(0)[height // 2, width // 8 :: width // 4]
    assert np.abs(read.astype(int) - colours).max() <= 5


def test_memory_stays_level_over_two_thousand_frames(tmp_path: Path) -> None:
    pts, base = constant(2000, 25)
    recipe = Recipe(pts, base, size=(640, 360), gop=250, numbers=[k // 100 for k in pts])
    path = write_video(tmp_path / "long.mp4", recipe)
    process = psutil.Process()
    with open_source(path) as source:
        for index, frame in source.frames(0, 1999):
            if index == 300:
                settled = process.memory_info().rss
            assert index % 250 or read_number(frame) == index // 100
        assert process.memory_info().rss - settled < 12 * 1024**2


def test_opening_decodes_one_frame_only(
    written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    step = decode.Cursor._step

    def count(cursor: decode.Cursor) -> None:
        nonlocal steps
        steps += 1
        step(cursor)

    monkeypatch.setattr(decode.Cursor, "_step", count)
    with open_source(written("constant_60")) as source:
        assert steps == 1
        assert len(source) == COUNT


def test_is_video(tmp_path: Path, written: Callable[[str], Path]) -> None:
    disguised = tmp_path / "really_a_video.txt"
    disguised.write_bytes(written("constant_24").read_bytes())
    (tmp_path / "text.mp4").write_text("hello")
    assert is_video(disguised)
    assert not is_video(tmp_path / "text.mp4")
    assert not is_video(tmp_path)
    with open_source(disguised) as source:
        assert len(source) == COUNT


def test_limits(written: Callable[[str], Path]) -> None:
    path = written("constant_24")
    for limits, problem in [
        (MediaLimits(max_pixels=160 * 96 - 1), "160×96 pixels are more than the limit of 15,359"),
        (MediaLimits(max_frames=COUNT - 1), "more frames than the limit of 49"),
        (MediaLimits(max_bytes=1000), "bytes are more than the limit of 1,000"),
    ]:
        with pytest.raises(MediaError, match=problem):
            open_source(path, limits)
    with open_source(path, MediaLimits(160 * 96, COUNT, path.stat().st_size)) as source:
        assert len(source) == COUNT
    with pytest.raises(InputError, match="max_frames"):
        MediaLimits(max_frames=0)


def test_arrays_and_open_sources_are_sources() -> None:
    arrays = [numbered_frame(k) for k in range(5)]
    source: FrameSource
    with open_source(arrays) as source:
        assert open_source(source) is source
        assert [i for i, _ in source.frames(4, 1, reverse=True)] == [4, 3, 2, 1]
        assert read_number(source.read(3)) == 3
        assert source.info.times.tolist() == [k / 25 for k in range(5)]
    with open_source(np.stack(arrays)) as source:
        assert len(source) == 5


@pytest.mark.parametrize(
    ("arrays", "field"),
    [
        ([], "source"),
        ([np.zeros((4, 5), np.uint8)], "frames[0]"),
        ([np.zeros((4, 5, 3), np.float32)], "frames[0]"),
        ([np.zeros((4, 0, 3), np.uint8)], "frames[0]"),
    ],
)
def test_arrays_of_another_kind_are_refused(arrays: list[np.ndarray], field: str) -> None:
    with pytest.raises(MediaError) as caught:
        open_source(arrays)
    assert caught.value.field == field
