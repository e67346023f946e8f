"""What happens to a task in the field: the lines of its journal. No torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from backend.field.manifest import Frozen
from edgetam_model.field_objects import Labels, Row, Spec

FrameIndex = Annotated[int, Field(ge=0, le=10**7)]
ObjectId = Annotated[str, Field(min_length=1, max_length=1000)]


class Pointed(Frozen):
    """A prompt and the mask it gave; the first one of an id makes the object, with these labels."""

    do: Literal["prompt"] = "prompt"
    object: ObjectId
    labels: Labels = ()
    frame: FrameIndex
    spec: Spec
    row: Row


class Tracked(Frozen):
    """Tracking was asked for; what came with the kit takes part from now on where it is named."""

    do: Literal["track"] = "track"
    objects: tuple[ObjectId, ...] = ()
    reverse: bool = False


class Found(Frozen):
    """What was found on frames: object → (frame, row). It belongs to the action before it."""

    do: Literal["found"] = "found"
    rows: dict[ObjectId, tuple[tuple[FrameIndex, Row], ...]]


class Pass(Frozen):
    """Frames to go through, both ends included; None: from the first prompt, to the end."""

    first: FrameIndex | None = None
    last: FrameIndex | None = None
    reverse: bool = False


class Begun(Frozen):
    """Tracking begins; where no `Ended` follows, it was cut off."""

    do: Literal["begun"] = "begun"
    passes: tuple[Pass, ...]


class Ended(Frozen):
    """Tracking came to its end, or somebody stopped it."""

    do: Literal["ended"] = "ended"


class Deleted(Frozen):
    """An object is none."""

    do: Literal["delete"] = "delete"
    object: ObjectId


class Relabelled(Frozen):
    """An object is of another class."""

    do: Literal["label"] = "label"
    object: ObjectId
    labels: Labels


class Confirmed(Frozen):
    """A person looked at frames, both ends included, and found them right."""

    do: Literal["confirm"] = "confirm"
    object: ObjectId
    first: FrameIndex
    last: FrameIndex


class Done(Frozen):
    """The task is finished, or it is not."""

    do: Literal["done"] = "done"
    done: bool


class Undone(Frozen):
    """The last action that still counts does not count any more."""

    do: Literal["undo"] = "undo"


Event = Annotated[
    Pointed | Tracked | Begun | Found | Ended | Deleted | Relabelled | Confirmed | Done | Undone,
    Field(discriminator="do"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
