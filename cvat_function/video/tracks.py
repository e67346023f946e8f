"""What was seen of the objects, as annotations that CVAT takes, job by job. No SDK, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cvat_function.shapes import Shape
from cvat_function.video.frames import FrameMap
from cvat_function.video.records import (
    MODEL_MADE,
    Annotations,
    Job,
    LabeledShape,
    Track,
    TrackedShape,
)
from cvat_function.video.seeds import Seed

DECIMALS = 2  # of a pixel; more only makes the upload longer


@dataclass(frozen=True)
class Sight:
    """An object on one frame; `shape` None: it is not to be seen."""

    frame: int
    shape: Shape | None


def annotations_of(
    seeds: Iterable[Seed], sights: Mapping[int, Sequence[Sight]], job: Job, frames: FrameMap
) -> Annotations:
    """New annotations for one job.

    Args:
        seeds: the objects.
        sights: seed number → what was seen of it, ascending by frame.
        job: nothing outside its range comes out.
        frames: of the task or job.
    """
    shapes: list[LabeledShape] = []
    tracks: list[Track] = []
    for seed in seeds:
        within = [s for s in sights.get(seed.number, ()) if job.start_frame <= s.frame <= job.stop_frame]
        if seed.type == "mask":
            shapes += _masks(seed, within)
        else:
            tracks += _track(seed, within, job, frames)
    return Annotations(shapes=tuple(shapes), tracks=tuple(tracks))


def _track(seed: Seed, sights: Sequence[Sight], job: Job, frames: FrameMap) -> list[Track]:
    """One track from the first sight on, or none.

    CVAT goes on showing a track's last shape, so that the frame after the last sight says `outside`.
    """
    shapes = _key_frames(seed, sights)
    if not shapes:
        return []
    end = frames.after(sights[-1].frame)
    if not shapes[-1].outside and end is not None and end <= job.stop_frame:
        shapes.append(shapes[-1].model_copy(update={"frame": end, "outside": True}))
    return [
        Track(
            label_id=seed.label.id,
            frame=shapes[0].frame,
            source=MODEL_MADE,
            attributes=seed.attributes,
            shapes=tuple(shapes),
        )
    ]


def _key_frames(seed: Seed, sights: Sequence[Sight]) -> list[TrackedShape]:
    """A shape per frame while the object is seen, and one that is `outside` where it is lost."""
    shapes: list[TrackedShape] = []
    for sight in sights:
        if sight.shape is not None:
            shapes.append(_tracked(seed, sight.frame, sight.shape))
        elif shapes and not shapes[-1].outside:
            shapes.append(shapes[-1].model_copy(update={"frame": sight.frame, "outside": True}))
    return shapes


def _tracked(seed: Seed, frame: int, shape: Shape) -> TrackedShape:
    key = seed.key_before(frame)
    return TrackedShape(
        type=shape.type,
        frame=frame,
        points=_rounded(shape),
        occluded=key.occluded and key.frame == frame,
        z_order=seed.z_order,
        attributes=key.attributes,
    )


def _masks(seed: Seed, sights: Sequence[Sight]) -> list[LabeledShape]:
    """A shape per frame, since CVAT has no tracks of masks; where a person drew one, theirs is there."""
    drawn = {key.frame for key in seed.keys}
    return [
        LabeledShape(
            label_id=seed.label.id,
            type=sight.shape.type,
            frame=sight.frame,
            points=_rounded(sight.shape),
            z_order=seed.z_order,
            source=MODEL_MADE,
            attributes=(*seed.attributes, *seed.key_before(sight.frame).attributes),
        )
        for sight in sights
        if sight.shape is not None and sight.frame not in drawn
    ]


def _rounded(shape: Shape) -> tuple[float, ...]:
    return tuple(round(float(number), DECIMALS) for number in shape.points)
