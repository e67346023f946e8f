"""What the demo shows: the boxes that Label Studio would draw, over the clip, and how well they fit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.demo_editor import Region
from backend.keyframe import MARK, Box
from edgetam_model import ContactSheet, DemoClip, Drawn, OverlayWriter, draw_overlay, open_source, save_png
from edgetam_model.masks import Mask, decode_rle, mask_box

CLIP, OVERLAY, SHEET = "clip.mp4", "overlay.mp4", "contact_sheet.png"
TRACKS, ANSWER, PICTURE = "tracks.json", "label_studio_answer.json", "thumbnail.jpg"
FILES = (CLIP, OVERLAY, SHEET, TRACKS, ANSWER, PICTURE)

LINE = 3  # pixels of a box's outline, in a frame of 640×360
FORMAT = "edgetam-demo"
WRONG = 0.5  # intersection over union below which anybody would put a box right
WHOLE = 0.8  # of an object's usual size: less of it, behind the plank, makes a poor prompt


@dataclass(frozen=True)
class BoxOnFrame:
    """What Label Studio shows of an object on a frame.

    Attributes:
        frame: of the file, 0-based; `time`: in seconds.
        box: x0, y0, x1, y1 in pixels; None where it shows nothing.
        score: confidence of the last keyframe, 0 to 1; None where a person drew that.
        iou: with the box around what is truly to be seen; 1 where neither is there.
    """

    frame: int
    time: float
    box: Box | None
    score: float | None
    iou: float


@dataclass(frozen=True)
class BoxTrack:
    """An object through the clip."""

    id: int
    label: str
    frames: tuple[BoxOnFrame, ...]

    @property
    def iou(self) -> float:
        """Mean over all frames."""
        return sum(shown.iou for shown in self.frames) / len(self.frames)

    @property
    def seen(self) -> int:
        """On how many frames it is shown."""
        return sum(shown.box is not None for shown in self.frames)


def tracks_of(regions: Mapping[str, Region], clip: DemoClip) -> list[BoxTrack]:
    """The tracks in Label Studio's regions, in pixels, frame by frame, held against the truth.

    Args:
        regions: by the objects' labels; their frame rate is the file's: number N shows frame N − 1.
    """
    with open_source(clip.path) as source:
        info = source.info
    tracks = []
    for number, name in clip.labels.items():
        sequence = regions[name]["value"]["sequence"]
        frames = []
        for frame, truth in enumerate(clip.masks):
            box, score = shown(sequence, frame + 1, (info.height, info.width))
            iou = box_iou(box, mask_box(decode_rle(truth[number])))  # none where nothing is to be seen
            frames.append(BoxOnFrame(frame, float(info.times[frame]), box, score, round(iou, 4)))
        tracks.append(BoxTrack(number, name, tuple(frames)))
    return tracks


def to_correct(track: BoxTrack, clip: DemoClip) -> tuple[int, Box] | None:
    """Where a person would put a box right: the first frame that is wrong while all of the object is seen.

    Returns:
        The frame of the file, 0-based, and the true box there in pixels; None: it is right everywhere.
    """
    masks = [decode_rle(truth[track.id]) for truth in clip.masks]
    whole = WHOLE * float(np.median([mask.sum() for mask in masks]))
    for at, mask in zip(track.frames, masks, strict=True):
        box = mask_box(mask)
        if box is not None and at.iou < WRONG and mask.sum() >= whole:
            return at.frame, box
    return None


def mean_iou(tracks: list[BoxTrack]) -> float:
    """Over all objects and frames."""
    return sum(track.iou for track in tracks) / len(tracks)


def shown(
    sequence: Sequence[Mapping[str, Any]], number: int, size: tuple[int, int]
) -> tuple[Box | None, float | None]:
    """The box in pixels that Label Studio draws on its frame `number`, and the confidence of its keyframe.

    Straight lines between keyframes, nothing before the first, the last is held; after a keyframe that is not
    enabled nothing is drawn until the next one.
    """
    before = [k for k in sequence if k["frame"] <= number]
    after = [k for k in sequence if k["frame"] > number]
    if not before or (before[-1]["frame"] < number and not before[-1]["enabled"]):
        return None, None
    last = next_one = before[-1]
    share = 0.0
    if last["frame"] < number and after:
        next_one = after[0]
        share = (number - last["frame"]) / (next_one["frame"] - last["frame"])
    x, y, w, h = (last[k] + (next_one[k] - last[k]) * share for k in ("x", "y", "width", "height"))
    height, width = size
    box = (x * width / 100, y * height / 100, (x + w) * width / 100, (y + h) * height / 100)
    return box, last.get(MARK, {}).get("score")


def box_iou(a: Box | None, b: Box | None) -> float:
    """Intersection over union; 1 where both are missing, 0 where one is."""
    if a is None or b is None:
        return float(a is b)
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    union = areas - width * height
    return width * height / union if union > 0 else 0.0


def write_tracks(tracks: list[BoxTrack], clip: DemoClip, folder: Path) -> None:
    """`tracks.json`: every object's box on every frame."""
    document = {
        "format": FORMAT,
        "video": clip.path.name,
        "mean_iou": round(mean_iou(tracks), 4),
        "objects": [asdict(track) for track in tracks],
    }
    write_json(folder / TRACKS, document)


def write_json(path: Path, document: object) -> None:
    """A JSON file that people can read."""
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def draw(tracks: list[BoxTrack], clip: DemoClip, folder: Path) -> None:
    """`overlay.mp4` and `contact_sheet.png`: the clip with the boxes on it."""
    sheet = ContactSheet()
    with open_source(clip.path) as source:
        info = source.info
        size = (info.height, info.width)
        with OverlayWriter(folder / OVERLAY, info.width, info.height, info.average_fps) as video:
            for frame, rgb in source.frames(0, info.frames - 1):
                drawn = draw_overlay(rgb, _drawn(tracks, frame, size))
                video.write(drawn, float(info.times[frame]))
                sheet.add(frame, float(info.times[frame]), drawn)
    save_png(folder / SHEET, sheet.render())


def _drawn(tracks: list[BoxTrack], frame: int, size: tuple[int, int]) -> Iterator[Drawn]:
    for track in tracks:
        at = track.frames[frame]
        mask = None if at.box is None else outline(at.box, size)
        sure = min(max(1.0 if at.score is None else at.score, 0.001), 0.999)
        logit = math.log(sure / (1 - sure))  # what is drawn takes it as the model gives it
        yield Drawn(track.id, track.label, mask, "visible" if at.box else "absent", logit)


def outline(box: Box, size: tuple[int, int]) -> Mask:
    """A box's outline as a mask (H, W)."""
    x0, y0, x1, y1 = (round(edge) for edge in box)
    mask = np.zeros(size, np.bool_)
    mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = True
    mask[max(0, y0 + LINE) : max(0, y1 - LINE), max(0, x0 + LINE) : max(0, x1 - LINE)] = False
    return mask
