"""The frame table: times to frames and back, and a platform's own numbering."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.errors import InputError
from edgetam_model.timetable import TimeTable

NTSC = Fraction(30000, 1001)
BASES = [Fraction(1, 1000), Fraction(1, 12800), Fraction(1, 90000), Fraction(1, 25), Fraction(1001, 30000)]


@st.composite
def tables(draw: st.DrawFn) -> TimeTable:
    gaps = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=40))
    pts = np.cumsum([draw(st.integers(-10_000, 10**7)), *gaps])
    origin = draw(st.fractions(-2, 2, max_denominator=1000))
    return TimeTable(pts[:-1], int(pts[-1]), draw(st.sampled_from(BASES)), origin)


@given(tables())
def test_every_frame_is_found_at_its_own_time(table: TimeTable) -> None:
    assert [table.frame_at(table.time_of(i)) for i in range(len(table))] == list(range(len(table)))


@given(tables(), st.floats(0, 1))
def test_a_frame_stays_on_screen_until_the_next(table: TimeTable, share: float) -> None:
    ends = [*table.pts[1:], table.end]
    for i, (begin, end) in enumerate(zip(table.pts, ends, strict=True)):
        tick = begin + Fraction(share) * (end - 1 - begin)
        assert table.frame_at(float(tick * table.time_base)) == i


@given(tables(), st.floats(0.5, 240), st.floats(0, 0.01))
def test_numbers_at_rate_inverts_frame_at_rate(table: TimeTable, rate: float, shift: float) -> None:
    owner = {}
    for frame in range(len(table)):
        for number in table.numbers_at_rate(frame, rate, shift=shift)[:50]:
            assert table.frame_at_rate(number, rate, shift=shift) == frame
            assert number not in owner
            owner[number] = frame
    shown = table.frames_at_rate(50, rate, shift=shift)
    ended = [n for n in range(50) if n not in owner]
    assert all(shown[n] == len(table) - 1 for n in ended)


def test_times_outside_give_the_first_and_the_last_frame() -> None:
    table = TimeTable(np.array([500, 600, 700]), 800, Fraction(1, 1000))
    assert [table.frame_at(t) for t in (-1e30, 0, 0.4, 0.5, 0.69, 0.7, 5, 1e300)] == [0, 0, 0, 0, 1, 2, 2, 2]


def test_a_container_that_rounds_to_milliseconds_is_taken_literally() -> None:
    """Matroska writes 1/30, 2/30, 3/30 s as 33, 67, 100 ms; a player at 2/30 s still shows frame 1."""
    pts = np.array([round(1000 * i / 30) for i in range(300)])
    table = TimeTable(pts, 10000, Fraction(1, 1000), nominal_rate=Fraction(30))
    assert table.frames_at_rate(300, 30, shift=0.002).tolist() == list(range(300))
    assert table.frames_at_rate(4, 30).tolist() == [0, 1, 1, 3]
    assert not table.variable_rate
    assert table.rate == 30


def test_a_platform_at_another_rate_repeats_and_skips() -> None:
    table = TimeTable.constant(30, 30)
    assert table.frames_at_rate(5, 60).tolist() == [0, 0, 1, 1, 2]
    assert table.frames_at_rate(4, 15).tolist() == [0, 2, 4, 6]
    assert table.numbers_at_rate(1, 60) == range(2, 4)
    assert list(table.numbers_at_rate(1, 15)) == []


def test_label_studio_numbers_of_a_29_97_video_at_its_default_rate() -> None:
    """Label Studio shows its frame N by seeking to (N - 1) / rate + 0.002 s."""
    table = TimeTable.constant(289, NTSC)
    shown = table.frames_at_rate(231, 24, shift=0.002)
    assert shown.tolist() == [int((Fraction(n, 24) + Fraction(2, 1000)) * NTSC) for n in range(231)]


def test_a_platform_counts_from_where_the_earliest_stream_begins() -> None:
    pts = np.arange(10) * 40 + 1400
    together = TimeTable(pts, 1800, Fraction(1, 1000), origin=Fraction(14, 10))
    assert together.frame_at_rate(3, 25) == 3
    late = TimeTable(pts, 1800, Fraction(1, 1000), origin=Fraction(13, 10))  # sound begins 0.1 s earlier
    assert late.frames_at_rate(6, 25).tolist() == [0, 0, 0, 0, 1, 2]


def test_rates() -> None:
    assert TimeTable.constant(10, NTSC).rate == NTSC
    wrong = TimeTable(np.arange(10) * 40, 400, Fraction(1, 1000), nominal_rate=Fraction(50))
    assert wrong.rate == 25
    assert not wrong.variable_rate
    uneven = TimeTable(np.array([0, 40, 200, 240]), 280, Fraction(1, 1000), nominal_rate=Fraction(25))
    assert uneven.variable_rate
    assert float(uneven.rate) == pytest.approx(3 / 0.24)
    assert TimeTable(np.array([7]), 8, Fraction(1, 25)).rate == 25


def test_times_cannot_be_written_and_keep_the_offset() -> None:
    table = TimeTable(np.array([1001, 2002]), 3003, Fraction(1, 30000))
    assert table.times.tolist() == [1001 / 30000, 2002 / 30000]
    assert table.duration == pytest.approx(2002 / 30000)
    with pytest.raises(ValueError, match="read-only"):
        table.times[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        table.pts[0] = 1


def test_head_ends_where_the_next_frame_began() -> None:
    short = TimeTable(np.array([0, 40, 100]), 140, Fraction(1, 1000)).head(2)
    assert short.pts.tolist() == [0, 40]
    assert short.end == 100


@pytest.mark.parametrize(
    ("pts", "end", "field"), [([], 0, "pts"), ([3, 2], 9, "pts"), ([[1, 2]], 9, "pts"), ([1, 2], 1, "end")]
)
def test_tables_that_make_no_sense_are_refused(pts: list[int], end: int, field: str) -> None:
    with pytest.raises(InputError) as caught:
        TimeTable(np.array(pts), end, Fraction(1, 25))
    assert caught.value.field == field


def test_bad_questions_are_refused_by_name() -> None:
    table = TimeTable.constant(3, 25)
    questions: dict[str, Callable[[], object]] = {
        "frame": lambda: table.time_of(3),
        "seconds": lambda: table.frame_at(float("nan")),
        "rate": lambda: table.frame_at_rate(1, 0),
    }
    for field, ask in questions.items():
        with pytest.raises(InputError) as caught:
            ask()
        assert caught.value.field == field
    with pytest.raises(InputError, match="frame"):
        table.numbers_at_rate(-1, 25)
