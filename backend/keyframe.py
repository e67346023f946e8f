"""One keyframe of a Label Studio video region, and how a person's is told from our own.

Label Studio keeps extra keys of a keyframe, even when a person drags the box, and copies them into
keyframes that a person inserts before it. So every keyframe we write carries a checksum of its frame, box
and visibility: where it no longer fits, a person has been there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import cos, radians, sin
from typing import Annotated, Any, Self

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, ValidationError

MARK = "edgetam"  # the extra key that holds what we know about a keyframe
DECIMALS = 4  # of percent: 0.004 pixels of a 4K frame
# Far beyond any frame, near enough for arithmetic: nothing overflows on the way to pixels.
Percent = Annotated[float, AllowInfNan(False), Field(ge=-1e6, le=1e6)]
Number = Annotated[float, AllowInfNan(False), Field(ge=-1e9, le=1e9)]
FrameNumber = Annotated[int, Field(ge=-(10**9), le=10**9)]

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


class Mark(BaseModel):
    """What belongs to the frame `frame` with the checksum `sum`, both filled in as it is written.

    `hid`: that nothing is shown after it is our doing.
    """

    model_config = ConfigDict(frozen=True)

    sum: str = ""
    frame: FrameNumber = 0
    hid: bool = False


class TrackedMark(Mark):
    """Of a keyframe that the tracker made, from the person's keyframe `source` whose box was `anchor`."""

    score: Annotated[float, AllowInfNan(False), Field(ge=0, le=1)]
    job: str
    source: FrameNumber
    anchor: str


class Reach(BaseModel):
    """How far tracking from a person's keyframe got, one way: frames in Label Studio's numbers.

    `kept` counts the keyframes that it left; where they are all gone, it must be done again.
    """

    model_config = ConfigDict(frozen=True)

    goal: FrameNumber
    reach: FrameNumber
    kept: FrameNumber


class PromptMark(Mark):
    """Of a person's keyframe that was tracked from."""

    onward: Reach | None = None
    back: Reach | None = None


class _Incoming(BaseModel):
    """A keyframe as Label Studio sends it; whatever else it holds is kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    frame: Number
    x: Percent
    y: Percent
    width: Percent
    height: Percent
    rotation: Percent | None = None
    enabled: bool | None = None


@dataclass(frozen=True)
class Keyframe:
    """A box on one frame.

    Attributes:
        frame: Label Studio's number, 1-based.
        x, y, width, height: percent of the video's width and height; x, y is the top-left corner.
        rotation: degrees clockwise about that corner.
        enabled: False hides the region after this frame, until the next enabled keyframe; on this
            frame itself it is visible.
        mark: what we noted about it, where that still fits; a TrackedMark makes it ours.
        revised: whether we wrote it, and a person changed it since.
        extra: other keys, as they came.
    """

    frame: int
    x: float
    y: float
    width: float
    height: float
    rotation: float = 0.0
    enabled: bool = True
    mark: TrackedMark | PromptMark | None = None
    revised: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a keyframe; missing `rotation` means 0, missing `enabled` True.

        Who corrects a box after which we had hidden the region sees the object there: our hiding ends.

        Raises:
            pydantic.ValidationError: no keyframe; the caller knows its place.
        """
        incoming = _Incoming.model_validate(value)
        extra = dict(incoming.model_extra or {})
        mark = _read_mark(extra.pop(MARK, None))
        extra.pop("time", None)  # Label Studio computes it anew, and so do we
        keyframe = cls(
            frame=round(incoming.frame),
            x=incoming.x,
            y=incoming.y,
            width=incoming.width,
            height=incoming.height,
            rotation=incoming.rotation or 0.0,
            enabled=incoming.enabled is not False,
            extra=extra,
        )
        if mark and mark.sum == keyframe.checksum():
            return replace(keyframe, mark=mark)
        if mark is None or mark.frame != keyframe.frame:
            return keyframe
        return replace(keyframe, revised=True, enabled=keyframe.enabled or mark.hid)

    def to_json(self, time: float) -> dict[str, Any]:
        """The keyframe as Label Studio takes it, with the mark sealed by the checksum."""
        sealed = {"sum": self.checksum(), "frame": self.frame}
        mark = self.mark.model_copy(update=sealed) if self.mark else None
        return {
            **self.extra,
            "frame": self.frame,
            "enabled": self.enabled,
            "rotation": self.rotation,
            "x": self.x,
            "y": self.y,
            "width": self.width,
            "height": self.height,
            "time": time,
            **({MARK: mark.model_dump(exclude_defaults=True)} if mark else {}),
        }

    @property
    def tracked(self) -> bool:
        """Whether the tracker made it, and nobody changed it since."""
        return isinstance(self.mark, TrackedMark)

    @property
    def hidden_by_us(self) -> bool:
        """Whether nothing is shown after it, and that is our doing."""
        hid = isinstance(self.mark, PromptMark) and self.mark.hid
        return not self.enabled and (self.tracked or hid)

    @property
    def leads_on(self) -> bool:
        """Whether the person lets the region be seen after this frame."""
        return self.enabled or self.hidden_by_us

    def box_sum(self) -> str:
        """A checksum of the frame and the box alone."""
        return self._sum(())

    def checksum(self) -> str:
        """A checksum of all that a person can change."""
        return self._sum((self.enabled,))

    def _sum(self, more: tuple[bool, ...]) -> str:
        numbers = (self.x, self.y, self.width, self.height, self.rotation)
        rounded = [f"{round(number, DECIMALS) + 0.0:.{DECIMALS}f}" for number in numbers]  # + 0.0: no −0
        # 48 bits: an accident among a million keyframes has a chance of one in 3e8.
        return sha256(repr((self.frame, rounded, more)).encode()).hexdigest()[:12]

    def pixels(self, size: tuple[int, int]) -> Box | None:
        """The box around the possibly rotated rectangle, in pixels, cut to the video's frame.

        Args:
            size: (H, W) of the video in pixels.

        Returns:
            x0, y0, x1, y1; None where nothing of it lies in the frame.
        """
        height, width = size
        left, top = self.x * width / 100, self.y * height / 100
        w, h = self.width * width / 100, self.height * height / 100
        c, s = cos(radians(self.rotation)), sin(radians(self.rotation))
        xs = [left, left + w * c, left + w * c - h * s, left - h * s]
        ys = [top, top + w * s, top + w * s + h * c, top + h * c]
        x0, x1 = max(min(xs), 0.0), min(max(xs), float(width))
        y0, y1 = max(min(ys), 0.0), min(max(ys), float(height))
        drawn = self.width > 0 and self.height > 0
        return (x0, y0, x1, y1) if drawn and x1 > x0 and y1 > y0 else None


def _read_mark(value: object) -> TrackedMark | PromptMark | None:
    kind = TrackedMark if isinstance(value, dict) and "anchor" in value else PromptMark
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None  # whatever it is, it is not ours
