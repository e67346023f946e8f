"""Label Studio's numbers to the file's frames and back, against the formula that was measured."""

from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.frame_map import FrameMap, frame_rate
from edgetam_model import InputError, VideoInfo, open_source
from edgetam_model.timetable import TimeTable
from tests.test_video import CASES, Case
from tests.video_fixtures import Recipe, read_number, write_video

NTSC = Fraction(30000, 1001)
RATES = [Fraction(24), Fraction(25), NTSC, Fraction("23.976"), Fraction(1), Fraction("12.5"), Fraction(60)]


@st.composite
def maps(draw: st.DrawFn) -> FrameMap:
    """Irregular times in milliseconds, from any start, with sound that may begin earlier and end later."""
    gaps = draw(st.lists(st.integers(1, 400), min_size=1, max_size=30))
    start = draw(st.integers(-500, 5000))
    pts = np.cumsum([start, *gaps])
    origin = Fraction(start - draw(st.integers(0, 300)), 1000)
    table = TimeTable(pts[:-1], int(pts[-1]), Fraction(1, 1000), origin)
    return FrameMap(table, draw(st.sampled_from(RATES)), draw(st.integers(1, 60)))


def shown(frames: FrameMap, number: int) -> int:
    """By the measured formula: the last frame that has begun at (N - 1) / rate + 0.002 s of the player."""
    clock = (number - 1) / frames.rate + Fraction(2, 1000) + frames.table.origin
    # 1 µs: what the table allows to a time that falls short of a frame
    begun = [
        i for i, pts in enumerate(frames.table.pts) if Fraction(int(pts), 1000) <= clock + Fraction(1, 10**6)
    ]
    return begun[-1] if begun else 0


@given(maps())
def test_source_of_is_the_measured_formula(frames: FrameMap) -> None:
    for number in range(1, frames.count + 1):
        assert frames.source_of(number) == shown(frames, number)


@given(maps())
def test_numbers_of_is_the_exact_inverse(frames: FrameMap) -> None:
    owners: dict[int, list[int]] = {}
    for number in range(1, frames.count + 1):
        owners.setdefault(shown(frames, number), []).append(number)
    for source in range(len(frames.table)):
        assert list(frames.numbers_of(source)) == owners.get(source, [])


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60, NTSC, Fraction(24000, 1001), Fraction(60000, 1001)])
def test_at_the_files_own_rate_number_n_is_frame_n_minus_1(fps: Fraction) -> None:
    frames = FrameMap(TimeTable.constant(2000, fps), Fraction(fps), 2000)
    assert all(frames.source_of(n) == n - 1 for n in range(1, 2001))
    assert all(frames.numbers_of(n) == range(n + 1, n + 2) for n in range(0, 2000, 37))


def test_a_constant_rate_video_at_another_rate() -> None:
    """The platform page's formula for constant rates: floor(((N - 1) / R + 0.002) × fps)."""
    frames = FrameMap(TimeTable.constant(300, 30), Fraction(25), 250)
    assert [frames.source_of(n) for n in range(1, 251)] == [
        floor((Fraction(n - 1, 25) + Fraction(2, 1000)) * 30) for n in range(1, 251)
    ]
    assert list(frames.numbers_of(5)) == []  # 30 frames a second through 25 windows: every sixth is not seen


def test_a_real_file_of_uneven_times_and_b_frames(tmp_path: Path) -> None:
    """The number painted on the frame that is read is the one that the formula asks for."""
    ticks = [0, 1, 2, 5, 6, 7, 15, 16, 18, 19, 25, 26, 27, 28, 35, 36]  # of 25 ms
    path = write_video(tmp_path / "uneven.mp4", Recipe(ticks, Fraction(1, 40), b_frames=2))
    with open_source(path) as source:
        frames = FrameMap.of_video(source.info, Fraction(24), 22)
        for number in range(1, 23):
            clock = Fraction(number - 1, 24) + Fraction(2, 1000)
            expected = max(i for i, tick in enumerate(ticks) if Fraction(tick, 40) <= clock)
            assert read_number(source.read(frames.source_of(number))) == expected


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_file_through_label_studios_formula(name: str, tmp_path: Path) -> None:
    """What is painted on the frame of each number is what was written to be shown at the formula's time."""
    case = CASES[name]
    path = write_video(tmp_path / f"{name}.{case.suffix}", case.recipe)
    if case.patch is not None:
        case.patch(path)
    with open_source(path) as source:
        painted = {i: read_number(frame) for i, frame in source.frames(0, len(source) - 1)}
        for rate in (Fraction(24), Fraction(25), NTSC):
            frames = FrameMap.of_video(source.info, rate)
            asked = [n for n in range(1, frames.count + 1) if not _at_a_border(case, frames, n)]
            assert len(asked) > frames.count / 2
            for number in asked:
                expected = case.numbers[_shown_of(case, _clock(frames, number))]
                assert painted[frames.source_of(number)] == expected, (rate, number)


def _clock(frames: FrameMap, number: int) -> Fraction:
    return (number - 1) / frames.rate + Fraction(2, 1000) + frames.table.origin


def _shown_of(case: Case, clock: Fraction) -> int:
    """The place of the last frame that has begun, by the times that the file was written with."""
    begun = [i for i, time in enumerate(case.times) if time <= clock]
    return begun[-1] if begun else 0


def _at_a_border(case: Case, frames: FrameMap, number: int) -> bool:
    """Whether the container's rounding of times decides what is shown."""
    slack = Fraction(case.rounding).limit_denominator(10**6)
    clock = _clock(frames, number)
    return _shown_of(case, clock - slack) != _shown_of(case, clock + slack)


def test_numbers_that_do_not_exist_are_refused() -> None:
    frames = FrameMap(TimeTable.constant(10, 25), Fraction(25), 10)
    for number in (0, -1, 11):
        with pytest.raises(InputError, match="frame: expected 1 to 10"):
            frames.source_of(number)
    assert [frames.clamp(n) for n in (-5, 0, 1, 10, 11, 10**9)] == [1, 1, 1, 10, 10, 10]
    assert frames.time_of(5) == 0.2


def test_of_video_counts_as_label_studio_does() -> None:
    info = VideoInfo(640, 360, TimeTable.constant(290, 30), "h264", media_duration=9.664)
    assert FrameMap.of_video(info, Fraction(25)).count == 242
    assert FrameMap.of_video(info, Fraction(25), 240).count == 240
    assert FrameMap.of_video(info, Fraction(25), 10**9).count == 267  # (9.664 + 1) s × 25
    silent = VideoInfo(640, 360, TimeTable.constant(290, 30), "h264")
    assert FrameMap.of_video(silent, Fraction(30)).count == 290


@pytest.mark.parametrize(
    ("attribute", "rate"),
    [
        (None, 24),
        ("", 24),
        ("25", 25),
        (" 29.97 ", Fraction("29.97")),
        ("0.04", 25),
        (".5", 2),
        ("$fps", 30),
        ("$slow", Fraction("12.5")),
    ],
)
def test_the_rate_comes_from_the_config_or_the_task(attribute: str | None, rate: Fraction) -> None:
    assert frame_rate(attribute, {"fps": 30, "slow": "12.5"}, frames_count=1, duration=1) == rate


@pytest.mark.parametrize("rate", RATES)
def test_the_rate_is_recovered_from_a_region(rate: Fraction) -> None:
    duration = 97.31
    count = floor(Fraction(duration) * rate + Fraction(1, 2))
    found = frame_rate("$missing", {}, frames_count=count, duration=duration)
    assert floor(Fraction(duration) * found + Fraction(1, 2)) == count
    if rate in {24, 25, NTSC, 60}:
        assert found == rate


@pytest.mark.parametrize("count", [None, 0, 10**9])
def test_a_region_that_knows_nothing_leaves_the_default(count: int | None) -> None:
    assert frame_rate("$fps", {"fps": ""}, frames_count=count, duration=1.0) == 24
    assert frame_rate("$fps", {}, frames_count=100, duration=float("inf")) == 24


@pytest.mark.parametrize("value", ["0", "-25", "fast", "1001", "1e9", "nan", "∞", "9" * 5000, "25 fps", "."])
def test_rates_that_make_no_sense_are_refused(value: str) -> None:
    with pytest.raises(InputError, match=r"^frameRate: expected"):
        frame_rate(value, {})
    with pytest.raises(InputError, match=r"^frameRate: expected"):
        frame_rate("$fps", {"fps": value})


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_a_task_may_hold_anything(value: object) -> None:
    try:
        rate = frame_rate("$fps", {"fps": value})
    except InputError:
        return
    assert 0 < rate <= 1000


def test_maps_that_make_no_sense_are_refused() -> None:
    table = TimeTable.constant(10, 25)
    for rate, count, field in (
        (Fraction(0), 5, "frameRate"),
        (Fraction(1001), 5, "frameRate"),
        (Fraction(5), 0, "framesCount"),
    ):
        with pytest.raises(InputError) as caught:
            FrameMap(table, rate, count)
        assert caught.value.field == field
