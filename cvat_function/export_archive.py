"""A zip that somebody sent: read in bounds, and never written outside its folder. No torch."""

from __future__ import annotations

import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Protocol, Self

from edgetam_model import InputError

MAX_MEMBERS = 500_000
MAX_TOTAL = 2**37  # 128 GiB unpacked: a day of video as images
MAX_TEXT = 2**30  # 1 GiB of one annotation file
MAX_PICTURE = 2**28  # 256 MiB of one image
FRAME = re.compile(r"frame_([0-9]{6,9})")  # what CVAT calls the frames of a video

_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})
_FOLDERS = ("images", "JPEGImages")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, NotImplementedError, RuntimeError, UnicodeError, OverflowError),
)


class Bytes(Protocol):
    """What is read in pieces."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes, none at the end."""


class ExportArchive:
    """An open zip whose every member has been checked; close it, or use it in a `with`.

    Raises:
        InputError: not a zip or a damaged one; too many members or bytes; one that is encrypted, a link,
            packed in an unusual way, or named by a path that leads out of its folder.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        with _damage_is_input(self.name):
            self._zip = zipfile.ZipFile(path)
        try:
            infos = [info for info in self._zip.infolist() if not info.is_dir()]
            self._check(infos)
        except InputError:
            self.close()
            raise
        self._infos = {info.filename: info for info in infos}

    @property
    def members(self) -> tuple[str, ...]:
        """Names of its files."""
        return tuple(self._infos)

    def read(self, member: str, limit: int = MAX_PICTURE) -> bytes:
        """The bytes of a file of at most `limit`, whatever the zip says it has.

        Raises:
            InputError: larger, or damaged.
        """
        with self.open(member, limit) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InputError(member, f"expected at most {limit} bytes unpacked")
        return data

    @contextmanager
    def open(self, member: str, limit: int) -> Iterator[Bytes]:
        """A file for reading. Raises as `read`, also while it is read within the `with`."""
        info = self._infos[member]
        if info.file_size > limit:
            raise InputError(member, f"expected at most {limit} bytes unpacked, got {info.file_size}")
        with _damage_is_input(self.name):
            file = self._zip.open(info)
        with file:
            yield _Checked(file, self.name)

    def unpack(self, member: str, target: Path) -> Path:
        """Write a file to a path that the caller chose. Raises as `read`."""
        with self.open(member, MAX_PICTURE) as file:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(file, out, 2**20)  # a zip's reader stops at the size that was checked
        return target

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, infos: list[zipfile.ZipInfo]) -> None:
        if len(infos) > MAX_MEMBERS:
            raise InputError(self.name, f"expected at most {MAX_MEMBERS} files, got {len(infos)}")
        total = sum(info.file_size for info in infos)
        if total > MAX_TOTAL:
            raise InputError(self.name, f"expected at most {MAX_TOTAL} bytes unpacked, got {total}")
        for info in infos:
            name = info.filename
            if not _is_inside(name):
                raise InputError(self.name, f"expected paths inside the archive, got {name!r:.200}")
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(self.name, f"expected files, got a link: {name!r:.200}")
            if info.flag_bits & 1 or info.compress_type not in _METHODS:
                raise InputError(self.name, f"expected plain or deflated files, got another: {name!r:.200}")


class _Checked:
    """A file of the zip, whose damage shows as it is read."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name

    def read(self, size: int = -1, /) -> bytes:
        with _damage_is_input(self._name):
            return self._file.read(size)


@contextmanager
def _damage_is_input(name: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise InputError(name, f"damaged: {' '.join(str(error).split()):.200}") from error


class Pictures:
    """The images inside an export, found by the names that its annotations call them.

    Args:
        archive: the export; None where it is a file of annotations alone.
        folder: where images are unpacked to; None: they are not, and only their names are known.
    """

    def __init__(self, archive: ExportArchive | None, folder: Path | None) -> None:
        self._archive, self._folder = archive, folder
        members = archive.members if archive is not None and folder is not None else ()
        found = [PurePosixPath(member) for member in members]
        self._paths = [path for path in found if _is_picture(path)]
        self._by_stem = {str(path.with_suffix("")): str(path) for path in self._paths}

    def place(self, name: str, subset: str = "") -> str:
        """The path of an image once it is unpacked; its name where it is not inside."""
        if self._archive is None or self._folder is None:
            return name
        stem = str(PurePosixPath(name).with_suffix("")) if _is_picture(PurePosixPath(name)) else name
        for folder in _FOLDERS:
            for within in (subset, "", "default"):
                member = self._by_stem.get(str(PurePosixPath(folder, within, stem)))
                if member is not None:
                    return str(self._archive.unpack(member, self._folder / member))
        return name

    def frames(self) -> tuple[str, dict[int, int]] | None:
        """A folder with all frames of the one video inside, and the place there of each by its number.

        None: no frames are inside, they are of several videos, or they are not unpacked.
        """
        matches = [(FRAME.fullmatch(path.stem), path) for path in self._paths]
        numbered = sorted((int(match[1]), path) for match, path in matches if match)
        numbers = [number for number, _ in numbered]
        if self._archive is None or self._folder is None or not numbered or len(set(numbers)) < len(numbers):
            return None
        folder = self._folder / "frames"
        for number, path in numbered:
            self._archive.unpack(str(path), folder / f"{number:09d}{path.suffix.lower()}")
        return str(folder), {number: place for place, number in enumerate(numbers)}


def frame_number(name: str) -> int | None:
    """The number of a video's frame by its name in CVAT, `frame_000012.PNG`; None for other names."""
    path = PurePosixPath(name)
    match = FRAME.fullmatch(path.stem if _is_picture(path) else path.name)
    return int(match[1]) if match else None


def _is_picture(path: PurePosixPath) -> bool:
    return path.suffix.lower() in _PICTURES


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    plain = not any(character in name for character in "\0\\:") and not name.startswith("/")
    return plain and bool(parts) and ".." not in parts
