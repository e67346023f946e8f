"""What a field kit holds: written once by `pack`, and read by `run` and `merge`. No torch.

A kit is a folder, or a zip of one:

    manifest.json         this file's `Manifest`
    project.txt           what all tasks share, as the platform's adapter wrote it
    tasks/task-12.json    a task and what is drawn in it, likewise
    media/task-12.jpg     its image, images or video, at the size chosen
    weights.safetensors   what masks are computed with
    model/                builds for other runtimes (ONNX, Core ML), named in the manifest; empty without
    work/                 what is done in the field, see `journal`; the only part that changes
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from backend.video_work import VideoFacts
from edgetam_model import InputError
from edgetam_model.field_places import FieldMedia, Size

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


class PackedPicture(Frozen):
    """An image in the kit.

    Attributes:
        original, size: (H, W) in pixels, upright, there and in the kit.
    """

    file: PackedFile
    original: tuple[Side, Side]
    size: tuple[Side, Side]


class PackedMedia(Frozen):
    """The image, images or video of a task.

    Attributes:
        original, size: (H, W) in pixels, upright, there and in the kit; of several images the first one's.
        scale: from original to packed pixels, along x and y; likewise.
        frames: how many; 1 for an image.
        facts: of the original video: its exact table of times, by which Label Studio's frames are found.
        others: the images after the first.
        numbers: what the platform calls the frames; empty: 0, 1, 2 …
    """

    file: PackedFile
    kind: Literal["image", "images", "video"]
    original: tuple[Side, Side]
    size: tuple[Side, Side]
    scale: tuple[float, float]
    frames: Annotated[int, Field(ge=1)] = 1
    facts: VideoFacts | None = None
    others: tuple[PackedPicture, ...] = ()
    numbers: tuple[int, ...] = ()

    @property
    def files(self) -> tuple[PackedFile, ...]:
        """A video, or each image."""
        return (self.file, *(one.file for one in self.others))

    @property
    def sizes(self) -> tuple[Size, ...]:
        """(H, W) in the kit: of the video, or of each image."""
        return (self.size, *(one.size for one in self.others))

    def size_of(self, frame: int) -> Size:
        """(H, W) of a frame in the kit."""
        return self.sizes[frame if self.kind == "images" else 0]

    def neutral(self) -> FieldMedia:
        """The same in words that adapters know."""
        return FieldMedia(
            kind=self.kind,
            originals=(self.original, *(one.original for one in self.others)),
            sizes=self.sizes,
            frames=self.frames,
            info=self.facts.info() if self.facts else None,
        )


class PackedTask(Frozen):
    """One task.

    Attributes:
        id: the platform's number.
        name: of its media, for people.
        content: what the platform's adapter packed.
        objects: how many things were drawn in it.
    """

    id: int
    name: str
    media: PackedMedia
    content: PackedFile
    objects: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _from_first_format(cls, document: Any) -> Any:
        """Kits of format 1 said here what their content says as well."""
        if not isinstance(document, dict) or "annotations" not in document:
            return document
        kept = {name: part for name, part in document.items() if name in cls.model_fields}
        chosen = document.get("chosen")
        known = [one for one in document["annotations"] if isinstance(one, dict) and one.get("id") == chosen]
        return {"objects": known[0].get("regions", 0) if known else 0} | kept


class Source(Frozen):
    """Where the tasks came from, and go back to.

    Attributes:
        kind: of platform, as in `--from`.
        project: the number that the platform's adapter asked for: of a project, a task or a job.
    """

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")] = "label-studio"
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

    format: Literal[1, 2] = 2
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
        parts = [part for task in self.tasks for part in (task.content, *task.media.files)]
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


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
