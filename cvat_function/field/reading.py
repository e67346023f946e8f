"""What a kit brought along from CVAT, as objects to go on from. No SDK, no torch."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cvat_function.field.content import Labels, PackedJob, Place, TaskContent, places
from cvat_function.field.showing import editable, key_frames, shown_on
from cvat_function.rle import decode_mask
from cvat_function.shapes import Shape, ordered_box
from cvat_function.video.records import TrackedShape
from edgetam_model import InputError
from edgetam_model.field_objects import FieldObject, Row, Spec
from edgetam_model.field_places import FieldMedia, FieldTask, Size
from edgetam_model.masks import Mask, Polygon, encode_rle, mask_box, polygons_to_mask

# Sources of tracks that a model drew frame by frame: of each run of key frames the first one counts as what a
# person said, or else no correction would reach beyond its own frame.
TRACKED = ("auto", "semi-auto")


@dataclass(frozen=True)
class CvatProject:
    """See `edgetam_model.field_places.FieldProject`."""

    known: Labels

    def labels(self, task: FieldTask) -> tuple[str, ...]:  # noqa: ARG002  all tasks of a kit have the same
        """Labels that rectangles, polygons or masks may have."""
        return tuple(label.name for label in self.known.drawable)

    def objects(self, task: FieldTask) -> Sequence[FieldObject]:
        """See `FieldProject`; in several images tracks are no objects and stay as they are."""
        return starting_objects(task, self.known)


def starting_objects(task: FieldTask, labels: Labels) -> list[FieldObject]:
    """Everything that the field page can draw, on the frames that were packed, numbered from 1."""
    content = TaskContent.of(task)
    jobs = {job.id: job for job in content.jobs}
    found: list[FieldObject] = []
    for place in places(content):
        label = labels.by_id.get(place.drawing.label_id)
        if label is None or not editable(place.drawing):
            continue
        one = _object(place, jobs[place.job], content, task.media)
        if one is not None:
            found.append(replace(one, number=len(found) + 1, labels=(label.name,)))
    return found


def is_track(place: Place) -> bool:
    """Whether an annotation is a track."""
    return place.id.partition("/")[2].startswith("track")


def scale_of(media: FieldMedia, frame: int) -> tuple[float, float]:
    """Along x and y, from the platform's pixels of a frame to the kit's."""
    (height, width), (own_height, own_width) = media.original(frame), media.size(frame)
    return own_width / width, own_height / height


def row_of(shape: Shape, original: Size, size: Size) -> Row | None:
    """A shape on the platform's image as a row of the kit; None: nothing of it is in the image."""
    across, down = size[1] / original[1], size[0] / original[0]
    if shape.type == "rectangle":
        scaled = tuple(n * (down if place % 2 else across) for place, n in enumerate(shape.points))
        box = ordered_box(scaled, size[1], size[0])
        return Row(box=box, kept=True) if box else None
    mask = _mask(shape, original, size)
    edges = mask_box(mask)
    return Row(box=edges, mask=encode_rle(mask)["counts"], kept=True) if edges else None


def _mask(shape: Shape, original: Size, size: Size) -> Mask:
    across, down = size[1] / original[1], size[0] / original[0]
    if shape.type == "polygon":
        ring = np.array(shape.points, np.float32).reshape(-1, 2) * np.array([across, down], np.float32)
        return polygons_to_mask([Polygon(ring)], *size)
    drawn = decode_mask(shape.points, original[1], original[0])
    if original == size:
        return drawn
    rows = np.minimum((np.arange(size[0]) + 0.5) / down, original[0] - 1).astype(np.intp)
    columns = np.minimum((np.arange(size[1]) + 0.5) / across, original[1] - 1).astype(np.intp)
    return np.asarray(drawn[np.ix_(rows, columns)], np.bool_)


def _object(place: Place, job: PackedJob, content: TaskContent, media: FieldMedia) -> FieldObject | None:
    """Without number and label; None: nothing of it is on the packed frames."""
    if is_track(place) and media.kind != "video":
        return None
    keys = key_frames(place.drawing)
    rows = dict(_rows(keys, job, content, media))
    if not rows:
        return None
    numbers = {key.frame for key in keys}
    keyed = {frame for frame in rows if content.frames[frame] in numbers}
    if place.drawing.source in TRACKED:
        keyed = {frame for frame in keyed if frame - 1 not in keyed}
    prompts = {
        frame: Spec(box=rows[frame].box)
        for frame in sorted(keyed)
        if media.kind == "video" or rows[frame].mask is None
    }
    return FieldObject(place.id, 0, given=True, prompts=prompts, rows=rows)


def _rows(
    keys: Sequence[TrackedShape], job: PackedJob, content: TaskContent, media: FieldMedia
) -> Iterator[tuple[int, Row]]:
    """(frame of the kit, row) wherever CVAT shows it; a shape that stands still is drawn once."""
    known: dict[tuple[Shape, Size, Size], Row | None] = {}
    first = bisect_left(content.frames, max(keys[0].frame, job.frames[0]))
    last = bisect_right(content.frames, job.frames[-1])
    for frame in range(first, last):
        shape = shown_on(keys, content.frames[frame])
        if shape is None:
            continue
        row = _remembered(known, shape, media.original(frame), media.size(frame))
        if row is not None:
            yield frame, row


def _remembered(
    known: dict[tuple[Shape, Size, Size], Row | None], shape: Shape, original: Size, size: Size
) -> Row | None:
    place = (shape, original, size)
    if place not in known:
        try:
            known[place] = row_of(shape, original, size)
        except InputError:  # a mask that is not of this image
            known[place] = None
    return known[place]


def given_places(content: TaskContent) -> Mapping[str, Place]:
    """The annotations by their objects' ids."""
    return {place.id: place for place in places(content)}
