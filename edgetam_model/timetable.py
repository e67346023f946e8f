"""The exact table of a video's frames and the times at which a player shows them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError

# A time may lie this far before a frame and still show it (half a tick of the time base where that is
# less): it absorbs floats, times written with six decimals, and browsers' own clocks, all to 1 µs.
TIME_TOLERANCE = Fraction(1, 1_000_000)  # seconds


@dataclass(frozen=True, eq=False)
class TimeTable:
    """Presentation times of T frames, in presentation order, as integers of a time base.

    Two clocks meet here. The file's own clock is `pts × time_base`; `times`, `time_of` and
    `frame_at` use it. A player's clock reads 0 where the earliest stream of the file begins; the
    `…_at_rate` methods, which translate a platform's frame numbers, use that one.

    Attributes:
        pts: (T,) int64, ascending, read-only; frame i is on screen from pts[i] until pts[i + 1].
        end: where the last frame leaves the screen, in the same unit.
        time_base: seconds per unit.
        origin: the file's time, in seconds, at which a player's clock reads 0.
        nominal_rate: frames per second that the file declares, where it does.

    Raises:
        InputError: an empty or descending table.
    """

    pts: NDArray[np.int64]
    end: int
    time_base: Fraction
    origin: Fraction = Fraction(0)
    nominal_rate: Fraction | None = None

    def __post_init__(self) -> None:
        pts = np.array(self.pts, dtype=np.int64)
        if pts.ndim != 1 or not pts.size or (np.diff(pts) < 0).any():
            raise InputError("pts", "expected at least one time, in ascending order")
        if self.end < pts[-1] or self.time_base <= 0:
            raise InputError("end", "expected an end after the last frame and a positive time base")
        pts.setflags(write=False)
        object.__setattr__(self, "pts", pts)

    @classmethod
    def constant(cls, frames: int, rate: Fraction | int) -> TimeTable:
        """A table of `frames` frames at `rate` frames per second that begins at 0."""
        return cls(np.arange(frames), frames, 1 / Fraction(rate), nominal_rate=Fraction(rate))

    def head(self, frames: int) -> TimeTable:
        """The table of the first `frames` frames only.

        Raises:
            InputError: no frames.
        """
        end = int(self.pts[frames]) if frames < len(self) else self.end
        return replace(self, pts=self.pts[:frames], end=end)

    def __len__(self) -> int:
        return len(self.pts)

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """(T,) seconds on the file's clock, ascending, read-only."""
        base = self.time_base
        seconds = self.pts.astype(np.float64) * base.numerator / base.denominator
        seconds.setflags(write=False)
        return seconds

    @property
    def duration(self) -> float:
        """Seconds from the first frame's appearance to the last one's end."""
        return float((self.end - int(self.pts[0])) * self.time_base)

    @cached_property
    def rate(self) -> Fraction:
        """Frames per second: the declared rate where every frame keeps to it, else the average."""
        if self.nominal_rate and self._keeps(self.nominal_rate):
            return self.nominal_rate
        gaps = len(self) - 1
        span = (int(self.pts[-1]) - int(self.pts[0])) if gaps else self.end - int(self.pts[0])
        return max(gaps, 1) / (span * self.time_base) if span else self.nominal_rate or Fraction(25)

    @cached_property
    def variable_rate(self) -> bool:
        """Whether the frames keep to no constant rate (to within a tick of the time base)."""
        return not self._keeps(self.rate)

    def time_of(self, frame: int) -> float:
        """Seconds on the file's clock at which `frame` appears.

        Raises:
            InputError: no such frame.
        """
        if not 0 <= frame < len(self):
            raise InputError("frame", f"expected 0 to {len(self) - 1}, got {frame}")
        return float(self.times[frame])

    def frame_at(self, seconds: float | Fraction) -> int:
        """The frame on screen at a time of the file's clock.

        This is the last frame whose time is not after `seconds`; times before the first frame give
        frame 0, times after the end the last one. A time may fall short of a frame by
        TIME_TOLERANCE. As in a player there is no other rounding: where a container rounds its times
        (Matroska writes 2/30 s as 67 ms), 2/30 s is still frame 1; ask a little later, as platforms do.

        Raises:
            InputError: not a finite number.
        """
        if not np.isfinite(float(seconds)):
            raise InputError("seconds", f"expected a finite number, got {seconds}")
        tick = floor(Fraction(seconds) / self.time_base + self._slack)
        tick = min(max(tick, int(self.pts[0])), self.end)  # keeps an absurd time within 64 bits
        return int(np.searchsorted(self.pts, tick, side="right")) - 1

    def frame_at_rate(self, number: int, rate: float | Fraction, *, shift: float | Fraction = 0) -> int:
        """The frame that a platform shows as its 0-based frame `number` at its frame rate.

        Args:
            number: the platform's number, made 0-based.
            rate: the platform's frames per second, taken literally; it need not be the video's.
            shift: seconds that the platform adds when it seeks (Label Studio: 0.002).

        Raises:
            InputError: a rate that is not positive.
        """
        return self.frame_at(number / _checked_rate(rate) + Fraction(shift) + self.origin)

    def frames_at_rate(
        self, count: int, rate: float | Fraction, *, shift: float | Fraction = 0
    ) -> NDArray[np.int64]:
        """(count,) frames that a platform shows as its frames 0, 1, … count - 1; see `frame_at_rate`."""
        return np.array([self.frame_at_rate(n, rate, shift=shift) for n in range(count)], dtype=np.int64)

    def numbers_at_rate(self, frame: int, rate: float | Fraction, *, shift: float | Fraction = 0) -> range:
        """The 0-based numbers under which a platform shows `frame`: the inverse of `frame_at_rate`.

        Empty where the platform's rate passes the frame over; several where it shows it repeatedly.
        The last frame's numbers stop at the table's end, although a platform may count on.

        Raises:
            InputError: no such frame, or a rate that is not positive.
        """
        self.time_of(frame)  # refuses a frame that does not exist
        offset = Fraction(shift) + self.origin
        exact = _checked_rate(rate)

        def first_not_before(tick: int) -> int:
            return max(0, ceil(((tick - self._slack) * self.time_base - offset) * exact))

        first = first_not_before(int(self.pts[frame])) if frame else 0
        after = int(self.pts[frame + 1]) if frame + 1 < len(self) else self.end
        return range(first, max(first, first_not_before(after)))

    @property
    def _slack(self) -> Fraction:
        """Ticks by which a time may fall short of a frame."""
        return min(Fraction(1, 2), TIME_TOLERANCE / self.time_base)

    def _keeps(self, rate: Fraction) -> bool:
        """Whether every frame lies within a tick of where a constant rate puts it."""
        step = float(1 / (rate * self.time_base))
        ideal = int(self.pts[0]) + step * np.arange(len(self))
        return bool((np.abs(self.pts - ideal) <= 1.0 + 1e-6 * step).all())


def _checked_rate(rate: float | Fraction) -> Fraction:
    if not np.isfinite(float(rate)) or rate <= 0:
        raise InputError("rate", f"expected a positive number of frames per second, got {rate}")
    return Fraction(rate)
