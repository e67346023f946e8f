"""Label Studio's frame numbers ↔ the frames of the video file, whatever their rates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, isfinite
from typing import TYPE_CHECKING, Any

from edgetam_model import InputError

if TYPE_CHECKING:
    from edgetam_model import VideoInfo
    from edgetam_model.timetable import TimeTable

# Label Studio shows its frame N by seeking the browser's player to (N - 1) / rate + 0.002 s.
SEEK_SHIFT = Fraction(2, 1000)
DEFAULT_RATE = Fraction(24)  # what Label Studio takes where a config names no rate
MAX_RATE = 1000  # frames per second; faster ones are a mistake, and would make numbers without end
EXPECTED_RATE = f"expected above 0 and at most {MAX_RATE} frames per second"
# Browsers and containers disagree on a video's length by less than this.
LENGTH_SLACK = 1  # seconds
# What a rate is likely to be where it can only be guessed from a rounded number of frames.
COMMON_RATES = tuple(
    Fraction(rate)
    for rate in ("24", "25", "30", "50", "60", "24000/1001", "30000/1001", "60000/1001", "15", "10", "120")
)


@dataclass(frozen=True, eq=False)
class FrameMap:
    """Which frame of the file Label Studio shows under each of its numbers.

    Several numbers may show one frame, and some frames are never shown.

    Attributes:
        table: presentation times of the file's frames, 0-based.
        rate: Label Studio's frames per second; it need not be the file's.
        count: Label Studio's number of frames; its numbers are 1 to `count`.

    Raises:
        InputError: a rate that is not positive or above 1000, or no frames.
    """

    table: TimeTable
    rate: Fraction
    count: int

    def __post_init__(self) -> None:
        if not 0 < self.rate <= MAX_RATE:
            raise InputError("frameRate", f"{EXPECTED_RATE}, got {self.rate}")
        if self.count < 1:
            raise InputError("framesCount", f"expected at least 1, got {self.count}")

    @classmethod
    def of_video(cls, info: VideoInfo, rate: Fraction, frames_count: int | None = None) -> FrameMap:
        """The map of a video that Label Studio plays at `rate`.

        Args:
            frames_count: Label Studio's own number of frames where a region tells it; it is believed
                up to the video's length and a second more. Without it, the length times the rate.

        Raises:
            InputError: as the class.
        """
        shown = (info.table.end * info.table.time_base) - info.table.origin
        length = max(shown, Fraction(info.media_duration or 0))
        own = max(1, floor(length * rate + Fraction(1, 2)))  # as JavaScript rounds
        most = max(1, ceil((length + LENGTH_SLACK) * rate))
        return cls(info.table, rate, own if frames_count is None else min(frames_count, most))

    def source_of(self, number: int) -> int:
        """The file's frame, 0-based, that Label Studio shows as its frame `number`.

        Raises:
            InputError: a number that is not 1 to `count`.
        """
        if not 1 <= number <= self.count:
            raise InputError("frame", f"expected 1 to {self.count}, got {number}")
        return self.table.frame_at_rate(number - 1, self.rate, shift=SEEK_SHIFT)

    def numbers_of(self, source: int) -> range:
        """Label Studio's numbers, 1 to `count`, that show the file's frame; empty where none does.

        Raises:
            InputError: no such frame.
        """
        shown = self.table.numbers_at_rate(source, self.rate, shift=SEEK_SHIFT)
        first = shown.start + 1
        # Sound that outlasts the picture makes Label Studio count on: the last frame stays on screen.
        after = self.count + 1 if source == len(self.table) - 1 else min(shown.stop + 1, self.count + 1)
        return range(first, max(first, after))

    def time_of(self, number: int) -> float:
        """The `time` that Label Studio itself writes beside a frame number: number / rate, in seconds."""
        return float(number / self.rate)

    def clamp(self, number: int) -> int:
        """The nearest number that exists."""
        return min(max(number, 1), self.count)


def frame_rate(
    attribute: str | None,
    data: Mapping[str, Any],
    *,
    frames_count: int | None = None,
    duration: float | None = None,
) -> Fraction:
    """The rate at which Label Studio numbers a task's frames.

    Args:
        attribute: the Video tag's frameRate as written: a number, `$name` of a task's field, or None
            where the tag has none. Below 1 it means 1/x, as in Label Studio.
        data: the task's data.
        frames_count, duration: what a region says about the video, used where `$name` leads nowhere.

    Raises:
        InputError: `frameRate`, where it is no positive number of at most 1000 frames per second.
    """
    text = (attribute or "").strip()
    if not text:
        return DEFAULT_RATE
    if not text.startswith("$"):
        return _rate(text)
    value = data.get(text[1:])
    if value is None or value == "":
        return _rate_of_region(frames_count, duration) or DEFAULT_RATE
    return _rate(value)


def _rate(value: object) -> Fraction:
    text = value.strip() if isinstance(value, str) else ""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_RATE:
        text = str(value)
    # At most 12 digits before the point: an absurd number must not become an absurd amount of work.
    number = re.fullmatch(r"([0-9]{0,12})(\.[0-9]{0,20})?", text)
    if not number or not text.strip("."):
        raise InputError("frameRate", f"expected frames per second as a number, got {text[:40]!r}")
    rate = Fraction(f"{number[1] or 0}{number[2] or ''}")
    if 0 < rate < 1:
        rate = 1 / rate
    if not 0 < rate <= MAX_RATE:
        raise InputError("frameRate", f"{EXPECTED_RATE}, got {text[:40]}")
    return rate


def _rate_of_region(frames_count: int | None, duration: float | None) -> Fraction | None:
    """The rate behind framesCount = round(duration × rate): a common one that fits, else the quotient."""
    if not frames_count or not duration or not isfinite(duration) or duration <= 0 or frames_count < 0:
        return None
    length = Fraction(duration)
    fitting = [rate for rate in COMMON_RATES if floor(length * rate + Fraction(1, 2)) == frames_count]
    rate = fitting[0] if fitting else frames_count / length
    return rate if rate <= MAX_RATE else None
