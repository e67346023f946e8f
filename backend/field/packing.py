"""`edgetam field pack`: a platform's tasks, media, annotations and weights as one kit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from backend.field.kit import zip_kit
from backend.field.manifest import NAME, Manifest, PackedFile, PackedMedia, PackedTask, Source
from backend.field.packed_media import Progress, pack_images, pack_video
from edgetam_model import InputError, MediaError, MediaLimits
from edgetam_model.field_places import FieldItem, FieldSite, LeftOut, Packing, PackWish

Tell = Callable[[str], None]
WEIGHTS = "weights.safetensors"
PROJECT = "project.txt"


@dataclass(frozen=True)
class PackOptions:
    """What goes into a kit.

    Attributes:
        kind: of platform, as in `--from`.
        wish: which tasks.
        max_side: pixels of the longer side of images and videos at most; None: as they are.
        weights: file of the weights.
        weights_name: what they were asked for by.
        limits: of media.
        build: folder of a build for other runtimes, which goes along below `model/`; None: none does.

    Raises:
        InputError: a side below 64 pixels, on which nothing can be told, or no such folder.
    """

    kind: str
    wish: PackWish
    max_side: int | None
    weights: Path
    weights_name: str
    limits: MediaLimits
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


def pack(site: FieldSite, options: PackOptions, out: Path, tell: Tell) -> PackReport:
    """Make a kit at `out`, which must not be there; a zip where its name ends so.

    Tasks whose media cannot be had are left out and named. The kit appears when it is complete.

    Raises:
        InputError: `out` is there, or no task could be packed.
        EdgeTAMError: the server refuses, or is not reached.
    """
    if out.exists():
        raise InputError("out", f"{out} is there already")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}.kit")
    part.mkdir()
    try:
        packer = _Packer(site, options, part, tell)
        manifest = packer.pack()
        if out.suffix.lower() == ".zip":
            zip_kit(part, out)
        else:
            part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return PackReport(manifest, out, tuple(packer.left_out))


class _Packer:
    """One kit while it is made."""

    def __init__(self, site: FieldSite, options: PackOptions, root: Path, tell: Tell) -> None:
        self._site = site
        self._options = options
        self._root = root
        self._tell = tell
        self.left_out: list[str] = []

    def pack(self) -> Manifest:
        options, root = self._options, self._root
        found = self._site.pack(options.wish)
        (root / PROJECT).write_text(found.project, encoding="utf-8")
        shutil.copyfile(options.weights, root / WEIGHTS)
        builds = tuple(_builds(options.build, root)) if options.build else ()
        tasks = tuple(self._tasks(found))
        if not tasks:
            reasons = "; ".join(self.left_out[:3]) or f"{options.kind}:{options.wish.address} has none"
            raise InputError("tasks", f"no task can be packed: {reasons}")
        manifest = Manifest(
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            source=Source(kind=options.kind, url=self._site.url, project=found.number, title=found.title),
            config=PackedFile.of(root, PROJECT),
            weights=PackedFile.of(root, WEIGHTS),
            weights_name=options.weights_name,
            model=builds,
            tasks=tasks,
        )
        (root / NAME).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        return manifest

    def _tasks(self, found: Packing) -> Iterator[PackedTask]:
        for item in found.items:
            if isinstance(item, LeftOut):
                self.left_out.append(f"task {item.task}: {item.why}")
                continue
            try:
                packed = self._task(item)
            except MediaError as error:
                self.left_out.append(f"task {item.id}: {error}")
                continue
            size = f"{packed.media.size[1]}×{packed.media.size[0]}"
            many = f"{packed.media.frames} images" if item.kind == "images" else item.kind
            self._tell(f"task {item.id}: {packed.name}, {many} {size}, {packed.objects} objects")
            yield packed

    def _task(self, item: FieldItem) -> PackedTask:
        path = f"tasks/task-{item.id}.json"
        (self._root / "tasks").mkdir(exist_ok=True)
        (self._root / path).write_text(item.content, encoding="utf-8")
        return PackedTask(
            id=item.id,
            name=item.name,
            media=self._media(item).model_copy(update={"numbers": item.numbers}),
            content=PackedFile.of(self._root, path),
            objects=item.objects,
        )

    def _media(self, item: FieldItem) -> PackedMedia:
        name, most, limits = f"media/task-{item.id}", self._options.max_side, self._options.limits
        progress = Progress(self._tell, f"task {item.id}")
        if item.kind != "video":
            return pack_images(item.media, self._root, name, most, limits, progress)
        with item.media[0]() as media:
            return pack_video(media, self._root, name, most, limits, progress)


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
