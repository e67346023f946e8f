"""What was uploaded, in a file: enough to take exactly that back, and to see what people did to it since."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from cvat_function.video.records import (
    MODEL_MADE,
    Annotations,
    Attribute,
    LabeledShape,
    Record,
    Track,
    TrackedShape,
)
from edgetam_model import InputError

VERSION = 1
EDITED = "semi-auto"  # the source that CVAT's page gives to what a model made and a person changed
NEAR = 0.011  # pixels: the server may write a coordinate of two decimals a little differently
Item = TypeVar("Item", Track, LabeledShape)


class JobUpload(Record):
    """What one job got. Ids are missing where the answer to the upload never came.

    Attributes:
        newest_track, newest_shape: the highest ids before the upload. CVAT's ids only grow, with every edit
            too, so that nothing up to them is the upload's or was made of it.
        begun: whether any of it may have arrived.
    """

    job: int
    annotations: Annotations
    newest_track: int = 0
    newest_shape: int = 0
    begun: bool = False

    def beginning(self, now: Annotations) -> JobUpload:
        """This upload, about to be sent to a job that has `now`."""
        tracks, shapes = (max((i.id or 0 for i in items), default=0) for items in (now.tracks, now.shapes))
        return self.model_copy(update={"newest_track": tracks, "newest_shape": shapes, "begun": True})


class Receipt(Record):
    """One upload.

    Attributes:
        server: its address.
        first, last: frames tracked, as the task counts them.
        jobs: written before they are sent; what never arrived is found missing and does no harm.
        taken_back: whether `undo` is done with it.
    """

    version: int = VERSION
    server: str
    task: int
    created: str
    weights: str
    first: int
    last: int
    jobs: tuple[JobUpload, ...] = ()
    taken_back: bool = False

    def save(self, path: Path) -> None:
        """Write the file in one step: a crash leaves the old one or the new one."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(self.to_json(), separators=(",", ":")) + "\n", encoding="utf-8")
        part.replace(path)

    def with_job(self, upload: JobUpload) -> Receipt:
        """This receipt with another word on one of its jobs."""
        jobs = tuple(upload if upload.job == j.job else j for j in self.jobs)
        return self.model_copy(update={"jobs": jobs})


@dataclass(frozen=True)
class Standing:
    """What became of one job's upload.

    Attributes:
        untouched: as it was sent; its ids are those of today.
        edited: in words, what a person has changed.
        missing: never arrived, or removed since.
    """

    untouched: Annotations
    edited: tuple[str, ...]
    missing: Annotations


def load_receipt(path: Path) -> Receipt:
    """Read a receipt.

    Raises:
        InputError: missing, no receipt, or one of another version.
    """
    try:
        receipt = Receipt.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError("receipt", f"there is no file {path}") from error
    except IsADirectoryError as error:
        raise InputError("receipt", f"expected a file, {path} is a folder") from error
    except ValidationError as error:
        raise InputError("receipt", f"{path.name} is no receipt of `edgetam cvat track`") from error
    if receipt.version != VERSION:
        raise InputError("receipt", f"expected version {VERSION}, {path.name} has {receipt.version}")
    return receipt


def check_free(path: Path) -> None:
    """Raise where a receipt that still counts would be written over, or the folder cannot be written.

    Raises:
        InputError: that, in words for people.
    """
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError("receipt", f"cannot write into the folder {path.parent}")
    if path.exists() and not load_receipt(path).taken_back:
        raise InputError(
            "receipt",
            f"{path} is there from an earlier upload: take that back with `edgetam cvat undo {path}`, "
            "or name another file with --receipt",
        )


def newest_receipt(folder: Path, server: str, task: int) -> Path:
    """The file in a folder with the newest upload to a task that is not taken back.

    Raises:
        InputError: there is none.
    """
    found: list[tuple[str, Path]] = []
    for path in sorted(folder.glob("*.json")):
        try:
            receipt = load_receipt(path)
        except InputError:
            continue  # other JSON lies there too
        if receipt.task == task and receipt.server == server and not receipt.taken_back:
            found.append((receipt.created, path))
    if not found:
        raise InputError(
            "task", f"no receipt of an upload to task {task} of {server} in {folder}; name its FILE"
        )
    return max(found)[1]


def standing_of(upload: JobUpload, now: Annotations) -> Standing:
    """Find an upload again among what a job has now.

    CVAT gives an annotation new ids with every change, so that content decides; an id only breaks ties.
    """
    later_tracks = [track for track in now.tracks if (track.id or 0) > upload.newest_track]
    later_shapes = [shape for shape in now.shapes if (shape.id or 0) > upload.newest_shape]
    tracks, lost_tracks = find_again(upload.annotations.tracks, later_tracks)
    shapes, lost_shapes = find_again(upload.annotations.shapes, later_shapes)
    other_tracks = _others(later_tracks, tracks)
    other_shapes = _others(later_shapes, shapes)
    edited: list[str] = []
    missing_tracks: list[Track] = []
    for track in lost_tracks:
        heir = next((other for other in other_tracks if _descends(track, other)), None)
        if heir is None:
            missing_tracks.append(track)
        else:
            edited.append(f"track:{heir.id} from frame {heir.frame} on")
    missing_shapes: list[LabeledShape] = []
    for shape in lost_shapes:
        successor = next((other for other in other_shapes if _succeeds(shape, other)), None)
        if successor is None:
            missing_shapes.append(shape)
        else:
            edited.append(f"shape:{successor.id} on frame {shape.frame}")
    return Standing(
        Annotations(tracks=tracks, shapes=shapes),
        tuple(dict.fromkeys(edited)),
        Annotations(tracks=tuple(missing_tracks), shapes=tuple(missing_shapes)),
    )


def find_again(sent: Sequence[Item], now: Sequence[Item]) -> tuple[tuple[Item, ...], list[Item]]:
    """Those of `now` that are as they were sent, each once, and those of `sent` that are not there."""
    found: list[Item] = []
    lost: list[Item] = []
    taken: set[int | None] = set()
    beginning = defaultdict(list)  # thousands of masks are not compared with one another
    for item in now:
        beginning[item.label_id, item.frame].append(item)
    for item in sent:
        near = beginning[item.label_id, item.frame]
        twins = [other for other in near if other.id not in taken and _same(item, other)]
        twin = next((other for other in twins if other.id == item.id), twins[0] if twins else None)
        if twin is None:
            lost.append(item)
        else:
            taken.add(twin.id)
            found.append(twin)
    return tuple(found), lost


def _others(now: Sequence[Item], found: Sequence[Item]) -> list[Item]:
    ids = {item.id for item in found}
    return [item for item in now if item.id not in ids]


def _same(sent: Track | LabeledShape, now: Track | LabeledShape) -> bool:
    if sent.source != now.source or not _has_attributes(now.attributes, sent.attributes):
        return False
    if isinstance(sent, Track):
        assert isinstance(now, Track)
        return len(sent.shapes) == len(now.shapes) and all(map(_same_shape, sent.shapes, now.shapes))
    assert isinstance(now, LabeledShape)
    return _same_drawing(sent, now)


def _same_shape(sent: TrackedShape, now: TrackedShape) -> bool:
    return (
        sent.outside == now.outside
        and _has_attributes(now.attributes, sent.attributes)
        and _same_drawing(sent, now)
    )


def _same_drawing(sent: TrackedShape | LabeledShape, now: TrackedShape | LabeledShape) -> bool:
    facts = (sent.type, sent.frame, sent.occluded, sent.z_order, sent.rotation, len(sent.points))
    if facts != (now.type, now.frame, now.occluded, now.z_order, now.rotation, len(now.points)):
        return False
    return all(abs(a - b) <= NEAR for a, b in zip(sent.points, now.points, strict=True))


def _has_attributes(now: Iterable[Attribute], sent: Iterable[Attribute]) -> bool:
    """Whether every value that was sent is there; the server adds the defaults of others."""
    return set(sent) <= set(now)


def _descends(sent: Track, now: Track) -> bool:
    """Whether a track is an edit of what was sent: at least half of the shorter one's shapes are equal.

    What a person began from nothing stays "manual" and is none.
    """
    if now.source not in (MODEL_MADE, EDITED):
        return False
    ours = {shape.frame: shape for shape in sent.shapes}
    equal = sum(shape.frame in ours and _same_drawing(ours[shape.frame], shape) for shape in now.shapes)
    return 2 * equal >= min(len(ours), len(now.shapes)) > 0


def _succeeds(sent: LabeledShape, now: LabeledShape) -> bool:
    """Whether a shape may be an edit of what was sent; CVAT's page says so in its source."""
    return now.source == EDITED and (now.frame, now.type) == (sent.frame, sent.type)
