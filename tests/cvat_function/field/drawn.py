"""A packed CVAT task for tests, without a server: frames of 120×90 pixels, in the kit at half that."""

from __future__ import annotations

from collections.abc import Sequence

from cvat_function.field.content import Drawing, Labels, PackedJob, TaskContent
from cvat_function.video.records import (
    Annotations,
    Attribute,
    AttributeSpec,
    Label,
    LabeledShape,
    Track,
    TrackedShape,
)
from edgetam_model.field_places import FieldMedia, FieldTask

FRAMES = (0, 1, 2, 4, 5, 6, 7, 8, 9, 10)  # packed; 3 is deleted
JOB_FRAMES = (*FRAMES, 11)
SPEED, PLATE = 5, 6
CAR = Label(
    id=1,
    name="car",
    attributes=(AttributeSpec(id=PLATE, name="plate"), AttributeSpec(id=SPEED, name="speed", mutable=True)),
)
BIRD = Label(id=2, name="bird", attributes=(AttributeSpec(id=7, name="plate"),))
POSE = Label(id=3, name="pose", type="skeleton")
LABELS = Labels(labels=(CAR, BIRD, POSE, Label(id=4, name="knee", has_parent=True)))
CLIP = FieldMedia("video", ((90, 120),), ((45, 60),), len(FRAMES))
STILLS = FieldMedia("images", ((90, 120),) * len(FRAMES), ((45, 60),) * len(FRAMES), len(FRAMES))


def packed(drawings: Sequence[Drawing], media: FieldMedia = CLIP) -> FieldTask:
    shapes = tuple(one for one in drawings if isinstance(one, LabeledShape))
    tracks = tuple(one for one in drawings if isinstance(one, Track))
    job = PackedJob(id=31, frames=JOB_FRAMES, annotations=Annotations(shapes=shapes, tracks=tracks))
    return FieldTask(7, media, TaskContent(task=7, frames=FRAMES, jobs=(job,)).model_dump_json())


def box(frame: int, jump: float = 0.0) -> tuple[float, float, float, float]:
    x = 10.0 + 6 * frame + jump
    return x, 20.0, x + 20, 50.0


def key(frame: int, *, outside: bool = False, jump: float = 0.0, number: int = 0) -> TrackedShape:
    speed = Attribute(spec_id=SPEED, value="fast")
    return TrackedShape(
        id=900 + number,
        type="rectangle",
        frame=frame,
        points=box(frame, jump),
        outside=outside,
        z_order=2,
        attributes=(speed,),
    )


def track(*keys: TrackedShape, number: int = 7) -> Track:
    plate = Attribute(spec_id=PLATE, value="B-1")
    return Track(id=number, label_id=1, frame=keys[0].frame, group=4, attributes=(plate,), shapes=keys)


def shape(kind: str, frame: int, points: Sequence[float], number: int = 55) -> LabeledShape:
    return LabeledShape(id=number, label_id=1, type=kind, frame=frame, points=tuple(points))
