"""`edgetam field pack`: a project's tasks, media, annotations and weights as one kit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from backend.field.kit import zip_kit
from backend.field.manifest import (
    NAME,
    Manifest,
    PackedAnnotation,
    PackedFile,
    PackedTask,
    Source,
    TaskContent,
    content_hash,
    region_ids,
)
from backend.field.packed_media import pack_image, pack_video
from backend.field.site import FieldSite
from backend.label_config import LabelConfig, MediaObject, parse_label_config
from backend.label_studio_records import DrawnTask
from backend.media import MediaIntake
from backend.settings import Settings
from edgetam_model import InputError, MediaError

Tell = Callable[[str], None]
WEIGHTS = "weights.safetensors"
CONFIG = "config.xml"
KEPT_KEYS = ("id", "result", "was_cancelled", "ground_truth", "created_at", "updated_at", "completed_by")
LONGEST_NAME = 80


@dataclass(frozen=True)
class PackOptions:
    """What goes into a kit.

    Attributes:
        project: Label Studio's number.
        tasks: their ids; empty: all of the project.
        max_side: pixels of the longer side of images and videos at most; None: as they are.
        weights: file of the weights.
        weights_name: what they were asked for by.
        build: folder of a build for other runtimes, which goes along below `model/`; None: none does.

    Raises:
        InputError: a side below 64 pixels, on which nothing can be told, or no such folder.
    """

    project: int
    tasks: tuple[int, ...]
    max_side: int | None
    weights: Path
    weights_name: str
    build: Path | None = None

    def __post_init__(self) -> None:
        if self.build is not None and not self.build.is_dir():
            raise InputError("build", f"expected a folder, got {self.build}")
        if self.max_side is not None and self.max_side < 64:
            raise InputError("max_side", f"expected at least 64 pixels, got {self.max_side}")


@dataclass(frozen=True)
class PackReport:
    """What was packed, and what was left out, each with its reason."""

    manifest: Manifest
    path: Path
    left_out: tuple[str, ...]


def pack(site: FieldSite, settings: Settings, options: PackOptions, out: Path, tell: Tell) -> PackReport:
    """Make a kit at `out`, which must not be there; a zip where its name ends so.

    Tasks whose media cannot be had are left out and named. The kit appears when it is complete.

    Raises:
        InputError: `out` is there, or no task could be packed.
        LabelStudioError: refused, or no such project.
    """
    if out.exists():
        raise InputError("out", f"{out} is there already")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}.kit")
    part.mkdir()
    try:
        packer = _Packer(site, settings, options, part)
        manifest = packer.pack(tell)
        if out.suffix.lower() == ".zip":
            zip_kit(part, out)
        else:
            part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return PackReport(manifest, out, tuple(packer.left_out))


class _Packer:
    """One kit while it is made."""

    def __init__(self, site: FieldSite, settings: Settings, options: PackOptions, root: Path) -> None:
        self._site = site
        self._options = options
        self._root = root
        self._limits = settings.media_limits()
        self._intake = MediaIntake(settings, site)
        self.left_out: list[str] = []

    def pack(self, tell: Tell) -> Manifest:
        options, root = self._options, self._root
        project = self._site.get_project(options.project)
        config = parse_label_config(project.label_config or "")
        (root / CONFIG).write_text(project.label_config or "", encoding="utf-8")
        shutil.copyfile(options.weights, root / WEIGHTS)
        builds = tuple(_builds(options.build, root)) if options.build else ()
        tasks = tuple(self._tasks(config, tell))
        if not tasks:
            reasons = "; ".join(self.left_out[:3]) or f"project {options.project} has none"
            raise InputError("tasks", f"no task can be packed: {reasons}")
        manifest = Manifest(
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            source=Source(url=str(self._site.base), project=options.project, title=project.title or ""),
            config=PackedFile.of(root, CONFIG),
            weights=PackedFile.of(root, WEIGHTS),
            weights_name=options.weights_name,
            model=builds,
            tasks=tasks,
        )
        (root / NAME).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        return manifest

    def _tasks(self, config: LabelConfig, tell: Tell) -> Iterator[PackedTask]:
        shown = shown_object(config)
        missing = set(self._options.tasks)
        for task in self._site.tasks(self._options.project, self._options.tasks):
            missing.discard(task.id)
            try:
                packed = self._task(task, shown)
            except MediaError as error:
                self.left_out.append(f"task {task.id}: {error}")
                continue
            size = f"{packed.media.size[1]}×{packed.media.size[0]}"
            tell(f"task {task.id}: {packed.name}, {packed.media.kind} {size}, {_count(packed)} regions")
            yield packed
        self.left_out += [f"task {number}: the project has none" for number in sorted(missing)]

    def _task(self, task: DrawnTask, shown: MediaObject) -> PackedTask:
        if shown.several:
            raise MediaError("data", "shows several images at once, which the field page cannot")
        try:
            reference = shown.reference(task.data)
        except InputError as error:
            raise MediaError(error.field, error.problem) from error
        kind = "video" if shown.type == "video" else "image"
        name = f"media/task-{task.id}"
        with self._intake.open(reference, task_id=task.id) as file:
            if file.kind != kind:
                raise MediaError("data", f"expected {kind} media, got {file.kind}")
            pack_one = pack_video if kind == "video" else pack_image
            media = pack_one(file.path, self._root, name, self._options.max_side, self._limits)
        annotations = tuple(_kept(one) for one in task.annotations)
        content = TaskContent(id=task.id, data=task.data, annotations=annotations)
        path = f"tasks/task-{task.id}.json"
        (self._root / "tasks").mkdir(exist_ok=True)
        (self._root / path).write_text(content.model_dump_json(), encoding="utf-8")
        return PackedTask(
            id=task.id,
            object=shown.name,
            name=media_name(reference),
            media=media,
            content=PackedFile.of(self._root, path),
            annotations=tuple(_packed(one) for one in annotations),
            chosen=chosen_annotation(annotations),
        )


def _builds(build: Path, root: Path) -> Iterator[PackedFile]:
    """Copy a build into the kit.

    Raises:
        InputError: a file whose name a kit cannot hold.
    """
    for path in sorted(path for path in build.rglob("*") if path.is_file()):
        name = f"model/{path.relative_to(build).as_posix()}"
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        try:
            yield PackedFile.of(root, name)
        except ValidationError as error:
            raise InputError("build", f"expected plain names, at most 7 folders deep: {name}") from error


def shown_object(config: LabelConfig) -> MediaObject:
    """What of a project is worked on in the field: its video, else its first image.

    Raises:
        InputError: it has neither.
    """
    if config.video is not None:
        return config.video.object
    images = [image for image in config.images if config.outputs_for(image.name)]
    if not images:
        raise InputError("project", "expected an image with tools for it, or a video with VideoRectangle")
    return images[0]


def chosen_annotation(annotations: Sequence[Mapping[str, Any]]) -> int | None:
    """The annotation that is worked on: the ground truth, else the newest that was not skipped."""
    usable = [one for one in annotations if not one.get("was_cancelled") and isinstance(one.get("id"), int)]
    best = max(usable, key=lambda one: (one.get("ground_truth") is True, _when(one)), default=None)
    return None if best is None else int(best["id"])


def media_name(reference: str) -> str:
    """A file's name out of an address, for people; Label Studio's own prefix left out."""
    if reference.startswith("data:"):
        return "inline image"
    parts = urlsplit(reference)
    text = unquote(parts.path or reference)
    if parts.query.startswith("d="):
        text = unquote(parts.query[2:])
    name = text.rstrip("/").rpartition("/")[2]
    head, dash, rest = name.partition("-")
    if dash and len(head) == 8 and rest and all(c in "0123456789abcdef" for c in head):
        name = rest
    return name[-LONGEST_NAME:] or "media"


def _kept(annotation: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps({key: annotation[key] for key in KEPT_KEYS if key in annotation}))  # type: ignore[no-any-return]  # a dict went in


def _packed(annotation: Mapping[str, Any]) -> PackedAnnotation:
    result = annotation.get("result")
    regions = result if isinstance(result, list) else []
    when = annotation.get("updated_at")
    return PackedAnnotation(
        id=annotation["id"],
        updated_at=when if isinstance(when, str) else None,
        content=content_hash(regions),
        regions=len(region_ids(regions)),
    )


def _when(annotation: Mapping[str, Any]) -> tuple[str, int]:
    when = annotation.get("updated_at") or annotation.get("created_at")
    return (when if isinstance(when, str) else "", int(annotation["id"]))


def _count(task: PackedTask) -> int:
    return task.base.regions if task.base else 0
