"""Damaged, cut off and inconsistent videos: what is readable arrives, the rest is named, no index shifts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetam_model.errors import MediaError
from edgetam_model.video import open_source
from tests.video_fixtures import Recipe, constant, read_number, write_video


def long_file(folder: Path, suffix: str = "mp4", **options: Any) -> Path:
    pts, base = constant(100, 25)
    return write_video(folder / f"whole.{suffix}", replace(Recipe(pts, base), **options))


def damaged(path: Path, keep: float, tail: Callable[[int], bytes] = lambda _: b"") -> Path:
    data = path.read_bytes()
    kept = int(len(data) * keep)
    path.write_bytes(data[:kept] + tail(len(data) - kept))
    return path


FAST_START = {"movflags": "faststart"}


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", {"mux": FAST_START}),
        ("mp4", {"mux": FAST_START, "b_frames": 2}),
        ("mp4", {"mux": {"movflags": "frag_keyframe+empty_moov"}}),
        ("mkv", {}),
        ("avi", {"codec": "mpeg4"}),
        ("webm", {"codec": "libvpx"}),
    ],
)
def test_a_file_that_is_cut_off_gives_what_is_there(
    tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    with open_source(damaged(long_file(tmp_path, suffix, **options), 0.7)) as source:
        count = len(source)
        assert 20 < count < 95
        assert len(source.warnings) == 1
        assert "cut off" in source.warnings[0]
        forward = [(i, read_number(frame)) for i, frame in source.frames(0, count - 1)]
        backward = [(i, read_number(frame)) for i, frame in source.frames(count - 1, 0, reverse=True)]
    if "b_frames" not in options:  # the last frames of a cut file may lack those between them
        assert forward == [(i, i) for i in range(count)]
    assert [i for i, _ in forward] == list(range(count))
    assert backward == forward[::-1]


def test_a_tail_of_zeros_is_noticed_when_opening(tmp_path: Path) -> None:
    """What an unfinished download leaves: every packet is listed, the last ones are blank."""
    path = damaged(long_file(tmp_path, mux=FAST_START), 0.7, bytes)
    with open_source(path) as source:
        assert 20 < len(source) < 95
        assert "damaged" in source.warnings[0]
        assert [read_number(f) for _, f in source.frames(0, len(source) - 1)] == list(range(len(source)))


def test_a_tail_of_noise_ends_the_iteration_with_a_warning(tmp_path: Path) -> None:
    path = damaged(long_file(tmp_path, mux=FAST_START), 0.7, np.random.default_rng(0).bytes)
    with open_source(path) as source:
        assert len(source) == 100  # nothing but decoding can tell
        numbers = [(i, read_number(frame)) for i, frame in source.frames(0, 99)]
        assert 20 < len(numbers) < 95
        assert numbers == [(i, i) for i in range(len(numbers))]
        assert source.warnings[-1] == f"frame {len(numbers)} of 100 cannot be decoded"
        with pytest.raises(MediaError, match=r"frame 9\d of 100 cannot be decoded"):
            source.read(99)
        assert list(source.frames(99, 0, reverse=True)) == []
        assert read_number(source.read(3)) == 3


def test_a_hole_in_the_middle_shifts_no_index(tmp_path: Path) -> None:
    path = long_file(tmp_path, mux=FAST_START)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60] = bytes(60)
    path.write_bytes(data)
    with open_source(path) as source:
        last = len(source) - 1
        before = [(i, read_number(frame)) for i, frame in source.frames(0, last)]
        after = [(i, read_number(frame)) for i, frame in source.frames(last, 0, reverse=True)]
        warnings = source.warnings
    damaged = {int(w.split()[1]) for w in warnings if w.startswith("frame ") and "is damaged" in w}
    assert [i for i, number in before + after if i != number and i not in damaged] == []
    assert [i for i, _ in before] == list(range(len(before)))
    assert [i for i, _ in after] == list(range(last, last - len(after), -1))
    assert len(before) > 10
    assert len(after) > 10
    assert len(before) + len(after) < 100
    assert any("cannot be decoded" in w for w in warnings)
    assert len(damaged) < 12  # the rest of one stretch between keyframes


def test_frames_that_can_only_be_counted_end_at_the_first_damage(tmp_path: Path) -> None:
    """In an AVI with B-frames nothing tells which frame is missing, so none after it has a number."""
    path = long_file(tmp_path, "avi", b_frames=2)
    data = bytearray(path.read_bytes())
    place = int(len(data) * 0.7)
    data[place : place + 60] = np.random.default_rng(1).bytes(60)
    path.write_bytes(data)
    with open_source(path) as source:
        assert 5 < len(source) < 100
        assert len(source.warnings) == 1
        frames = [(i, read_number(frame)) for i, frame in source.frames(0, len(source) - 1)]
    assert frames == [(i, i) for i in range(len(frames))]


def test_a_size_that_changes_midway_is_scaled_to_the_first(tmp_path: Path) -> None:
    pts, base = constant(20, 25)
    small = write_video(tmp_path / "small.ts", Recipe(pts, base))
    later = Recipe(range(20, 40), base, numbers=range(20, 40), size=(320, 192))
    big = write_video(tmp_path / "big.ts", later)
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + big.read_bytes())
    with open_source(both) as source:
        frames = dict(source.frames(0, len(source) - 1))
        assert [read_number(frame) for frame in frames.values()] == list(range(40))
        assert {frame.shape for frame in frames.values()} == {(96, 160, 3)}
        assert [w for w in source.warnings if "change size" in w] == [
            "frames change size to 320×192; scaled to 160×96 like frame 0"
        ]


def test_a_clock_that_jumps_back_is_refused(tmp_path: Path) -> None:
    path = long_file(tmp_path, "ts")
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(MediaError, match="clock jumps back"):
        open_source(path)
