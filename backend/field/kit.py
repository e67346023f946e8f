"""A kit on the disk: opened from a folder or a zip, checked against its manifest."""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from backend.field.manifest import BLOCK, NAME, Manifest, PackedFile, file_hash
from edgetam_model import InputError
from edgetam_model.field_places import FieldPlatform, FieldProject, FieldTask, platform

WORK = "work"
MAX_MANIFEST = 256 * 2**20  # bytes; 100,000 tasks have some 60 MB
# What `zipfile` was seen to raise over damaged files; a full disk is the one OSError among them.
DAMAGE = (zipfile.BadZipFile, EOFError, RuntimeError, OSError, UnicodeDecodeError, struct.error, zlib.error)


@dataclass(frozen=True)
class Kit:
    """An unpacked kit.

    Attributes:
        root: its folder.
        manifest: what it holds.
    """

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """The kit in a folder, or in a zip, which is unpacked beside itself the first time.

        Raises:
            InputError: no kit, a damaged one, or a folder of that name that is another's.
        """
        if path.is_dir():
            return cls(path, _manifest_in(path))
        if not path.is_file() or not zipfile.is_zipfile(path):
            raise InputError("kit", f"expected a folder or a zip that `edgetam field pack` made: {path}")
        return cls(*_unpacked(path))

    def verify(self) -> None:
        """Read every file and compare it with the manifest.

        Raises:
            InputError: a file that is missing or has changed.
        """
        for file in self.manifest.files:
            self._check(file)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from working on it; the hold ends with this one, however that ends.

        Raises:
            InputError: another one holds it, or the folder cannot be written.
        """
        (self.root / WORK).mkdir(exist_ok=True)
        lock = FileLock(self.root / WORK / "lock")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise InputError("kit", f"{self.root} is open in another process") from error
        try:
            yield
        finally:
            lock.release()

    def path(self, file: PackedFile) -> Path:
        """Where a file is."""
        return self.root / file.path

    def platform(self) -> FieldPlatform:
        """The adapter of the platform that it came from.

        Raises:
            InputError: it is not installed.
        """
        return platform(self.manifest.source.kind)

    def project_text(self) -> str:
        """What all tasks share.

        Raises:
            InputError: it is damaged.
        """
        return self._text(self.manifest.config)

    def project(self) -> FieldProject:
        """The same, as the platform's adapter reads it. Raises as `platform` and `project_text`."""
        return self.platform().project(self.project_text())

    def task(self, number: int) -> FieldTask:
        """A task as it was packed.

        Raises:
            InputError: there is none of this number, or it is damaged.
        """
        packed = self.manifest.task(number)
        return FieldTask(packed.id, packed.media.neutral(), self._text(packed.content))

    def work(self, task: int) -> Path:
        """The folder of what is done on a task; it need not exist."""
        return self.root / WORK / f"task-{task}"

    def _text(self, file: PackedFile) -> str:
        self._check(file)
        return self.path(file).read_text(encoding="utf-8")

    def _check(self, file: PackedFile) -> None:
        path = self.path(file)
        try:
            same = path.stat().st_size == file.bytes and file_hash(path) == file.sha256
        except OSError as error:
            raise InputError(file.path, f"is missing from the kit: {error.strerror}") from error
        if not same:
            raise InputError(file.path, "has changed since the kit was packed; pack it again")


def zip_kit(root: Path, target: Path) -> None:
    """Write a kit's folder as a zip; it appears under its name when it is complete."""
    part = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for path in sorted(root.rglob("*")):
                if path.is_file():  # media and weights are compressed already
                    archive.write(path, path.relative_to(root).as_posix())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _manifest_in(folder: Path) -> Manifest:
    path = folder / NAME
    if not path.is_file():
        raise InputError("kit", f"{folder} holds no {NAME}: expected what `edgetam field pack` made")
    if path.stat().st_size > MAX_MANIFEST:
        raise InputError(NAME, f"expected at most {MAX_MANIFEST:,} bytes")
    return Manifest.read(path.read_bytes())


def _unpacked(archive: Path) -> tuple[Path, Manifest]:
    """The folder beside a zip, and its manifest."""
    folder = archive.with_suffix("")
    if folder == archive:
        raise InputError("kit", f"expected a name that ends with .zip: {archive.name}")
    try:
        with zipfile.ZipFile(archive) as packed:
            manifest = _manifest_of(packed)
            if folder.exists():
                if not folder.is_dir() or _manifest_in(folder) != manifest:
                    raise InputError("kit", f"{folder} is there already, and is not this kit's")
                return folder, manifest
            _extract(packed, manifest, folder)
    except DAMAGE as error:
        raise InputError("kit", f"{archive.name} is damaged or cannot be unpacked: {error}") from error
    return folder, manifest


def _manifest_of(packed: zipfile.ZipFile) -> Manifest:
    try:
        entry = packed.getinfo(NAME)
    except KeyError as error:
        raise InputError("kit", f"the zip holds no {NAME}") from error
    if entry.file_size > MAX_MANIFEST:
        raise InputError(NAME, f"expected at most {MAX_MANIFEST:,} bytes")
    return Manifest.read(packed.read(entry))


def _extract(packed: zipfile.ZipFile, manifest: Manifest, folder: Path) -> None:
    """What the manifest names and nothing else, whole or not at all."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    part.mkdir()
    try:
        (part / NAME).write_bytes(packed.read(NAME))
        for file in manifest.files:
            _extract_one(packed, file, part / file.path)
        kit = Kit(part, manifest)
        kit.verify()
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _extract_one(packed: zipfile.ZipFile, file: PackedFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with packed.open(file.path) as incoming, target.open("wb") as outgoing:
            left = file.bytes
            while block := incoming.read(min(BLOCK, left + 1)):
                left -= len(block)
                if left < 0:  # a bomb: more than the manifest says
                    break
                outgoing.write(block)
    except KeyError as error:
        raise InputError(file.path, "is missing from the zip") from error
