"""A version's folder: written once, sealed by a list of SHA-256 sums, read only where they hold.

`SHA256SUMS` has the format of sha256sum, so that `sha256sum -c SHA256SUMS` checks a version by hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from pydantic import JsonValue, ValidationError
from safetensors import SafetensorError, safe_open

from edgetam_model.errors import InputError, WeightsError
from edgetam_model.training.versions import NewVersion, VersionName, VersionRecord

WEIGHTS, RECORD, MANIFEST, REPORT = "weights.safetensors", "version.json", "manifest.json", "report"
SUMS = "SHA256SUMS"

_SUM = re.compile(r"([0-9a-f]{64})  (.+)")
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, eq=False)
class Version:
    """A version that is on disk.

    Attributes:
        folder: where.
        record: its facts.
        sums: SHA-256 of each of its files, by path below the folder.
    """

    folder: Path
    record: VersionRecord
    sums: Mapping[str, str]

    @property
    def name(self) -> VersionName:
        """What it is called."""
        return VersionName.parse(self.record.name)

    @property
    def content_hash(self) -> str:
        """SHA-256 over everything that is in it."""
        return hashlib.sha256(_sums_text(self.sums).encode()).hexdigest()


def copy_in(folder: Path, new: NewVersion) -> dict[str, str]:
    """Copy what a training hands over into a folder; the sums of its files.

    Raises:
        InputError: values that JSON cannot hold, or a file name that a list of sums cannot.
        OSError: a file that cannot be read or written.
    """
    sums = {
        WEIGHTS: _copy(new.weights, folder / WEIGHTS),
        MANIFEST: _write(folder / MANIFEST, _json_text("manifest", new.manifest)),
    }
    for source in sorted(new.report.rglob("*")) if new.report else []:
        if source.is_file() and new.report:
            name = f"{REPORT}/{source.relative_to(new.report).as_posix()}"
            if not name.isprintable() or "\\" in name:
                raise InputError("report", f"expected plain file names, got {name!r}")
            sums[name] = _copy(source, folder / name)
    return sums


def seal(folder: Path, name: VersionName, new: NewVersion, sums: Mapping[str, str]) -> None:
    """Write what makes the copied files a version.

    Raises:
        InputError: weights that `save_weights` did not write, or values that JSON cannot hold.
        OSError: a file that cannot be written.
    """
    record = VersionRecord(
        name=str(name),
        parent=new.parent,
        created=datetime.now(UTC),
        fingerprint=_fingerprint(folder / WEIGHTS),
        config=json.loads(_json_text("config", dict(new.config))),
        metrics=json.loads(_json_text("metrics", dict(new.metrics))),
    )
    everything = {**sums, RECORD: _write(folder / RECORD, record.model_dump_json(indent=2) + "\n")}
    _write(folder / SUMS, _sums_text(everything))
    sync_folder(folder)


def read_version(folder: Path, name: VersionName) -> Version:
    """The version in a folder; of its files only the record is held against its sum.

    Raises:
        WeightsError: missing, damaged, of a later release, or another version's.
    """
    sums = _read_sums(folder)
    raw = _read_checked(folder, sums, RECORD)
    try:
        record = VersionRecord.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise WeightsError(f"{folder / RECORD}: not of this release: {place}: {first['msg']}") from error
    if record.name != str(name):
        raise WeightsError(f"{folder}: is the version {record.name}, put into the place of {name}")
    return Version(folder, record, sums)


def read_manifest(version: Version) -> JsonValue:
    """Which annotations the version was trained on.

    Raises:
        WeightsError: missing or damaged.
    """
    manifest: JsonValue = json.loads(_read_checked(version.folder, version.sums, MANIFEST))
    return manifest


def check_file(version: Version, name: str) -> Path:
    """A file of a version, read from end to end and held against its sum.

    Raises:
        WeightsError: missing or damaged.
    """
    path = version.folder / name
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    _compare(path, found, version.sums.get(name, ""))
    return path


def check_all(version: Version) -> None:
    """Hold every file of a version against its sum.

    Raises:
        WeightsError: the first that is missing or damaged.
    """
    for name in version.sums:
        check_file(version, name)


def version_of_weights(path: Path) -> VersionName | None:
    """The version whose weights file this is; None for any other file."""
    if path.name != WEIGHTS or not path.with_name(SUMS).is_file():
        return None
    try:
        return VersionName.parse("/".join(path.absolute().parts[-3:-1]))
    except InputError:
        return None


def replace_file(path: Path, text: str) -> None:
    """Write a file so that every reader sees the old one or the new one, whole.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    beside = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        _write(beside, text)
        beside.replace(path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut, where the system can do so."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder; what is being deleted meanwhile counts or not."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(place, name).stat().st_size
    return size


def _copy(source: Path, target: Path) -> str:
    """Copy a file onto the disk itself; its SHA-256."""
    with source.open("rb") as reader, _to_disk(target) as writer:
        digest = hashlib.sha256()
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


def _write(target: Path, text: str) -> str:
    """Write a text onto the disk itself; its SHA-256."""
    raw = text.encode()
    with _to_disk(target) as writer:
        writer.write(raw)
    return hashlib.sha256(raw).hexdigest()


@contextmanager
def _to_disk(target: Path) -> Iterator[BinaryIO]:
    """A new file that is on the disk, not only in memory, when the block ends."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _json_text(field: str, value: JsonValue) -> str:
    try:
        return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(field, f"expected plain JSON values: {error}") from error


def _fingerprint(weights: Path) -> str:
    """What a weights file says of its content, without reading its tensors."""
    try:
        with safe_open(weights, framework="numpy") as file:
            mark = (file.metadata() or {}).get("fingerprint", "")
    except SafetensorError as error:
        raise InputError("weights", f"expected a safetensors file: {error}") from error
    if not mark:
        raise InputError("weights", "expected a file that save_weights wrote")
    return str(mark)


def _sums_text(sums: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def _read_sums(folder: Path) -> dict[str, str]:
    path = folder / SUMS
    try:
        lines = path.read_bytes().decode().removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    matches = [_SUM.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in matches if match}
    if len(sums) != len(lines) or not {WEIGHTS, RECORD, MANIFEST} <= set(sums):
        raise WeightsError(f"{path}: damaged: not the sums of a version")
    return sums


def _read_checked(folder: Path, sums: Mapping[str, str], name: str) -> bytes:
    path = folder / name
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    _compare(path, hashlib.sha256(raw).hexdigest(), sums[name])
    return raw


def _compare(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise WeightsError(f"{path}: damaged: SHA-256 {found[:12]}…, written with {expected[:12]}…")
