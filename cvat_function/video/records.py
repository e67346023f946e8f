"""What CVAT's API says and takes of tasks, jobs and annotations, as far as tracking needs it. No SDK."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MODEL_MADE = "auto"  # an annotation's source; CVAT's page turns it into "semi-auto" when a person edits it


class Record(BaseModel):
    """A piece of CVAT's JSON; what is not named here is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_json(self) -> dict[str, Any]:
        """As CVAT takes it: without the ids that only the server gives."""
        return self.model_dump(mode="json", exclude_none=True)


class Attribute(Record):
    """One attribute's value."""

    spec_id: int
    value: str


class AttributeSpec(Record):
    """What an attribute is; only mutable ones may differ along a track."""

    id: int
    name: str
    mutable: bool = False


class Label(Record):
    """A class of objects.

    Attributes:
        type: of shapes that it is for: "any", "rectangle", "polygon", "mask", "skeleton" …
        has_parent: it is a part of a skeleton.
    """

    id: int
    name: str
    type: str = "any"
    has_parent: bool = False
    attributes: tuple[AttributeSpec, ...] = ()


class TrackedShape(Record):
    """A track's key frame; `outside`: from here on the object is not to be seen."""

    id: int | None = None
    type: str
    frame: int
    points: tuple[float, ...] = ()
    occluded: bool = False
    outside: bool = False
    z_order: int = 0
    rotation: float = 0
    attributes: tuple[Attribute, ...] = ()


class Track(Record):
    """An object along frames. `elements` are the parts of a skeleton."""

    id: int | None = None
    label_id: int
    frame: int
    group: int | None = 0
    source: str = "manual"
    attributes: tuple[Attribute, ...] = ()
    shapes: tuple[TrackedShape, ...]
    elements: tuple[Any, ...] = ()


class LabeledShape(Record):
    """An object on one frame."""

    id: int | None = None
    label_id: int
    type: str
    frame: int
    points: tuple[float, ...] = ()
    occluded: bool = False
    z_order: int = 0
    rotation: float = 0
    group: int | None = 0
    source: str = "manual"
    attributes: tuple[Attribute, ...] = ()


class Annotations(Record):
    """All that is drawn in a task or a job, or a part of it."""

    shapes: tuple[LabeledShape, ...] = ()
    tracks: tuple[Track, ...] = ()

    @property
    def count(self) -> int:
        """How many objects."""
        return len(self.shapes) + len(self.tracks)


class Job(Record):
    """A stretch of a task, frames as the task counts them, both included."""

    id: int
    task_id: int
    start_frame: int
    stop_frame: int
    type: str = "annotation"  # or ground_truth, consensus_replica
    dimension: str = "2d"


class FrameSize(Record):
    """Of one image, or of every frame of a video."""

    width: int
    height: int


class Meta(Record):
    """A task's or job's media.

    Attributes:
        size: how many frames the task or job has.
        start_frame: number in the original media of its first frame.
        frame_filter: "step=3" where only every third frame of the media was taken.
        deleted_frames: as the task counts them.
        included_frames: where a job has only some frames of its range; as the original media counts them.
    """

    size: int
    start_frame: int = 0
    frame_filter: str = ""
    deleted_frames: tuple[int, ...] = ()
    included_frames: tuple[int, ...] | None = None
    frames: tuple[FrameSize, ...] = Field(default=())
