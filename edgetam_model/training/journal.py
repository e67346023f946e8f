"""What a training leaves to read: a CSV row per update and per validation, and a picture of both."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import EdgeTAMError

Row = TypeVar("Row", "LossRow", "ScoreRow")

LOSSES, SCORES, CURVES = "losses.csv", "scores.csv", "curves.png"

_SIZE, _MARGIN, _GAP = (860, 340), 60, 30  # of a panel: width and height, what the axes take
_PAPER, _INK, _PALE, _STRONG = (255, 255, 255), (60, 60, 60), (225, 200, 175), (190, 90, 20)  # BGR
_OTHERS = ((60, 160, 60), (40, 40, 200))


@dataclass(frozen=True)
class LossRow:
    """One update: what was minimised, each part unweighted, and how.

    Attributes:
        step: updates done, this one included.
        stage: "image" or "video".
        total: the weighted sum.
        rate: learning rate.
        norm: of the gradients, before clipping.
        seconds: since this process began training.
    """

    step: int
    stage: str
    total: float
    focal: float
    dice: float
    iou: float
    presence: float
    image_alignment: float
    memory_alignment: float
    rate: float
    norm: float
    seconds: float


@dataclass(frozen=True)
class ScoreRow:
    """One validation, see `validation.Scores`.

    Attributes:
        step: updates done.
        box, click: IoU on the first frame.
        track: mean J of the later frames.
        last: J on the last frame.
        frames: J of each later frame, with spaces between.
    """

    step: int
    box: float
    click: float
    track: float
    last: float
    frames: str


class Journal:
    """The two tables of a training in its folder.

    Args:
        folder: where they are; it exists.
        step: rows of later updates are dropped: the training goes on from here.

    Raises:
        EdgeTAMError: the tables cannot be read or written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self.losses: list[LossRow] = [r for r in _read(folder / LOSSES, LossRow) if r.step <= step]
        self.scores: list[ScoreRow] = [r for r in _read(folder / SCORES, ScoreRow) if r.step <= step]
        _write(folder / LOSSES, LossRow, self.losses)
        _write(folder / SCORES, ScoreRow, self.scores)

    def add(self, row: LossRow | ScoreRow) -> None:
        """Append a row to its table."""
        if isinstance(row, LossRow):
            self.losses.append(row)
            _append(self.folder / LOSSES, row)
        else:
            self.scores.append(row)
            _append(self.folder / SCORES, row)

    def draw(self) -> None:
        """Write the picture of the curves."""
        ok = cv2.imwrite(str(self.folder / CURVES), draw_curves(self.losses, self.scores))
        if not ok:
            raise EdgeTAMError(f"{self.folder / CURVES}: cannot be written")


def draw_curves(losses: Sequence[LossRow], scores: Sequence[ScoreRow]) -> NDArray[np.uint8]:
    """(H, W, 3) BGR: the total loss and its running mean over its logarithm, below it the scores."""
    end = max([1, *(row.step for row in losses)])
    values = [math.log10(max(row.total, 1e-6)) for row in losses]
    low, high = (math.floor(min(values)), math.ceil(max(values))) if values else (-1, 1)
    span = (low, max(high, low + 1))
    upper = _panel(
        "loss, logarithmic; dark: running mean",
        end,
        [(t, f"{10.0**t:g}") for t in range(span[0], span[1] + 1)],
    )
    steps = [row.step for row in losses]
    _line(upper, steps, values, end, span, _PALE)
    _line(upper, steps, _smooth(values), end, span, _STRONG)

    ticks = [(i / 5, f"{i / 5:.1f}") for i in range(6)]
    lower = _panel("held out: J tracked (blue), IoU from box (green) and click (red)", end, ticks)
    steps = [row.step for row in scores]
    for name, colour in zip(("track", "box", "click"), (_STRONG, *_OTHERS), strict=True):
        _line(lower, steps, [getattr(row, name) for row in scores], end, (0, 1), colour)
    return np.concatenate((upper, lower))


def _panel(title: str, end: int, ticks: Sequence[tuple[float, str]]) -> NDArray[np.uint8]:
    """An empty diagram with its title, grid and numbers."""
    width, height = _SIZE
    panel = np.full((height, width, 3), _PAPER, np.uint8)
    span = (ticks[0][0], ticks[-1][0])
    for value, text in ticks:
        ((x, y),) = _places([0], [value], end, span)
        cv2.line(panel, (x, y), (width - _GAP, y), (225, 225, 225), 1)
        cv2.putText(panel, text, (6, y + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
    for part in range(5):
        step = end * part // 4
        ((x, _),) = _places([step], [span[0]], end, span)
        cv2.putText(
            panel, str(step), (x - 8, height - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA
        )
    cv2.putText(panel, title, (_MARGIN, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 1, cv2.LINE_AA)
    return panel


def _line(
    panel: NDArray[np.uint8],
    steps: Sequence[int],
    values: Sequence[float],
    end: int,
    span: tuple[float, float],
    colour: tuple[int, int, int],
) -> None:
    places = _places(steps, values, end, span)
    if len(places) == 1:
        cv2.circle(panel, places[0], 3, colour, -1, cv2.LINE_AA)
    elif places:
        cv2.polylines(panel, [np.array(places, np.int32)], False, colour, 1, cv2.LINE_AA)


def _places(
    steps: Sequence[int], values: Sequence[float], end: int, span: tuple[float, float]
) -> list[tuple[int, int]]:
    """Pixels (x, y) of the points in a panel."""
    width, height = _SIZE[0] - _MARGIN - _GAP, _SIZE[1] - 2 * _GAP - 10
    low, high = span
    return [
        (round(_MARGIN + s / end * width), round(_GAP + (high - v) / (high - low) * height))
        for s, v in zip(steps, values, strict=True)
    ]


def _smooth(values: Sequence[float]) -> list[float]:
    """A running mean that halves a value's part every 1/50 of the curve."""
    keep = 0.5 ** (1 / max(len(values) / 50, 1))
    smooth: list[float] = []
    for value in values:
        smooth.append(value if not smooth else keep * smooth[-1] + (1 - keep) * value)
    return smooth


def _read(path: Path, kind: type[Row]) -> list[Row]:
    if not path.is_file():
        return []
    kinds = {"int": int, "float": float, "str": str}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        return [kind(**{f.name: kinds[str(f.type)](row[f.name]) for f in fields(kind)}) for row in table]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise EdgeTAMError(f"{path}: cannot be read as this training's table: {error}") from error


def _write(path: Path, kind: type, rows: Sequence[LossRow | ScoreRow]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(kind)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    except OSError as error:
        raise EdgeTAMError(f"{path}: cannot be written: {error.strerror}") from error


def _append(path: Path, row: LossRow | ScoreRow) -> None:
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, [f.name for f in fields(row)]).writerow(asdict(row))
    except OSError as error:
        raise EdgeTAMError(f"{path}: cannot be written: {error.strerror}") from error
