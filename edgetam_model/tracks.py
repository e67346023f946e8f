"""The tracks file: what was followed through a video, frame by frame, as one versioned JSON document."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from edgetam_model.errors import EdgeTAMError, InputError
from edgetam_model.masks import Rle, encode_rle, rle_size
from edgetam_model.prompts import Prompt
from edgetam_model.results import FrameResult, ObjectResult, State

VERSION = 1
MAX_BYTES = 2**31  # 2 GiB: hours of video with dozens of objects; more is not a tracks file


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RleRecord(_Record):
    """A mask as COCO run lengths: `size` is [H, W], `counts` the compressed column-major string."""

    size: tuple[int, int]
    counts: str

    def rle(self) -> Rle:
        """The run lengths as `masks.decode_rle` takes them."""
        return {"size": list(self.size), "counts": self.counts}


class VideoFacts(_Record):
    """The video that was tracked.

    Attributes:
        name: its file's name, without folders.
        width, height: pixels of a frame as it is shown.
        frames: number of frames.
        fps: average frames per second.
        times: presentation time of every frame in seconds, ascending.
        warnings: what went wrong while reading it, in words for people.
    """

    name: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    frames: int = Field(gt=0)
    fps: float = Field(gt=0)
    times: tuple[float, ...]
    warnings: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_time_per_frame(self) -> Self:
        if len(self.times) != self.frames:
            raise ValueError(f"expected {self.frames} times, one per frame, got {len(self.times)}")
        return self


class ModelFacts(_Record):
    """The model that tracked: its name, a fingerprint of its weights, the options that differ by choice."""

    name: str
    fingerprint: str
    options: dict[str, JsonValue] = {}


class PromptRecord(_Record):
    """What a person gave on a frame, in pixels of the video.

    Attributes:
        frame: 0-based.
        points, labels: clicks (x, y), 1 positive or 0 negative.
        box: x0, y0, x1, y1.
        mask: the mask given.
        refined: whether the logits of an earlier result were fed back.
    """

    frame: int = Field(ge=0)
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[Literal[0, 1], ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: RleRecord | None = None
    refined: bool = False

    @classmethod
    def of(cls, frame: int, prompt: Prompt) -> PromptRecord:
        """The record of a prompt given on a frame."""
        return cls(
            frame=frame,
            points=() if prompt.points is None else tuple(map(tuple, prompt.points.tolist())),
            labels=() if prompt.labels is None else tuple(prompt.labels.tolist()),
            box=None if prompt.box is None else tuple(prompt.box.tolist()),
            mask=None if prompt.mask is None else _rle_record(encode_rle(prompt.mask)),
            refined=prompt.logits is not None,
        )


class FrameRecord(_Record):
    """One object on one frame.

    Attributes:
        frame: 0-based; `time`: its presentation time in seconds.
        state: "visible", "absent" (object score ≤ 0) or "lost" (no reliable mask for several frames).
        score: logit of the object being in the frame.
        iou: the model's own estimate of the mask's intersection over union, 0 to 1.
        box: x0, y0, x1, y1 in pixels, the far edges excluded; None where there is no mask.
        mask: the mask's run lengths; None where it is empty.
    """

    frame: int = Field(ge=0)
    time: float
    state: State
    score: float
    iou: float
    box: tuple[int, int, int, int] | None
    mask: RleRecord | None

    @model_validator(mode="after")
    def _box_with_mask(self) -> Self:
        if (self.box is None) != (self.mask is None):
            raise ValueError("expected box and mask both, or neither")
        return self


class ObjectTrack(_Record):
    """One object: the caller's id, its label, the prompts it was given, and its frames in order."""

    id: int
    label: str
    prompts: tuple[PromptRecord, ...] = ()
    frames: tuple[FrameRecord, ...] = ()

    @model_validator(mode="after")
    def _frames_in_order(self) -> Self:
        for earlier, later in zip(self.frames, self.frames[1:], strict=False):
            if later.frame <= earlier.frame:
                raise ValueError(f"expected ascending frames, got {later.frame} after {earlier.frame}")
        return self


class Tracks(_Record):
    """A whole tracks file. Objects are ascending by id."""

    format: Literal["edgetam-tracks"] = "edgetam-tracks"
    version: Literal[1] = 1
    video: VideoFacts
    model: ModelFacts
    objects: tuple[ObjectTrack, ...] = ()

    @model_validator(mode="after")
    def _fits_the_video(self) -> Self:
        ids = [track.id for track in self.objects]
        if ids != sorted(set(ids)):
            raise ValueError(f"expected ascending object ids without repeats, got {ids}")
        size = (self.video.height, self.video.width)
        for track in self.objects:
            if track.frames and track.frames[-1].frame >= self.video.frames:
                raise ValueError(f"object {track.id} has frames after the video's last")
            if any(record.mask and record.mask.size != size for record in track.frames):
                raise ValueError(f"object {track.id} has a mask of another size than the video")
        return self

    def by_frame(self) -> Iterator[FrameTracks]:
        """Every frame of the video in order, also those where nothing was tracked."""
        upcoming = [(track, iter(track.frames)) for track in self.objects]
        heads = [next(records, None) for _, records in upcoming]
        for frame, time in enumerate(self.video.times):
            found = []
            for index, (track, records) in enumerate(upcoming):
                head = heads[index]
                if head is not None and head.frame == frame:
                    found.append((track, head))
                    heads[index] = next(records, None)
            yield FrameTracks(frame, time, tuple(found))


@dataclass(frozen=True)
class FrameTracks:
    """One frame of a tracks file: its objects, ascending by id, each with its record there."""

    frame: int
    time: float
    objects: tuple[tuple[ObjectTrack, FrameRecord], ...]


def read_tracks(path: str | Path) -> Tracks:
    """Read a tracks file.

    Raises:
        InputError: no such file, not JSON, another format or version, or values that do not fit together.
    """
    source = Path(path)
    try:
        if source.stat().st_size > MAX_BYTES:
            raise InputError("tracks", f"expected a tracks file of at most {MAX_BYTES} bytes: {source.name}")
        text = source.read_bytes()
    except OSError as error:
        raise InputError("tracks", f"cannot read {source}: {error.strerror}") from error
    try:
        tracks = Tracks.model_validate_json(text)
    except ValidationError as error:
        raise _explained(error) from error
    for name in ("format", "version"):  # they have defaults for writers; a file must say them
        if name not in tracks.model_fields_set:
            raise InputError(name, "missing: not a tracks file")
    return tracks


def _explained(error: ValidationError) -> InputError:
    """The most telling of pydantic's complaints: another format or version explains all the others."""
    complaints = error.errors(include_url=False, include_context=False)
    first = min(complaints, key=lambda c: c["loc"][:1] not in (("format",), ("version",)))
    field = ".".join(str(part) for part in first["loc"]) or "tracks"
    given = first["input"]
    got = f", got {given!r:.60}" if isinstance(given, (str, int, float)) else ""
    hint = " (written by another release)" if field == "version" else ""
    return InputError(field, f"{first['msg'].removeprefix('Value error, ')}{got}{hint}")


class TracksWriter:
    """Writes a tracks file as the frames finish, in any order; a frame written again replaces the earlier.

    Frames wait in a private SQLite database on disk that vanishes with the process, so that memory stays
    flat over any number of frames. The file appears under its name, complete, at `close`; leaving the
    `with` block closes, also through an exception or Ctrl-C, so that what is finished is kept.

    Args:
        path: the file to write.
        video, model: what the file says about them.
        force: replace an existing file.

    Raises:
        InputError: the file exists and `force` is not set, or its folder does not.
    """

    def __init__(
        self, path: str | Path, video: VideoFacts, model: ModelFacts, *, force: bool = False
    ) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise InputError("path", f"no such folder: {self.path.parent}")
        if self.path.exists() and not force:
            raise InputError("path", f"{self.path} exists; give force to replace it")
        self._video = video
        self._model = model
        self._labels: dict[int, str] = {}
        self._prompts: dict[int, dict[int, PromptRecord]] = {}
        self._spool: sqlite3.Connection | None = _new_spool()

    def add_object(self, object_id: int, label: str = "object") -> None:
        """Name an object; without this, objects in the results are called "object"."""
        self._labels[object_id] = label

    def add_prompt(self, frame: int, object_id: int, prompt: Prompt) -> None:
        """Record the prompt that holds on a frame; it replaces the object's earlier prompt there."""
        self._labels.setdefault(object_id, "object")
        self._prompts.setdefault(object_id, {})[frame] = PromptRecord.of(frame, prompt)

    def warn(self, warnings: tuple[str, ...]) -> None:
        """Record what went wrong while reading the video, in place of what was recorded before."""
        self._video = self._video.model_copy(update={"warnings": warnings})

    def write(self, result: FrameResult) -> None:
        """Record a finished frame: all of its objects, in place of what was recorded for it before.

        Raises:
            InputError: a frame outside the video, a mask of another size, or a writer that is closed.
        """
        spool = self._open_spool()
        if not 0 <= result.frame < self._video.frames:
            raise InputError(
                "frame", f"expected 0 to {self._video.frames - 1}, the video's frames, got {result.frame}"
            )
        rows = []
        for object_id, found in result.objects.items():
            if found.size != (self._video.height, self._video.width):
                raise InputError(
                    "mask", f"expected the video's {self._video.height}×{self._video.width}, got {found.size}"
                )
            self._labels.setdefault(object_id, "object")
            rows.append((object_id, result.frame, _frame_record(result, found).model_dump_json()))
        try:
            with spool:  # one transaction: Ctrl-C in the middle keeps the earlier record
                spool.execute("DELETE FROM records WHERE frame = ?", (result.frame,))
                spool.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise EdgeTAMError(
                f"cannot spool frame {result.frame} to the temporary folder: {error}"
            ) from error

    def close(self) -> Path:
        """Write the file and put it under its name; a second call does nothing."""
        if self._spool is None:
            return self.path
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        try:
            with partial.open("w", encoding="utf-8") as out:
                self._write_document(out, self._spool)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(self.path)
        except (OSError, sqlite3.Error) as error:
            raise EdgeTAMError(f"cannot write {self.path}: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
            self._spool.close()
            self._spool = None
        return self.path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_spool(self) -> sqlite3.Connection:
        if self._spool is None:
            raise InputError("tracks", f"{self.path.name} is closed")
        return self._spool

    def _write_document(self, out: IO[str], spool: sqlite3.Connection) -> None:
        """One line per record, so that a diff of two files is one of frames."""
        out.write(f'{{"format":"edgetam-tracks","version":{VERSION},\n')
        out.write(f'"video":{self._video.model_dump_json()},\n"model":{self._model.model_dump_json()},\n')
        out.write('"objects":[')
        for index, object_id in enumerate(sorted(self._labels)):
            prompts = self._prompts.get(object_id, {})
            listed = ",".join(prompts[frame].model_dump_json() for frame in sorted(prompts))
            label = json.dumps(self._labels[object_id], ensure_ascii=False)
            comma = "," if index else ""
            out.write(f'{comma}\n{{"id":{object_id},"label":{label},"prompts":[{listed}],"frames":[')
            rows = spool.execute("SELECT json FROM records WHERE object = ? ORDER BY frame", (object_id,))
            for number, (record,) in enumerate(rows):
                out.write(f"{',' if number else ''}\n{record}")
            out.write("]}")
        out.write("]}\n")


def _new_spool() -> sqlite3.Connection:
    spool = sqlite3.connect("")  # the empty name: a private file in the temporary folder, never left behind
    spool.execute(
        "CREATE TABLE records (object INT, frame INT, json TEXT, PRIMARY KEY (object, frame)) WITHOUT ROWID"
    )
    spool.execute("CREATE INDEX frames ON records (frame)")
    return spool


def _frame_record(result: FrameResult, found: ObjectResult) -> FrameRecord:
    box = found.box
    return FrameRecord(
        frame=result.frame,
        time=float(result.time),
        state=found.state,
        score=round(float(found.object_score), 4),
        iou=round(float(found.iou), 4),
        box=box,
        mask=None if box is None else _rle_record(encode_rle(found.mask)),
    )


def _rle_record(rle: Rle) -> RleRecord:
    return RleRecord(size=rle_size(rle), counts=rle["counts"])
