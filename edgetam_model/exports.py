"""Tracks in the formats that other tools read, with every frame of the video written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgetam_model.errors import InputError
from edgetam_model.masks import decode_rle, mask_to_polygons, rle_area
from edgetam_model.tracks import FrameTracks, Tracks

Writer = Callable[[Tracks, Path], None]

POLYGON_TOLERANCE = (
    1.0  # pixels: leaves a tenth of the points, and an IoU of 0.98 for objects of 3,000 pixels
)


def export_tracks(tracks: Tracks, name: str, folder: str | Path, *, force: bool = False) -> Path:
    """Write the tracks as format `name` into `folder/name/` and return that folder.

    It appears under its name only when it is complete; an interruption leaves nothing behind.

    Args:
        name: one of `FORMATS`.
        force: replace `folder/name/` with all that is in it.

    Raises:
        InputError: an unknown format, a folder that exists, or tracks that the format cannot hold.
    """
    if name not in FORMATS:
        raise InputError("format", f"expected one of {', '.join(FORMATS)}, got {name!r}")
    final = Path(folder) / name
    if final.exists() and not (force and final.is_dir()):
        raise InputError("format", f"{final} exists; give force to replace the folder")
    with new_folder(final) as partial:
        FORMATS[name](tracks, partial)
    return final


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `final` when the block ends; an exception discards it."""
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    try:
        partial.mkdir(parents=True)
        yield partial
        if final.exists():
            final.replace(old)
        partial.replace(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if final.exists():  # else `old` is all there is
            shutil.rmtree(old, ignore_errors=True)


def write_coco(tracks: Tracks, folder: Path) -> None:
    """`annotations.json`: COCO for video. One image per frame, named `000000.jpg` by its 0-based index,
    with `frame_index` and `timestamp` in seconds; one annotation per visible object and frame, with
    run lengths, `bbox` x, y, width, height, `track_id` the object's id, `score` its object logit."""
    names = _labels(tracks)
    video = tracks.video
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for shown in tracks.by_frame():
        images.append(
            {
                "id": shown.frame + 1,
                "video_id": 1,
                "frame_index": shown.frame,
                "timestamp": shown.time,
                "file_name": f"{shown.frame:06d}.jpg",
                "width": video.width,
                "height": video.height,
            }
        )
        for track, record in shown.objects:
            if record.box is None or record.mask is None:
                continue
            rle = record.mask.rle()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": shown.frame + 1,
                    "video_id": 1,
                    "category_id": names.index(track.label) + 1,
                    "track_id": track.id,
                    "bbox": _xywh(record.box),
                    "area": rle_area(rle),
                    "segmentation": rle,
                    "iscrowd": 0,
                    "score": record.score,
                }
            )
    facts = {"name": video.name, "width": video.width, "height": video.height, "length": video.frames}
    document = {
        "info": {"description": f"Tracks of {video.name}", "version": "1.0"},
        "licenses": [],
        "videos": [{"id": 1, **facts, "fps": video.fps}],
        "categories": [{"id": index, "name": name} for index, name in enumerate(names, start=1)],
        "images": images,
        "annotations": annotations,
    }
    (folder / "annotations.json").write_text(json.dumps(document, separators=(",", ":")), "utf-8")


def write_mot(tracks: Tracks, folder: Path) -> None:
    """MOTChallenge: `gt/gt.txt`, `gt/labels.txt` (class names, line 1 is class 1) and `seqinfo.ini`.

    A line of gt.txt is frame, id, x, y, width, height, 1 (to be considered), class, 1 (visibility is not
    estimated). Frames are 1-based as the format wants; x and y count from 0, as CVAT and the evaluators
    read them.
    """
    names = _labels(tracks)
    video = tracks.video
    lines = []
    for shown in tracks.by_frame():
        for track, record in shown.objects:
            if record.box is not None:
                x, y, width, height = _xywh(record.box)
                kind = names.index(track.label) + 1
                lines.append(f"{shown.frame + 1},{track.id},{x},{y},{width},{height},1,{kind},1\n")
    (folder / "gt").mkdir()
    (folder / "gt" / "gt.txt").write_text("".join(lines), "utf-8")
    (folder / "gt" / "labels.txt").write_text(_name_lines(names), "utf-8")
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={video.name}\nimDir=img1\nframeRate={video.fps:g}\nseqLength={video.frames}\n"
        f"imWidth={video.width}\nimHeight={video.height}\nimExt=.jpg\n",
        "utf-8",
    )


def write_yolo(tracks: Tracks, folder: Path) -> None:
    """YOLO boxes: `labels/000000.txt` by 0-based frame, a line per visible object: class, then the box's
    centre x, centre y, width, height as fractions of the image; class names in `classes.txt` and
    `data.yaml`. A frame without objects has an empty file."""
    names = _labels(tracks)
    _yolo_names(names, folder)
    for shown in tracks.by_frame():
        lines = []
        for track, record in shown.objects:
            if record.box is not None:
                x0, y0, x1, y1 = record.box
                width, height = tracks.video.width, tracks.video.height
                values = (
                    (x0 + x1) / 2 / width,
                    (y0 + y1) / 2 / height,
                    (x1 - x0) / width,
                    (y1 - y0) / height,
                )
                lines.append(_yolo_line(names.index(track.label), values))
        (folder / "labels" / f"{shown.frame:06d}.txt").write_text("".join(lines), "utf-8")


def write_yolo_seg(tracks: Tracks, folder: Path) -> None:
    """YOLO segmentation: as `write_yolo`, a line per connected region: class, then x and y of its outline
    as fractions of the image. The format has no holes: they count as object."""
    names = _labels(tracks)
    _yolo_names(names, folder)
    scale = np.array([tracks.video.width, tracks.video.height])
    for shown in tracks.by_frame():
        lines = []
        for track, record in shown.objects:
            if record.mask is not None:
                for polygon in mask_to_polygons(decode_rle(record.mask.rle()), POLYGON_TOLERANCE):
                    values = tuple((polygon.outline / scale).ravel().tolist())
                    lines.append(_yolo_line(names.index(track.label), values))
        (folder / "labels" / f"{shown.frame:06d}.txt").write_text("".join(lines), "utf-8")


def write_davis(tracks: Tracks, folder: Path) -> None:
    """DAVIS: `00000.png` by 0-based frame, palette images whose index is the object's id, 0 background.
    A pixel has one object there: where masks overlap, the one with the higher id.

    Raises:
        InputError: object ids outside 1 to 255.
    """
    for track in tracks.objects:
        if not 1 <= track.id <= 255:
            raise InputError("format", f"davis holds object ids of 1 to 255, got {track.id}")
    palette = davis_palette().tobytes()
    for shown in tracks.by_frame():
        image = Image.fromarray(_index_mask(shown, tracks.video.height, tracks.video.width))
        image.putpalette(palette)
        image.save(folder / f"{shown.frame:05d}.png")


FORMATS: Mapping[str, Writer] = MappingProxyType(
    {
        "coco": write_coco,
        "mot": write_mot,
        "yolo": write_yolo,
        "yolo-seg": write_yolo_seg,
        "davis": write_davis,
    }
)


def davis_palette() -> NDArray[np.uint8]:
    """(256, 3) RGB of the DAVIS and Pascal VOC index images: bits 0, 1, 2 of the index, then 3, 4, 5 and
    so on, fill red, green and blue from their highest bit down."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        place, channel = divmod(bit, 3)
        palette[:, channel] |= (((index >> bit) & 1) << (7 - place)).astype(np.uint8)
    return palette


def _index_mask(shown: FrameTracks, height: int, width: int) -> NDArray[np.uint8]:
    indices = np.zeros((height, width), np.uint8)
    for track, record in shown.objects:
        if record.mask is not None:
            indices[decode_rle(record.mask.rle())] = track.id
    return indices


def _labels(tracks: Tracks) -> list[str]:
    """Distinct labels in the order of their objects: a class's number is its place here."""
    return list(dict.fromkeys(track.label for track in tracks.objects))


def _xywh(box: tuple[int, int, int, int]) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]


def _name_lines(names: list[str]) -> str:
    return "".join(" ".join(name.split()) + "\n" for name in names)  # a line break would shift the classes


def _yolo_names(names: list[str], folder: Path) -> None:
    (folder / "labels").mkdir()
    (folder / "classes.txt").write_text(_name_lines(names), "utf-8")
    listed = "".join(
        f"  {index}: {json.dumps(name, ensure_ascii=False)}\n" for index, name in enumerate(names)
    )
    (folder / "data.yaml").write_text(f"path: .\ntrain: images\nval: images\nnames:\n{listed}", "utf-8")


def _yolo_line(kind: int, values: tuple[float, ...]) -> str:
    return " ".join([str(kind), *(f"{value:.6f}" for value in values)]) + "\n"
