"""The work of the field as CVAT's annotations: what an object is to be in each job. No SDK, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cvat_function.field.content import Labels, PackedJob, Place, TaskContent
from cvat_function.field.reading import scale_of
from cvat_function.field.showing import key_frames, shown_on
from cvat_function.rle import EMPTY, encode_mask
from cvat_function.shapes import TYPES, Shape, shape_mask, shape_of_mask
from cvat_function.video.records import Annotations, Attribute, Label, LabeledShape, Track, TrackedShape
from cvat_function.video.tracks import DECIMALS
from edgetam_model import InputError
from edgetam_model.field_objects import FieldObject, Row
from edgetam_model.field_places import FieldMedia, Size
from edgetam_model.masks import Mask, Polygon, decode_rle, mask_to_polygons, polygons_to_mask

POINTED = "semi-auto"  # CVAT's word for what a person pointed at and a model drew
STAIRS = 0.75  # pixels of the kit: what is cut off the corners of pixels before they are made larger
NEW_SHAPE = "polygon"  # what people can edit, and what CVAT can track


@dataclass(frozen=True)
class Sheet:
    """What all objects of a task are written with.

    Attributes:
        shape: what new objects become where their label leaves a choice; empty: `NEW_SHAPE`.
    """

    content: TaskContent
    media: FieldMedia
    labels: Labels
    shape: str = ""

    def __post_init__(self) -> None:
        if self.shape and self.shape not in TYPES:
            raise InputError("shape", f"expected {', '.join(TYPES)}, got {self.shape!r:.80}")


def wanted_in(job: PackedJob, one: FieldObject, origin: Origin | None, sheet: Sheet) -> Annotations:
    """What an object is to be in a job.

    Args:
        origin: what it was; None: it is new.

    Raises:
        InputError: a label that the task does not have.
    """
    label = sheet.labels.named(one.labels)
    place = origin.place if origin else None
    own = place.drawing if place is not None and place.job == job.id else None
    changed = origin is not None and one.labels != origin.given.labels
    if own is not None and not one.drawn:
        drawing = _relabelled(own, label, sheet.labels) if changed else own
        return _gathered([drawing])
    fresh = {
        sheet.content.frames[frame]: _shape(row, frame, _kind(place, label, sheet), sheet.media)
        for frame, row in one.rows.items()
        if not row.kept and sheet.content.frames[frame] in job.holds
    }
    if own is None and place is not None:
        mine = next(known.holds for known in sheet.content.jobs if known.id == place.job)
        if fresh.keys() <= mine:  # the job that it came from has it
            return Annotations()
    kin = place.drawing if place is not None else None
    if kin is not None and changed:
        kin = _relabelled(kin, label, sheet.labels)
    writer = _Writer(job, label, kin, sheet, here=own is not None)
    return writer.write(fresh, single=len(one.rows) == 1)


def _kind(place: Place | None, label: Label, sheet: Sheet) -> str:
    if place is not None:
        drawing = place.drawing
        return drawing.type if isinstance(drawing, LabeledShape) else drawing.shapes[0].type
    return label.type if label.type in TYPES else sheet.shape or NEW_SHAPE


def _shape(row: Row, frame: int, kind: str, media: FieldMedia) -> Shape | None:
    """A row as a shape on the platform's image; None where there is nothing."""
    if not row.visible or row.box is None:
        return None
    across, down = scale_of(media, frame)
    original, size = media.original(frame), media.size(frame)
    if kind == "rectangle" or row.mask is None:
        x0, y0, x1, y1 = row.box
        box = Shape("rectangle", _rounded((x0 / across, y0 / down, x1 / across, y1 / down)))
        return box if kind == "rectangle" else _boxed(box, kind, original)
    mask = decode_rle({"size": list(size), "counts": row.mask})
    if kind == "mask":
        points = encode_mask(mask if original == size else _enlarged(mask, original))
        return None if tuple(points) == EMPTY else Shape(kind, tuple(map(float, points)))
    outline = shape_of_mask(mask, kind)
    if outline is None:
        return None
    scaled = tuple(n / (down if place % 2 else across) for place, n in enumerate(outline.points))
    return Shape(kind, _rounded(scaled))


def _enlarged(mask: Mask, size: Size) -> Mask:
    """A mask at another size, its outlines straight where those of its pixels would be stairs."""
    scale = np.array([size[1] / mask.shape[1], size[0] / mask.shape[0]], np.float32)
    scaled = [
        Polygon(region.outline * scale, tuple(hole * scale for hole in region.holes))
        for region in mask_to_polygons(mask, STAIRS)
    ]
    return polygons_to_mask(scaled, *size)


def _boxed(box: Shape, kind: str, original: Size) -> Shape | None:
    """A rectangle as another kind, where only that is known of an object."""
    x0, y0, x1, y1 = box.points
    corners = Shape("polygon", (x0, y0, x1, y0, x1, y1, x0, y1))
    if kind == "polygon":
        return corners
    return shape_of_mask(shape_mask(corners, original[1], original[0]), kind)


@dataclass(frozen=True)
class Origin:
    """What an object was when the kit was packed: as the field page knows it, and on the server."""

    given: FieldObject
    place: Place


class _Writer:
    """Writes one object into one job.

    Args:
        kin: what it was, from which attributes and layers go along; None: it is new.
        here: it was that in this job.
    """

    def __init__(
        self, job: PackedJob, label: Label, kin: Track | LabeledShape | None, sheet: Sheet, *, here: bool
    ) -> None:
        self._job = job
        self._label = label
        self._kin = kin
        self._own = kin if here else None
        self._kin_keys = key_frames(kin) if kin is not None else []
        self._keys = self._kin_keys if here else []
        self._media = sheet.media
        self._mutable = {spec.id for spec in label.attributes if spec.mutable}

    def write(self, fresh: Mapping[int, Shape | None], *, single: bool) -> Annotations:
        """The annotations, from what was seen in the field by the task's frames.

        What came along and is not found any more stays as it was: only people take away.

        Args:
            single: the object is on one frame alone.
        """
        seen = {frame: shape for frame, shape in fresh.items() if shape is not None}
        own = self._own
        if not seen:
            return _gathered([own] if own is not None else [])
        masks = any(shape.type == "mask" for shape in seen.values())
        if not isinstance(own, Track) and (masks or single or self._media.kind != "video"):
            left = [own] if own is not None and own.frame not in seen else []
            return _gathered([*left, *(self._labeled(frame, seen[frame]) for frame in sorted(seen))])
        return _gathered([self._tracked(self._track(fresh))])

    def _labeled(self, frame: int, shape: Shape) -> LabeledShape:
        kin = self._kin if isinstance(self._kin, LabeledShape) else None
        return LabeledShape(
            label_id=self._label.id,
            type=shape.type,
            frame=frame,
            points=shape.points,
            occluded=bool(kin and kin.occluded and kin.frame == frame),
            z_order=kin.z_order if kin else 0,
            group=kin.group if kin else 0,
            source=POINTED,
            attributes=kin.attributes if kin else (),
        )

    def _tracked(self, shapes: Sequence[TrackedShape]) -> Track:
        kin = self._kin
        values = kin.attributes if kin is not None else ()
        return Track(
            label_id=self._label.id,
            frame=shapes[0].frame,
            group=kin.group if kin is not None else 0,
            source=POINTED,
            attributes=tuple(value for value in values if value.spec_id not in self._mutable),
            shapes=tuple(shapes),
        )

    def _track(self, fresh: Mapping[int, Shape | None]) -> list[TrackedShape]:
        """Key frames by which CVAT shows what was seen in the field, and elsewhere what it showed before."""
        keyed = {key.frame: key for key in self._keys if key.frame <= self._job.frames[-1]}
        frames = sorted({*self._job.frames, *keyed})  # key frames on deleted frames count as well
        found: list[TrackedShape] = []
        for place, frame in enumerate(frames):
            beside = {frames[n] for n in (place - 1, place + 1) if 0 <= n < len(frames)}
            if frame not in fresh and frame in keyed and not isinstance(self._own, LabeledShape):
                found.append(keyed[frame].model_copy(update={"id": None}))
            elif frame in fresh or beside & fresh.keys() or frame in keyed:
                shape = fresh[frame] if frame in fresh else shown_on(self._keys, frame)
                found += self._key(frame, shape, found)
        return found

    def _key(self, frame: int, shape: Shape | None, before: Sequence[TrackedShape]) -> list[TrackedShape]:
        """A key frame; none where nothing is to be said."""
        if shape is None:
            if not before or before[-1].outside:
                return []
            return [before[-1].model_copy(update={"frame": frame, "outside": True})]
        earlier = [key for key in self._kin_keys if key.frame <= frame]
        known = earlier[-1] if earlier else self._kin_keys[0] if self._kin_keys else None
        values = known.attributes if known else ()
        return [
            TrackedShape(
                type=shape.type,
                frame=frame,
                points=_rounded(shape.points),
                occluded=bool(known and known.occluded and known.frame == frame),
                z_order=known.z_order if known else 0,
                attributes=tuple(value for value in values if value.spec_id in self._mutable),
            )
        ]


def _relabelled(drawing: Track | LabeledShape, label: Label, labels: Labels) -> Track | LabeledShape:
    """The same of another class: attributes of the same name go along."""
    old = {spec.id: spec for spec in labels.by_id[drawing.label_id].attributes}
    new = {(spec.name, spec.mutable): spec.id for spec in label.attributes}

    def values(given: Iterable[Attribute]) -> tuple[Attribute, ...]:
        known = ((old.get(one.spec_id), one.value) for one in given)
        named = ((new.get((spec.name, spec.mutable)), text) for spec, text in known if spec is not None)
        return tuple(Attribute(spec_id=spec, value=text) for spec, text in named if spec is not None)

    facts = {"label_id": label.id, "attributes": values(drawing.attributes), "id": None}
    if isinstance(drawing, LabeledShape):
        return drawing.model_copy(update=facts)
    shapes = tuple(
        shape.model_copy(update={"attributes": values(shape.attributes), "id": None})
        for shape in drawing.shapes
    )
    return drawing.model_copy(update={**facts, "shapes": shapes})


def _gathered(drawings: Iterable[Track | LabeledShape]) -> Annotations:
    found = list(drawings)
    return Annotations(
        shapes=tuple(one for one in found if isinstance(one, LabeledShape)),
        tracks=tuple(one for one in found if isinstance(one, Track)),
    )


def _rounded(points: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(number), DECIMALS) for number in points)
