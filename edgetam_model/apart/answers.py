"""What a decoder says, held against what can be: it may have been taken over by the file that it read."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgetam_model.apart.wire import Message
from edgetam_model.sources import MediaLimits, VideoInfo
from edgetam_model.timetable import TimeTable

MOST = 1 << 62  # of a time: differences of two fit into 64 bits
Integer = Annotated[int, Field(ge=-MOST, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]
Text = Annotated[str, Field(max_length=300)]
Warnings = Annotated[list[Text], Field(max_length=10)]


class Said(BaseModel):
    """Root of what a decoder says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Refused(Said):
    """The file cannot be read: the field at fault, and why."""

    refused: tuple[Text, Text] = Field(strict=False)


class Exhausted(Said):
    """The memory was not enough."""

    exhausted: Literal[True]


class Nothing(Said):
    """Done."""


class HeldAnswer(Said):
    """Which fences hold: around files (landlock), around system calls (seccomp)."""

    files: bool
    calls: bool


class FrameAnswer(Said):
    """Whether the frame could be decoded, and what went wrong since the last answer."""

    there: bool
    warnings: Warnings


class ImageAnswer(Said):
    """The size of an image that was read."""

    width: Positive
    height: Positive


class Opened(Said):
    """Facts about a source; see `VideoInfo` and `TimeTable`. Fractions are two numbers."""

    width: Positive
    height: Positive
    codec: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
    rotation: Literal[0, 90, 180, 270]
    mirrored: bool
    has_b_frames: bool
    media_duration: Annotated[float, Field(ge=0, le=1e12)] | None
    warnings: Warnings
    end: Integer
    time_base: tuple[Positive, Positive] = Field(strict=False)
    origin: tuple[Integer, Positive] = Field(strict=False)
    nominal_rate: tuple[Positive, Positive] | None = Field(strict=False)

    def info(self, times: bytearray, limits: MediaLimits) -> VideoInfo:
        """The facts as the rest of the product has them.

        Args:
            times: the frames', int64.
            limits: that a decoder has kept to, if it is itself.

        Raises:
            MediaError: beyond the limits.
            ValueError: no table of times.
        """
        limits.check_size("source", self.width, self.height)
        if not times or len(times) % 8:
            raise ValueError(f"times in {len(times)} bytes")
        pts = np.frombuffer(times, np.int64)
        if abs(int(pts.min())) > MOST or abs(int(pts.max())) > MOST:
            raise ValueError("times beyond what is counted")
        rate = None if self.nominal_rate is None else Fraction(*self.nominal_rate)
        table = TimeTable(pts, self.end, Fraction(*self.time_base), Fraction(*self.origin), rate)
        return VideoInfo(
            width=self.width,
            height=self.height,
            table=table,
            codec=self.codec,
            rotation=self.rotation,
            mirrored=self.mirrored,
            has_b_frames=self.has_b_frames,
            media_duration=self.media_duration,
            warnings=tuple(plain(text) for text in self.warnings),
        )


AnyOf = TypeVar("AnyOf", bound=Said)


def read_answer(kind: type[AnyOf], message: Message) -> AnyOf | Refused | Exhausted:
    """A message as one of three answers.

    Raises:
        ValueError: none of them.
    """
    expected = Refused if "refused" in message else Exhausted if "exhausted" in message else kind
    try:
        return expected.model_validate(message)
    except ValidationError as error:
        raise ValueError(str(error)) from None


def plain(text: str) -> str:
    """A text that logs and pages may show: no control characters, no line ends."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
