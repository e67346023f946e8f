"""COCO instances as annotated clips: polygons and run lengths, images alone or as frames of videos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask, Polygon, decode_rle, polygons_to_mask
from edgetam_model.sources import Frame
from edgetam_model.training.annotated import AnnotatedClip, Masks
from edgetam_model.video import read_image

MAX_BYTES = 2**31  # 2 GiB; the largest of COCO's own files has 0.5


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Image(_Record):
    id: int
    file_name: str = Field(min_length=1)
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    video_id: int | None = None
    frame_index: int = 0


class _Lengths(_Record):
    size: tuple[int, int]
    counts: str | list[int]

    def document(self) -> dict[str, Any]:
        return {"size": list(self.size), "counts": self.counts}


class _Annotation(_Record):
    id: int
    image_id: int
    iscrowd: int = 0
    track_id: int | None = None
    segmentation: _Lengths | list[list[float]] = []


class _Document(_Record):
    images: list[_Image]
    annotations: list[_Annotation]


class CocoClip(AnnotatedClip):
    """An image, or the frames of a video in their order."""

    def __init__(
        self, name: str, folder: Path, images: Sequence[_Image], annotations: Sequence[Sequence[_Annotation]]
    ) -> None:
        super().__init__(name)
        self._folder = folder
        self._images, self._annotations = images, annotations

    def __len__(self) -> int:
        return len(self._images)

    def frame(self, index: int) -> Frame:
        self._check_index(index)
        image = self._images[index]
        frame = read_image(self._folder / image.file_name)
        if frame.shape[:2] != (image.height, image.width):
            raise InputError(
                "image",
                f"expected {image.width}×{image.height} pixels as annotated, got "
                f"{frame.shape[1]}×{frame.shape[0]}: {image.file_name}",
            )
        return frame

    def masks(self, index: int) -> Masks:
        """In a video ids are the objects' `track_id`, in an image they count from 1."""
        self._check_index(index)
        image = self._images[index]
        found: dict[int, Mask] = {}
        for place, annotation in enumerate(self._annotations[index], start=1):
            number = place if annotation.track_id is None else annotation.track_id
            mask = _mask(annotation, image)
            if mask.any():
                found[number] = found[number] | mask if number in found else mask
        return found


def read_coco(path: Path, images: Path) -> list[CocoClip]:
    """The clips of a COCO instances file: a clip per image, or per video where images name theirs.

    Crowds are left out, since their masks hold many objects; so are images without objects.

    Args:
        path: the .json file.
        images: the folder that its file names are in.

    Raises:
        InputError: no such file, not COCO, annotations of images that are not listed, file names that
            lead out of the folder, or no objects at all.
    """
    document = _read(path)
    root = images.resolve()
    for image in document.images:
        name = image.file_name
        if "\0" in name or not (root / name).resolve().is_relative_to(root):
            raise InputError("file_name", f"expected a path inside {images}, got {image.file_name!r}")
    of_image = _by_image(document)
    clips = []
    for name, members in _groups(document.images):
        annotations = [of_image[image.id] for image in members]
        if any(annotations):
            clips.append(CocoClip(name, root, members, annotations))
    if not clips:
        raise InputError("annotations", f"expected at least one object that is no crowd: {path.name}")
    return clips


def _by_image(document: _Document) -> dict[int, list[_Annotation]]:
    """The objects of every image, by its id."""
    found: dict[int, list[_Annotation]] = {image.id: [] for image in document.images}
    for annotation in document.annotations:
        if annotation.image_id not in found:
            raise InputError("image_id", f"no such image: {annotation.image_id} (annotation {annotation.id})")
        if not annotation.iscrowd and annotation.segmentation:
            found[annotation.image_id].append(annotation)
    return found


def _groups(images: Sequence[_Image]) -> list[tuple[str, list[_Image]]]:
    """Images alone under their file names, frames of videos together in their order."""
    videos: defaultdict[int, list[_Image]] = defaultdict(list)
    for image in images:
        if image.video_id is not None:
            videos[image.video_id].append(image)
    for members in videos.values():
        members.sort(key=lambda image: image.frame_index)
    alone = [(image.file_name, [image]) for image in images if image.video_id is None]
    return [*((f"video {number}", members) for number, members in videos.items()), *alone]


def _read(path: Path) -> _Document:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError("coco", f"expected at most {MAX_BYTES} bytes: {path.name}")
        return _Document.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError("coco", f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "coco"
        raise InputError(field, f"{first['msg']} ({path.name})") from error


def _mask(annotation: _Annotation, image: _Image) -> Mask:
    shape = annotation.segmentation
    if isinstance(shape, _Lengths):
        if shape.size != (image.height, image.width):
            raise InputError(
                "size",
                f"expected [{image.height}, {image.width}] as the image has, got {list(shape.size)} "
                f"(annotation {annotation.id})",
            )
        return decode_rle(shape.document())
    if any(len(ring) < 6 or len(ring) % 2 for ring in shape):
        raise InputError(
            "segmentation", f"expected x, y of at least three corners (annotation {annotation.id})"
        )
    outlines = [Polygon(np.array(ring, np.float32).reshape(-1, 2)) for ring in shape]
    return polygons_to_mask(outlines, image.height, image.width)
