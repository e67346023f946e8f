"""What a field kit holds: written once by `pack`, and read by `run` and `merge`. No torch.

A kit is a folder, or a zip of one:

    manifest.json         this file's `Manifest`
    config.xml            the project's labeling config
    tasks/task-12.json    data and annotations of a task, as stored
    media/task-12.jpg     its image or video, at the size chosen
    weights.safetensors   what masks are computed with
    model/                builds for other runtimes (ONNX, Core ML), named in the manifest; empty without
    work/                 what is done in the field, see `journal`; the only part that changes
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.video_work import VideoFacts
from edgetam_model import InputError

NAME = "manifest.json"
BLOCK = 2**20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Plain names, as deep as a Core ML package: none leads out of the kit, whatever system unpacks it.
_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"
FileName = Annotated[str, Field(pattern=rf"^{_PART}(/{_PART}){{0,7}}$")]
Side = Annotated[int, Field(ge=1, le=2**16)]


class Frozen(BaseModel):
    """Something that a kit's files say."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class PackedFile(Frozen):
    """A file of the kit."""

    path: FileName
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256

    @classmethod
    def of(cls, root: Path, path: str) -> Self:
        """The file as it is now below the kit's folder."""
        return cls(path=path, bytes=(root / path).stat().st_size, sha256=file_hash(root / path))


class PackedMedia(Frozen):
    """The image or video of a task.

    Attributes:
        original, size: (H, W) in pixels, upright, there and in the kit.
        scale: from original to packed pixels, along x and y.
        frames: how many; 1 for an image.
        facts: of the original video: its exact table of times, by which Label Studio's frames are found.
    """

    file: PackedFile
    kind: Literal["image", "video"]
    original: tuple[Side, Side]
    size: tuple[Side, Side]
    scale: tuple[float, float]
    frames: Annotated[int, Field(ge=1)] = 1
    facts: VideoFacts | None = None


class PackedAnnotation(Frozen):
    """An annotation as it was when the kit was packed.

    Attributes:
        updated_at: Label Studio's own words.
        content: `content_hash` of its result.
        regions: how many different ones it holds.
    """

    id: int
    updated_at: str | None
    content: Sha256
    regions: Annotated[int, Field(ge=0)]


class PackedTask(Frozen):
    """One task.

    Attributes:
        object: the tag that shows its media, what regions call `to_name`.
        name: of its media, for people.
        content: file with `TaskContent`.
        annotations: all of them, so that a change of any can be told.
        chosen: the one that is worked on in the field; None: there is none, and a new one is made.
    """

    id: int
    object: str
    name: str
    media: PackedMedia
    content: PackedFile
    annotations: tuple[PackedAnnotation, ...] = ()
    chosen: int | None = None

    @property
    def base(self) -> PackedAnnotation | None:
        """The annotation that is worked on."""
        return next((one for one in self.annotations if one.id == self.chosen), None)


class TaskContent(Frozen):
    """A task as Label Studio had it."""

    id: int
    data: dict[str, Any]
    annotations: tuple[dict[str, Any], ...] = ()

    def result(self, annotation: int | None) -> list[Any]:
        """The regions of an annotation, as stored; none of None."""
        found = next((one for one in self.annotations if one.get("id") == annotation), {})
        result = found.get("result") if annotation is not None else None
        return list(result) if isinstance(result, list) else []


class Source(Frozen):
    """Where the tasks came from, and go back to."""

    kind: Literal["label-studio"] = "label-studio"
    url: str
    project: int
    title: str = ""


class Manifest(Frozen):
    """The whole kit.

    Attributes:
        made: when, ISO 8601 in UTC.
        weights_name: what `pack` was asked for.
        model: files below `model/`.
    """

    format: Literal[1] = 1
    made: str
    source: Source
    config: PackedFile
    weights: PackedFile
    weights_name: str
    model: tuple[PackedFile, ...] = ()
    tasks: tuple[PackedTask, ...]

    @classmethod
    def read(cls, text: str | bytes) -> Self:
        """The manifest of a kit.

        Raises:
            InputError: something else, or of another version, with the first field at fault.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join((NAME, *(str(part) for part in first["loc"])))
            raise InputError(place, first["msg"]) from error

    @property
    def files(self) -> tuple[PackedFile, ...]:
        """Everything that the kit holds beside the manifest itself and the work."""
        parts = [part for task in self.tasks for part in (task.content, task.media.file)]
        return (self.config, self.weights, *self.model, *parts)

    def task(self, number: int) -> PackedTask:
        """A task by its id.

        Raises:
            InputError: the kit does not hold it.
        """
        for task in self.tasks:
            if task.id == number:
                return task
        raise InputError("task", f"the kit holds no task {number}")


def content_hash(result: Sequence[Any]) -> str:
    """SHA-256 of regions, the same for equal ones, whatever the order of their keys."""
    text = json.dumps(list(result), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def region_ids(result: Sequence[Any]) -> tuple[str, ...]:
    """The ids in a result, each once, in order."""
    found = (entry.get("id") for entry in result if isinstance(entry, dict))
    return tuple(dict.fromkeys(name for name in found if isinstance(name, str) and name))


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
