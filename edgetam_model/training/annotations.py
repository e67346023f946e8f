"""A team's annotations, whatever tool they were drawn with: tasks, their objects, and what is known of each
on which frame. Adapters translate into these words, training reads them. No torch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from math import cos, isfinite, radians, sin
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask, Polygon, decode_rle, encode_rle, polygons_to_mask, rle_area
from edgetam_model.prompts import Prompt

if TYPE_CHECKING:
    from edgetam_model.sources import FrameSource
    from edgetam_model.timetable import TimeTable

Size = tuple[int, int]  # H, W in pixels
Extent = tuple[float, float]  # H, W of the picture in the coordinates' unit: its pixels, or 100 for percent
Point = tuple[float, float]  # x, y
Origin = Literal["human", "model", "interpolated"]

PERCENT: Extent = (100.0, 100.0)
FAR = 1e6  # no coordinate lies farther out, in pixels or percent
# Guesses, not measured: what nobody looked at must not drown what a person drew.
WEIGHTS: Mapping[Origin, float] = MappingProxyType({"human": 1.0, "model": 0.25, "interpolated": 0.1})


@dataclass(frozen=True)
class MaskShape:
    """A painted mask: COCO's compressed run lengths `counts` at the size it was drawn at.

    Raises:
        InputError: run lengths that are not of this size, or no pixel at all.
    """

    size: Size
    counts: str

    def __post_init__(self) -> None:
        if not rle_area({"size": list(self.size), "counts": self.counts}):
            raise InputError("mask", "expected at least one pixel, got an empty mask")

    @classmethod
    def of(cls, mask: Mask) -> MaskShape:
        """The shape of a mask (H, W). Raises as the class."""
        rle = encode_rle(mask)
        return cls((mask.shape[0], mask.shape[1]), rle["counts"])

    def mask(self, size: Size) -> Mask:
        """(H, W) bool of the image at another size: the nearest pixel's."""
        drawn = decode_rle({"size": list(self.size), "counts": self.counts})
        if self.size == size:
            return drawn
        resized = cv2.resize(drawn.view(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
        return resized.view(np.bool_)


@dataclass(frozen=True)
class PolygonShape:
    """One or more outlines, which are united; each at least three points.

    Raises:
        InputError: no outline, one with fewer points, or points that are not finite or too far out.
    """

    outlines: tuple[tuple[Point, ...], ...]
    extent: Extent

    def __post_init__(self) -> None:
        _check_extent(self.extent)
        if not self.outlines or any(len(outline) < 3 for outline in self.outlines):
            raise InputError("polygon", "expected at least three points")
        _check_numbers("polygon", (n for outline in self.outlines for point in outline for n in point))

    def mask(self, size: Size) -> Mask:
        """(H, W) bool: the pixels whose centre is inside."""
        scale = (size[1] / self.extent[1], size[0] / self.extent[0])
        rings = [Polygon((np.array(ring) * scale).astype(np.float32)) for ring in self.outlines]
        return polygons_to_mask(rings, *size)


@dataclass(frozen=True)
class BoxShape:
    """A rectangle, turned clockwise by `rotation` degrees about its top left corner x, y.

    The turn happens in pixels: in percent, a square would not stay one.

    Raises:
        InputError: no area, or numbers that are not finite or too far out.
    """

    x: float
    y: float
    width: float
    height: float
    extent: Extent
    rotation: float = 0.0

    def __post_init__(self) -> None:
        _check_extent(self.extent)
        _check_numbers("rectangle", (self.x, self.y, self.width, self.height, self.rotation))
        if self.width <= 0 or self.height <= 0:
            raise InputError("rectangle", f"expected an area, got {self.width:g}×{self.height:g}")

    def corners(self, size: Size) -> tuple[Point, Point, Point, Point]:
        """x, y of the corners in pixels of an image of size (H, W), clockwise from `x, y`."""
        across, down = size[1] / self.extent[1], size[0] / self.extent[0]
        x, y, w, h = self.x * across, self.y * down, self.width * across, self.height * down
        c, s = cos(radians(self.rotation)), sin(radians(self.rotation))
        return (x, y), (x + w * c, y + w * s), (x + w * c - h * s, y + w * s + h * c), (x - h * s, y + h * c)

    def box(self, size: Size) -> tuple[float, float, float, float] | None:
        """x0, y0, x1, y1 of the upright box around it in pixels, cut to the image; None: all outside."""
        xs, ys = zip(*self.corners(size), strict=True)
        x0, x1 = max(min(xs), 0.0), min(max(xs), float(size[1]))
        y0, y1 = max(min(ys), 0.0), min(max(ys), float(size[0]))
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def mask(self, size: Size) -> Mask:
        """(H, W) bool of the rectangle itself. It says where an object is, not which pixels are its own."""
        return polygons_to_mask([Polygon(np.array(self.corners(size), np.float32))], *size)


Shape = MaskShape | PolygonShape | BoxShape


@dataclass(frozen=True)
class Given:
    """The prompt that a person really gave for an object: clicks, a box, or both.

    Attributes:
        points: x, y of clicks in units of `extent`; `labels`: 1 positive, 0 negative, one for each.
        box: in its own units.
    """

    points: tuple[Point, ...] = ()
    labels: tuple[Literal[0, 1], ...] = ()
    extent: Extent = PERCENT
    box: BoxShape | None = None

    def prompt(self, size: Size) -> Prompt | None:
        """In pixels of an image of size (H, W), clicks drawn into it; None: nothing of it is inside."""
        height, width = size
        scale = (width / self.extent[1], height / self.extent[0])
        inside = np.clip(np.array(self.points).reshape(-1, 2) * scale, 0, (width, height))
        box = self.box.box(size) if self.box else None
        if box is None and not self.points:
            return None
        points = inside.tolist() if self.points else None
        return Prompt(points=points, labels=list(self.labels) if self.points else None, box=box)


@dataclass(frozen=True)
class Sighting:
    """What is known of an object on one frame.

    Attributes:
        frame: the task's number, 0-based; see `FrameNumbers`.
        shape: where it is.
        origin: who says so: a person, a model whose answer nobody changed, or the line between two others.
        given: what a person told a model to get there, where that is known.
    """

    frame: int
    shape: Shape
    origin: Origin = "human"
    given: Given | None = None

    @property
    def weight(self) -> float:
        """How much it counts, above 0 to 1."""
        return WEIGHTS[self.origin]


@dataclass(frozen=True)
class AnnotatedObject:
    """One object of a task.

    Attributes:
        id: from 1, unique in the task.
        labels: its classes; empty where it has none.
        sightings: ascending by frame, each frame once.
        absent: stretches of frames on which it is known not to be seen. About other frames nothing is known.
    """

    id: int
    labels: tuple[str, ...]
    sightings: tuple[Sighting, ...]
    absent: tuple[range, ...] = ()

    def sighting_on(self, frame: int) -> Sighting | None:
        """What is known of it there, if it is to be seen."""
        return self._by_frame.get(frame)

    def known_among(self, frames: Sequence[int]) -> tuple[int, ...]:
        """Of ascending frames those on which it is known where it is, or that it is not there."""
        known = {frame for frame in self._by_frame if _holds(frames, frame)}
        for stretch in self.absent:
            known.update(frames[bisect_left(frames, stretch.start) : bisect_left(frames, stretch.stop)])
        return tuple(sorted(known))

    _by_frame: Mapping[int, Sighting] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_frame", {s.frame: s for s in self.sightings})


@dataclass(frozen=True)
class FrameNumbers:
    """Which frame of a video a task's number means.

    Attributes:
        rate: number n is what is on screen n / rate + shift seconds after the start; None: n is the frame.
    """

    rate: Fraction | None = None
    shift: Fraction = Fraction(0)

    def frame(self, number: int, table: TimeTable) -> int | None:
        """The file's frame, 0-based; None where the file has none."""
        if number < 0:
            return None
        if self.rate is not None:
            return table.frame_at_rate(number, self.rate, shift=self.shift)
        return number if number < len(table) else None


@dataclass(frozen=True)
class AnnotatedTask:
    """One image or video, and what a team drew on it.

    Attributes:
        id: unique in its project or export.
        kind: of the media.
        media: where the image or video is: a URL, a path or a name, as the tool has it.
        objects: at least one, each with at least one sighting.
        group: tasks that must not be parted, such as frames of one video; the id where left out.
        annotations: ids of the annotations that are in it.
        numbers: what frame numbers mean.
    """

    id: str
    kind: Literal["image", "video"]
    media: str
    objects: tuple[AnnotatedObject, ...]
    group: str = ""
    annotations: tuple[str, ...] = ()
    numbers: FrameNumbers = FrameNumbers()

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", self.group or self.id)

    @property
    def digest(self) -> str:
        """SHA-256 of what was drawn, as hex; the media's address, which may be signed anew, is left out."""
        drawn = repr((self.kind, self.numbers, self.objects))
        return sha256(drawn.encode("utf-8", "backslashreplace")).hexdigest()


@dataclass(frozen=True)
class AnnotationSet:
    """What a source holds.

    Attributes:
        tasks: those with something to learn from, in the source's order.
        ignored: what was left out and how often, in words for a report: "skipped annotations" → 3.
    """

    tasks: tuple[AnnotatedTask, ...]
    ignored: Mapping[str, int]


@dataclass(frozen=True)
class ReadOptions:
    """How a source is read.

    Attributes:
        interpolated: take boxes that lie between key frames too, as the tool shows them.
        unpack: an empty or missing folder for images that lie inside an archive; without it tasks have
            their names alone, and the images must be found elsewhere.
    """

    interpolated: bool = False
    unpack: Path | None = None


@dataclass(frozen=True)
class OpenProject:
    """A project that an adapter has read from where it lives.

    Attributes:
        found: its annotations.
        media: opens a task's image or video; InputError where that cannot be had or read.
        name: what the project's versions are called by, such as "project-7"; see `check_project`.
    """

    found: AnnotationSet
    media: Callable[[AnnotatedTask], FrameSource]
    name: str


# An adapter's entry point in `edgetam.sources`: None for a file of another kind; InputError for one of its
# own that is damaged.
Reader = Callable[[Path, ReadOptions], AnnotationSet | None]
# In `edgetam.projects`, by the word before the colon: for `label-studio:7` it gets "7". InputError where
# there is no such project, or it cannot be reached.
Opener = Callable[[str, ReadOptions], OpenProject]


def _holds(frames: Sequence[int], frame: int) -> bool:
    place = bisect_left(frames, frame)
    return place < len(frames) and frames[place] == frame


def _check_extent(extent: Extent) -> None:
    if not all(isfinite(n) and 0 < n <= FAR for n in extent):
        raise InputError("size", f"expected a positive height and width, got {extent}")


def _check_numbers(shape: str, numbers: Iterable[float]) -> None:
    for number in numbers:
        if not -FAR <= number <= FAR:  # NaN is in no range either
            raise InputError(shape, f"expected finite numbers between ±{FAR:g}")
