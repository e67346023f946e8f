"""What happens to a task in the field: the lines of its journal. No torch.

Coordinates are pixels (x, y) of the packed media; frames count from 0. A mask is the counts of COCO's
compressed run lengths, its size being that of the media.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from backend.field.manifest import Frozen
from edgetam_model import Prompt

MAX_CLICKS = 200  # on one object and frame; people make ten
Pixel = Annotated[float, Field(ge=-(10**5), le=10**5)]
FrameIndex = Annotated[int, Field(ge=0, le=10**7)]
ObjectId = Annotated[str, Field(min_length=1, max_length=1000)]
Labels = Annotated[tuple[Annotated[str, Field(max_length=1000)], ...], Field(max_length=20)]
Click = tuple[Pixel, Pixel, Literal[0, 1]]
BoxPixels = tuple[Pixel, Pixel, Pixel, Pixel]
State = Literal["visible", "absent", "lost"]


class Spec(Frozen):
    """What a person points at, on one object and frame: clicks (x, y, 1 yes or 0 no), a box, or both."""

    points: Annotated[tuple[Click, ...], Field(max_length=MAX_CLICKS)] = ()
    box: BoxPixels | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is pointed at."""
        return not self.points and self.box is None

    def joined(self, later: Spec) -> Spec:
        """This with what was added: clicks beside clicks, a new box in place of the old."""
        return Spec(points=self.points + later.points, box=later.box or self.box)

    def prompt(self) -> Prompt:
        """The same for the model.

        Raises:
            PromptError: it is empty, or its box has no area.
        """
        return Prompt(
            points=[[x, y] for x, y, _ in self.points] or None,
            labels=[mark for _, _, mark in self.points] or None,
            box=self.box,
        )


class Row(Frozen):
    """One object on one frame.

    Attributes:
        box: x0, y0, x1, y1 around the mask, the far edges excluded; None: there is nothing.
        score: the IoU to be expected, 0 to 1.
        mask: None where only the box is known.
        prompted: a person pointed at it here.
        kept: it came with the kit.
    """

    box: BoxPixels | None = None
    score: Annotated[float, Field(ge=0, le=1)] = 1.0
    state: State = "visible"
    mask: str | None = None
    prompted: bool = False
    kept: bool = False

    @property
    def visible(self) -> bool:
        """Whether there is something to draw."""
        return self.state == "visible" and self.box is not None


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
