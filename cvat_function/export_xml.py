"""CVAT XML 1.1, for images and for video. No torch.

What CVAT writes, by its own sources: an `image` holds its shapes; a `track` holds one shape a frame, with
`keyframe` 0 where CVAT drew it between others and `outside` 1 where the object is gone. Frames are numbered
as the media file does. A single shape of a video task comes as a track of one frame and an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import cos, isfinite, radians, sin
from xml.parsers import expat

from cvat_function.export_archive import MAX_TEXT, Bytes, frame_number
from cvat_function.export_drawn import Drawn, Followed, Gathering
from cvat_function.rle import decode_mask
from edgetam_model import InputError
from edgetam_model.masks import MAX_PIXELS
from edgetam_model.training.annotations import (
    BoxShape,
    MaskShape,
    Origin,
    PolygonShape,
    ReadOptions,
    Shape,
    Sighting,
    Size,
)

MAX_DEPTH = 50
MAX_WORD = 10_000  # characters of a name in the head
SHAPES = frozenset({"box", "polygon", "mask"})
OTHERS = frozenset({"ellipse", "polyline", "points", "cuboid", "skeleton", "tag"})
Attributes = dict[str, str]

_CHUNK = 2**16


def read_xml(file: Bytes, name: str, gathering: Gathering, options: ReadOptions) -> None:
    """Read a document; a shape that is damaged is left out and counted.

    Raises:
        InputError: no XML of CVAT's, too large or too deep, or one that declares a document type (entities).
    """
    reader = _Reader(gathering, options)
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.buffer_text = True
    size = 0
    try:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            if size > MAX_TEXT:
                raise InputError(name, f"expected at most {MAX_TEXT} bytes")
            parser.Parse(chunk, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise InputError(name, f"expected XML: {error}") from error


def _refuse_doctype(*_declaration: object) -> None:
    """Entities are declared in a document type only: without one, nothing expands and nothing is fetched."""
    raise InputError("xml", "expected no document type declaration")


@dataclass(frozen=True)
class _Key:
    """A track's shape on one frame; None: not to be seen."""

    frame: int
    shape: Shape | None
    keyframe: bool


@dataclass
class _Open:
    """The image or track that is being read."""

    attributes: Attributes
    drawn: list[Drawn] = field(default_factory=list)
    keys: list[_Key] = field(default_factory=list)


class _Reader:
    """Collects what a document says while its tags go by."""

    def __init__(self, gathering: Gathering, options: ReadOptions) -> None:
        self._gathering, self._options = gathering, options
        self._tags: list[str] = []
        self._words: list[str] = []
        self._task: Attributes = {}
        self._tasks: dict[str, Attributes] = {}
        self._image: _Open | None = None
        self._track: _Open | None = None

    def start(self, tag: str, attributes: Attributes) -> None:
        if len(self._tags) >= MAX_DEPTH:
            raise InputError("xml", f"expected at most {MAX_DEPTH} tags inside each other")
        if not self._tags and tag != "annotations":
            raise InputError("xml", f"expected <annotations> as CVAT writes it, got <{tag[:40]}>")
        parent = self._tags[-1] if self._tags else ""
        self._tags.append(tag)
        self._words.clear()
        if parent == "annotations" and tag == "image":
            self._image = _Open(attributes)
        elif parent == "annotations" and tag == "track":
            self._track = _Open(attributes)
        elif parent in ("image", "track") and tag in SHAPES:
            self._shape(tag, attributes)
        elif parent in ("image", "track") and tag in OTHERS:
            self._gathering.ignored[f"shapes of type {tag}"] += 1

    def text(self, words: str) -> None:
        if "meta" in self._tags and sum(map(len, self._words)) < MAX_WORD:
            self._words.append(words)

    def end(self, tag: str) -> None:
        self._tags.pop()
        parent = self._tags[-1] if self._tags else ""
        if parent in ("task", "job"):
            self._task[tag] = "".join(self._words).strip()
        elif parent == "original_size":
            self._task[f"original_{tag}"] = "".join(self._words).strip()
        elif tag in ("task", "job") and parent in ("meta", "tasks"):
            self._tasks[self._task.get("id", "")] = self._task
            self._task = {}
        elif tag == "image" and self._image is not None:
            self._end_image(self._image)
            self._image = None
        elif tag == "track" and self._track is not None:
            self._end_track(self._track)
            self._track = None
        self._words.clear()

    def _task_of(self, attributes: Attributes) -> Attributes:
        """What the head says about the task of an image or a track."""
        alone = next(iter(self._tasks.values())) if len(self._tasks) == 1 else {}
        return self._tasks.get(attributes.get("task_id", ""), alone)

    def _shape(self, tag: str, attributes: Attributes) -> None:
        try:
            if self._image is not None:
                size = _size(self._image.attributes, "")
                shape = _read_shape(tag, attributes, size)
                origin: Origin = "model" if attributes.get("source") == "auto" else "human"
                self._image.drawn.append(Drawn(shape, attributes.get("label", ""), origin))
            elif self._track is not None:
                self._track.keys.append(self._key(tag, attributes, self._track.attributes))
        except InputError:
            self._gathering.ignored["damaged shapes"] += 1

    def _key(self, tag: str, attributes: Attributes, track: Attributes) -> _Key:
        frame, keyframe = _whole(attributes, "frame"), attributes.get("keyframe") != "0"
        if attributes.get("outside") == "1":
            return _Key(frame, None, keyframe)
        size = _size(self._task_of(track), "original_")
        return _Key(frame, _read_shape(tag, attributes, size), keyframe)

    def _end_image(self, image: _Open) -> None:
        attributes = image.attributes
        task, name = self._task_of(attributes), attributes.get("name", "")
        number = frame_number(name)
        if task.get("mode") == "interpolation" and number is not None:
            for drawn in image.drawn:
                sighting = Sighting(number, drawn.shape, drawn.origin)
                self._gathering.add_followed(_name(task), _media(task), Followed(drawn.label, (sighting,)))
        else:
            self._gathering.add_image(
                name, image.drawn, task=task.get("id", ""), subset=attributes.get("subset", "")
            )

    def _end_track(self, track: _Open) -> None:
        task, source = self._task_of(track.attributes), track.attributes.get("source")
        keys = sorted({key.frame: key for key in track.keys}.values(), key=lambda key: key.frame)
        shown = [(key.frame, key.shape, key.keyframe) for key in keys if key.shape is not None]
        # A single shape may have been drawn with a model's help and looked at; of a track that a person
        # touched most is still the model's.
        touched = source == "semi-auto" and len(shown) > 1
        origin: Origin = "model" if source == "auto" or touched else "human"
        sightings = []
        for frame, shape, keyframe in shown:
            if keyframe or self._options.interpolated:
                sightings.append(Sighting(frame, shape, origin if keyframe else "interpolated"))
            else:
                self._gathering.ignored["shapes between key frames"] += 1
        absent = tuple(_absent(keys)) if len(shown) > 1 else ()
        followed = Followed(track.attributes.get("label", ""), tuple(sightings), absent)
        self._gathering.add_followed(_name(task), _media(task), followed)


def _absent(keys: list[_Key]) -> Iterator[range]:
    """From each frame on which the object is gone to the next that says anything."""
    for key, after in zip(keys, [*(key.frame for key in keys[1:]), None], strict=True):
        if key.shape is None:
            yield range(key.frame, key.frame + 1 if after is None else after)


def _name(task: Attributes) -> str:
    return f"task {task.get('id') or task.get('name') or ''}".strip()


def _media(task: Attributes) -> str:
    return task.get("source") or task.get("name") or ""


def _read_shape(tag: str, attributes: Attributes, size: Size) -> Shape:
    if tag == "mask":
        return _mask(attributes, size)
    if tag == "polygon":
        pairs = [pair.split(",") for pair in attributes.get("points", "").split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise InputError("points", "expected x,y;x,y;…")
        return PolygonShape((tuple((_number(x), _number(y)) for x, y in pairs),), size)
    x0, y0, x1, y1 = (_number(attributes.get(key, "")) for key in ("xtl", "ytl", "xbr", "ybr"))
    rotation = _number(attributes.get("rotation", "0"))
    return centred_box((x0 + x1) / 2, (y0 + y1) / 2, abs(x1 - x0), abs(y1 - y0), rotation, size)


def centred_box(x: float, y: float, width: float, height: float, rotation: float, size: Size) -> BoxShape:
    """CVAT turns a rectangle about its middle x, y; clockwise, in degrees."""
    c, s = cos(radians(rotation)), sin(radians(rotation))
    left = x - (width * c - height * s) / 2
    top = y - (width * s + height * c) / 2
    return BoxShape(left, top, width, height, size, rotation)


def _mask(attributes: Attributes, size: Size) -> MaskShape:
    left, top = _whole(attributes, "left"), _whole(attributes, "top")
    right, bottom = left + _whole(attributes, "width") - 1, top + _whole(attributes, "height") - 1
    try:
        lengths = [int(word) for word in attributes.get("rle", "").split(",")]
    except ValueError as error:
        raise InputError("rle", "expected whole numbers with commas between") from error
    return MaskShape.of(decode_mask([*lengths, left, top, right, bottom], size[1], size[0]))


def _size(attributes: Attributes, prefix: str) -> Size:
    height, width = _whole(attributes, f"{prefix}height"), _whole(attributes, f"{prefix}width")
    if not 0 < height * width <= MAX_PIXELS:
        raise InputError("size", f"expected 1 to {MAX_PIXELS} pixels, got {height}×{width}")
    return height, width


def _whole(attributes: Attributes, key: str) -> int:
    word = attributes.get(key, "")
    if not (word.isascii() and word.isdigit() and len(word) <= 9):
        raise InputError(key, f"expected a whole number, got {word!r:.40}")
    return int(word)


def _number(word: str) -> float:
    try:
        number = float(word)
    except ValueError as error:
        raise InputError("points", f"expected a number, got {word!r:.40}") from error
    if not isfinite(number):
        raise InputError("points", "expected finite numbers")
    return number
