"""COCO 1.0 as CVAT exports it. No torch.

It differs from COCO's own files: a painted mask is written as a crowd, since that is where COCO has run
lengths, and `attributes` holds the rotation of a rectangle and the track that a shape is of.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cvat_function.export_archive import frame_number
from cvat_function.export_drawn import Drawn, Followed, Gathering
from cvat_function.export_xml import centred_box
from edgetam_model import InputError
from edgetam_model.masks import MAX_PIXELS, decode_rle
from edgetam_model.training.annotations import (
    MaskShape,
    Origin,
    PolygonShape,
    ReadOptions,
    Shape,
    Sighting,
    Size,
)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Image(_Record):
    id: int
    file_name: str = Field(min_length=1, max_length=1000)
    width: int = Field(gt=0, le=2**20)
    height: int = Field(gt=0, le=2**20)

    @property
    def size(self) -> Size:
        return self.height, self.width


class _Category(_Record):
    id: int
    name: str


class _Lengths(_Record):
    size: tuple[int, int]
    counts: str | list[int]


class _Attributes(_Record):
    rotation: float = 0.0
    track_id: int | None = None
    keyframe: bool = True
    is_crowd: bool = False


class _Annotation(_Record):
    image_id: int
    category_id: int = 0
    segmentation: _Lengths | list[list[float]] = []
    bbox: tuple[float, float, float, float] | None = None
    attributes: _Attributes = _Attributes()


class _Document(_Record):
    """Annotations are read one by one: a damaged one costs itself alone."""

    images: list[_Image]
    annotations: list[dict[str, Any]]
    categories: list[_Category] = []


def read_coco(data: bytes, name: str, subset: str, gathering: Gathering, options: ReadOptions) -> None:
    """Read one instances file.

    Frames of a video with tracks become one video; everything else an image each.

    Args:
        data: of the .json file.
        name: for errors.
        subset: that the file is of, such as "default".

    Raises:
        InputError: not COCO.
    """
    document = _document(data, name)
    labels = {category.id: category.name for category in document.categories}
    images = {image.id: image for image in document.images}
    drawn: defaultdict[int, list[Drawn]] = defaultdict(list)
    for raw in document.annotations:
        try:
            annotation = _Annotation.model_validate(raw)
            image = images[annotation.image_id]
            one = _drawn(annotation, image.size, labels.get(annotation.category_id, ""))
        except (ValidationError, KeyError, InputError):
            gathering.ignored["damaged shapes"] += 1
            continue
        if annotation.attributes.is_crowd:
            gathering.ignored["crowds"] += 1
        elif one.origin == "interpolated" and not options.interpolated:
            gathering.ignored["shapes between key frames"] += 1
        else:
            drawn[image.id].append(one)
    frames = {image.id: frame_number(image.file_name) for image in document.images}
    tracked = any(one.track is not None for found in drawn.values() for one in found)
    if tracked and None not in frames.values():
        _add_tracks(drawn, frames, subset, gathering)
        return
    for image in document.images:
        gathering.add_image(image.file_name, drawn[image.id], subset=subset)


def _document(data: bytes, name: str) -> _Document:
    try:
        return _Document.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "coco"
        raise InputError(where, f"{first['msg']} ({name})") from error


def _drawn(annotation: _Annotation, size: Size, label: str) -> Drawn:
    attributes = annotation.attributes
    track = None if attributes.track_id is None else str(attributes.track_id)
    origin: Origin = "human" if attributes.keyframe else "interpolated"
    return Drawn(_shape(annotation, size), label, origin, track)


def _shape(annotation: _Annotation, size: Size) -> Shape:
    drawn = annotation.segmentation
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError("size", f"expected at most {MAX_PIXELS} pixels")
    if isinstance(drawn, _Lengths):
        if drawn.size != size:
            raise InputError("size", "expected that of the image")
        return MaskShape.of(decode_rle({"size": list(drawn.size), "counts": drawn.counts}))
    if drawn:
        if any(len(ring) % 2 for ring in drawn):
            raise InputError("segmentation", "expected pairs of x and y")
        rings = (tuple(zip(ring[0::2], ring[1::2], strict=True)) for ring in drawn)
        return PolygonShape(tuple(rings), size)
    if annotation.bbox is None:
        raise InputError("bbox", "expected one where there is no segmentation")
    x, y, width, height = annotation.bbox
    return centred_box(x + width / 2, y + height / 2, width, height, annotation.attributes.rotation, size)


def _add_tracks(
    drawn: dict[int, list[Drawn]], frames: dict[int, int | None], subset: str, gathering: Gathering
) -> None:
    """The shapes of one track are one object; one without a track is an object of its own."""
    tracks: dict[str, dict[int, Drawn]] = {}
    for image, found in drawn.items():
        for place, one in enumerate(found):
            key = f"track {one.track}" if one.track is not None else f"image {image} shape {place}"
            tracks.setdefault(key, {})[frames[image] or 0] = one
    for shapes in tracks.values():
        seen = tuple(Sighting(n, shapes[n].shape, shapes[n].origin) for n in sorted(shapes))
        gathering.add_followed(f"{subset}/frames", subset, Followed(next(iter(shapes.values())).label, seen))
