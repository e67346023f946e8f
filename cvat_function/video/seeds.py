"""What people drew on a stretch of frames, as the beginnings of tracks. No SDK, no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cvat_function.shapes import Shape, parse_shape, shape_prompt
from cvat_function.video.frames import FrameMap
from cvat_function.video.records import (
    MODEL_MADE,
    Annotations,
    Attribute,
    Label,
    LabeledShape,
    Track,
    TrackedShape,
)
from edgetam_model import InputError

Kind = Literal["shape", "track"]
_NAME = re.compile(r"(?P<kind>shape|track):(?P<id>[0-9]{1,15})")


@dataclass(frozen=True)
class Choice:
    """Which of the annotations become seeds.

    Attributes:
        named: (kind, id) of annotations, anywhere in the range; empty: what is marked on the first frame.
        labels: only these; empty: all.
        model_made: also what a model drew and nobody has touched since.
    """

    named: tuple[tuple[Kind, int], ...] = ()
    labels: tuple[str, ...] = ()
    model_made: bool = False


@dataclass(frozen=True)
class Key:
    """What a person said about an object on one frame.

    Attributes:
        shape: None: it is not to be seen from here on (CVAT's `outside`).
        attributes: those that may differ along the track.
    """

    frame: int
    shape: Shape | None
    occluded: bool
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True)
class Seed:
    """An object to track.

    Attributes:
        number: from 1, unique.
        kind, id: the annotation that it comes from.
        type: rectangle, polygon or mask.
        attributes: those that hold for the whole track.
        keys: ascending by frame, the first one visible.
    """

    number: int
    kind: Kind
    id: int
    label: Label
    type: str
    z_order: int
    attributes: tuple[Attribute, ...]
    keys: tuple[Key, ...]

    def key_before(self, frame: int) -> Key:
        """The last key on or before a frame; the first one where there is none."""
        return max((key for key in self.keys if key.frame <= frame), default=self.keys[0], key=_frame)

    def hidden_on(self, frame: int) -> bool:
        """Whether a person said that it is not to be seen there."""
        return self.key_before(frame).shape is None

    def drawn_on(self, frame: int) -> Shape | None:
        """What a person drew on that very frame."""
        key = self.key_before(frame)
        return key.shape if key.frame == frame else None


@dataclass(frozen=True)
class Chosen:
    """The seeds, and what people should know about those that are none."""

    seeds: tuple[Seed, ...]
    notes: tuple[str, ...]


def parse_seed(text: str) -> tuple[Kind, int]:
    """`shape:12` or `track:7`, ids as CVAT's “Create object URL” and `--dry-run` show them.

    Raises:
        InputError: anything else.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise InputError("seed", f"expected shape:ID or track:ID, got {text!r}")
    return ("shape" if match["kind"] == "shape" else "track"), int(match["id"])


def choose_seeds(
    annotations: Annotations, labels: Sequence[Label], frames: FrameMap, choice: Choice
) -> Chosen:
    """The objects to track.

    Without names: every shape on the first frame, and every track with a visible key frame there. A track's
    further key frames in the range come along as corrections.

    Raises:
        InputError: nothing to track, a named annotation that is not there or cannot be tracked, or a label
            that the task does not have.
    """
    by_id = {label.id: label for label in labels}
    unknown = sorted(set(choice.labels) - {label.name for label in labels})
    if unknown:
        raise InputError("label", f"the task has no {unknown[0]!r}; it has {sorted(x.name for x in labels)}")
    seeds: list[Seed] = []
    notes: list[str] = []
    for kind, item in _candidates(annotations, frames, choice):
        if choice.labels and by_id[item.label_id].name not in choice.labels:
            continue
        try:
            seeds.append(_seed(len(seeds) + 1, kind, item, by_id[item.label_id], frames))
        except InputError as error:
            if choice.named:
                raise InputError("seed", f"{kind}:{item.id}: {error}") from error
            notes.append(f"left out {kind}:{item.id}: {error}")
    notes += _left_out(annotations, frames, choice)
    if not seeds:
        raise InputError("seed", "; ".join([f"nothing to track from frame {frames.frames[0]} on", *notes]))
    return Chosen(tuple(seeds), tuple(notes))


def _candidates(
    annotations: Annotations, frames: FrameMap, choice: Choice
) -> Iterable[tuple[Kind, LabeledShape | Track]]:
    if choice.named:
        return _named(annotations, choice.named)
    first = frames.frames[0]
    shapes = [shape for shape in annotations.shapes if shape.frame == first]
    tracks = [track for track in annotations.tracks if _marked_on(track, first)]
    both: list[tuple[Kind, LabeledShape | Track]] = [("shape", shape) for shape in shapes]
    both += [("track", track) for track in tracks]
    return [(kind, item) for kind, item in both if choice.model_made or item.source != MODEL_MADE]


def _named(
    annotations: Annotations, names: Iterable[tuple[Kind, int]]
) -> Iterable[tuple[Kind, LabeledShape | Track]]:
    shapes = {shape.id: shape for shape in annotations.shapes}
    tracks = {track.id: track for track in annotations.tracks}
    for kind, number in dict.fromkeys(names):
        item = shapes.get(number) if kind == "shape" else tracks.get(number)
        if item is None:
            raise InputError("seed", f"there is no {kind}:{number}; --dry-run lists what is there")
        yield kind, item


def _left_out(annotations: Annotations, frames: FrameMap, choice: Choice) -> list[str]:
    """What a person may have expected to be tracked."""
    if choice.named or choice.model_made:
        return []
    first = frames.frames[0]
    made = [s for s in annotations.shapes if s.frame == first and s.source == MODEL_MADE]
    count = len(made) + sum(_marked_on(t, first) and t.source == MODEL_MADE for t in annotations.tracks)
    return [f"left out {count} on frame {first} that a model drew (--model-made takes them)"] if count else []


def _marked_on(track: Track, frame: int) -> bool:
    return any(shape.frame == frame and not shape.outside for shape in track.shapes)


def _seed(number: int, kind: Kind, item: LabeledShape | Track, label: Label, frames: FrameMap) -> Seed:
    """The seed of a shape or a track.

    Raises:
        InputError: a type that cannot be tracked, or no visible key frame among the frames.
    """
    mutable = {spec.id for spec in label.attributes if spec.mutable}
    marks: Sequence[LabeledShape | TrackedShape] = item.shapes if isinstance(item, Track) else [item]
    within = set(frames.frames)
    found = sorted((_key(mark, mutable, frames) for mark in marks if mark.frame in within), key=_frame)
    while found and found[0].shape is None:
        found.pop(0)
    if not found:
        raise InputError("frame", f"not drawn on any of frames {frames.frames[0]} to {frames.frames[-1]}")
    types = {key.shape.type for key in found if key.shape is not None}
    if len(types) > 1:
        raise InputError("type", f"expected key frames of one type, got {sorted(types)}")
    assert item.id is not None  # it came from the server
    return Seed(
        number,
        kind,
        item.id,
        label,
        types.pop(),
        marks[0].z_order,
        tuple(value for value in item.attributes if value.spec_id not in mutable),
        tuple(found),
    )


def _key(mark: LabeledShape | TrackedShape, mutable: set[int], frames: FrameMap) -> Key:
    attributes = tuple(value for value in mark.attributes if value.spec_id in mutable)
    if isinstance(mark, TrackedShape) and mark.outside:
        return Key(mark.frame, None, mark.occluded, attributes)
    raw = {"type": mark.type, "points": mark.points, "rotation": mark.rotation}
    shape = parse_shape(raw, f"frame {mark.frame}")
    shape_prompt(shape, frames.width, frames.height)  # raises where it cannot be a prompt
    return Key(mark.frame, shape, mark.occluded, attributes)


def _frame(key: Key) -> int:
    return key.frame
