"""What an evaluation looks like: J over time as curves, and the worst frames with their true outlines."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgetam_model.annotated_clips import LabelledClip
from edgetam_model.render import FILL, Rgb, contact_sheet, object_colour
from edgetam_model.scores import ClipScore, Evaluation, WorstFrame, worst_frames

_SCALE = 2  # drawn at twice the size and averaged down: smooth lines
_PANEL = (560, 220)  # width and height of one clip's diagram, margins included
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 26, 24
_LEGEND = 30
_PAPER, _INK, _GRID = (255, 255, 255), (40, 40, 46), (222, 222, 228)
# The method first, in the strongest colour; the floors after it in quieter ones.
_LINES = ((200, 30, 60), (120, 130, 140), (40, 120, 190), (200, 150, 40), (90, 150, 80))


def plot_clips(evaluations: Sequence[Evaluation], title: str) -> Rgb:
    """J over time, (H, W, 3): one diagram per clip, one line per object, one colour per method.

    Args:
        evaluations: at least one, the method itself first; each draws the clips that it has.
        title: one line of ASCII.
    """
    clips = [clip.name for clip in evaluations[0].clips]
    columns = 1 if len(clips) == 1 else 2
    rows = -(-len(clips) // columns)
    size = (columns * _PANEL[0], 2 * _LEGEND + rows * _PANEL[1])
    image = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), _PAPER)
    draw = ImageDraw.Draw(image)
    _write(draw, 12, _LEGEND / 2, title, 15)
    _draw_legend(draw, [evaluation.method for evaluation in evaluations])
    for at, name in enumerate(clips):
        origin = (at % columns * _PANEL[0], 2 * _LEGEND + at // columns * _PANEL[1])
        scores = [_clip(evaluation, name) for evaluation in evaluations]
        _draw_panel(draw, origin, name, scores)
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def _clip(evaluation: Evaluation, name: str) -> ClipScore | None:
    return next((clip for clip in evaluation.clips if clip.name == name), None)


def _draw_legend(draw: ImageDraw.ImageDraw, methods: Sequence[str]) -> None:
    x, y = 12.0, 1.5 * _LEGEND
    for number, method in enumerate(methods):
        draw.line(_scaled([(x, y), (x + 22, y)]), _colour(number), 3 * _SCALE)
        x = _write(draw, x + 28, y, method, 13) + 24


def _draw_panel(
    draw: ImageDraw.ImageDraw, origin: tuple[int, int], name: str, scores: Sequence[ClipScore | None]
) -> None:
    """A clip's axes and lines; the first method on top of the others."""
    left, top = origin[0] + _LEFT, origin[1] + _TOP
    wide, high = _PANEL[0] - _LEFT - _RIGHT, _PANEL[1] - _TOP - _BOTTOM
    last = max(found.frames[-1] for score in scores if score for found in score.objects)
    _write(draw, left, top - 13, name, 14)
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = top + high * (1 - tick)
        draw.line(_scaled([(left, y), (left + wide, y)]), _GRID, _SCALE)
        _write(draw, left - 32, y, f"{tick:.2f}", 11)
    for frame in range(0, last + 1, _step(last)):
        _write(draw, left + wide * frame / max(1, last), top + high + 11, str(frame), 11)
    for number, score in reversed(list(enumerate(scores))):
        for found in score.objects if score else ():
            points = [
                (left + wide * frame / max(1, last), top + high * (1 - j))
                for frame, j in zip(found.frames, found.j, strict=True)
            ]
            draw.line(_scaled(points), _colour(number), (2 if number == 0 else 1) * _SCALE, joint="curve")


def _step(last: int) -> int:
    """Frames between labels: 1, 2 or 5 times a power of ten, about eight of them."""
    steps = (factor * int(10**power) for power in range(7) for factor in (1, 2, 5))
    return next(step for step in steps if step * 8 >= last)


def _colour(number: int) -> tuple[int, int, int]:
    if number < len(_LINES):
        return _LINES[number]
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.6, 0.7)
    return round(red * 255), round(green * 255), round(blue * 255)


def _scaled(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x * _SCALE, y * _SCALE) for x, y in points]


def _write(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int) -> float:
    """Write a line, its middle at height y, and say where it ends."""
    font = ImageFont.load_default(size * _SCALE)
    plain = text.encode("ascii", "replace").decode()  # the font has no more
    draw.text((x * _SCALE, y * _SCALE), plain, _INK, font, anchor="lm")
    return x + font.getlength(plain) / _SCALE


def worst_sheet(evaluation: Evaluation, clips: Sequence[LabelledClip], count: int = 12) -> Rgb:
    """The frames of lowest J, worst first: what was found as a tinted area, the truth as a white outline."""
    by_name = {clip.name: clip for clip in clips}
    tiles = []
    for worst in worst_frames(evaluation, count):
        caption = f"{worst.clip}  frame {worst.frame}  object {worst.object_id}  J {worst.j:.2f}"
        tiles.append((caption.encode("ascii", "replace").decode(), _tile(by_name[worst.clip], worst)))
    return contact_sheet(tiles)


def _tile(clip: LabelledClip, worst: WorstFrame) -> Rgb:
    with clip.open() as source:
        rgb = source.read(worst.frame)
    truth, _ = clip.truth(worst.frame, worst.object_id)
    colour = np.array(object_colour(worst.object_id))
    tinted = rgb.copy()
    tinted[worst.mask] = (rgb[worst.mask] * (1 - FILL) + colour * FILL).astype(np.uint8)
    contours, _ = cv2.findContours(truth.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = max(2, round(min(truth.shape) / 160))
    cv2.drawContours(tinted, contours, -1, (0, 0, 0), width + 2, cv2.LINE_AA)  # seen on white too
    cv2.drawContours(tinted, contours, -1, (255, 255, 255), width, cv2.LINE_AA)
    return tinted
