"""Held-out objects before and after a fine-tuning, as pictures of what the models answered when scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask, mask_box
from edgetam_model.prompts import Prompt
from edgetam_model.render import Drawn, Rgb, draw_overlay
from edgetam_model.training.annotations import AnnotatedObject
from edgetam_model.training.fit_report import Example, Panel
from edgetam_model.windows import Window

if TYPE_CHECKING:
    from edgetam_model.training.fit_scores import FoundMask, Kind, ObjectScore
    from edgetam_model.training.task_clips import TaskClip

_MARGIN = 0.8  # of an object's longer side, shown around it on each side
_NEARLY_ALL = 0.7  # of a side of the picture; a part that large gives way to the whole
_WORTH = 0.01  # a smaller change is none that a picture shows
_POSITIVE, _NEGATIVE, _LIGHT, _DARK = (40, 200, 80), (235, 60, 50), (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True)
class PictureOptions:
    """Which objects are shown, and how large.

    Attributes:
        images, tracks: shown for each reason there is to show one.
        width: longer side of an image's panel, in pixels.
        tile: the same of a track's.

    Raises:
        InputError: a number out of range.
    """

    images: int = 2
    tracks: int = 1
    width: int = 420
    tile: int = 280

    def __post_init__(self) -> None:
        for name, least in (("images", 0), ("tracks", 0), ("width", 32), ("tile", 32)):
            if getattr(self, name) < least:
                raise InputError(name, f"expected at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Choice:
    """An object to be shown, and why."""

    why: str
    before: ObjectScore
    after: ObjectScore

    @property
    def gain(self) -> float:
        """Of its score."""
        return self.after.score - self.before.score


def draw_examples(
    clips: Sequence[TaskClip],
    before: Sequence[ObjectScore],
    after: Sequence[ObjectScore],
    options: PictureOptions = PictureOptions(),
) -> tuple[Example, ...]:
    """What changed most, what is worst, and what is typical: images first, then tracks.

    Args:
        clips: that were scored.
        before, after: from `score_clips`.
        options: how many.

    Raises:
        InputError: media that cannot be read.
    """
    homes = {(clip.task.id, each.id): (clip, each) for clip in clips for each in clip.objects}
    drawn: list[Example] = []
    for choice in choose(before, after, options):
        clip, each = homes[choice.after.task, choice.after.object]
        rows = _image_rows if choice.after.kind == "image" else _track_rows
        title = ", ".join((f"task {clip.task.id}", f"object {each.id}", *each.labels))
        drawn.append(
            Example(
                choice.why,
                title,
                choice.after.kind,
                choice.before.score,
                choice.after.score,
                rows(clip, each, choice, options),
            )
        )
    return tuple(drawn)


def choose(
    before: Sequence[ObjectScore], after: Sequence[ObjectScore], options: PictureOptions = PictureOptions()
) -> list[Choice]:
    """The objects worth a look, each once; for one reason no task is shown twice."""
    later = {(each.task, each.object): each for each in after}
    pairs = [
        Choice("", old, later[old.task, old.object]) for old in before if (old.task, old.object) in later
    ]
    pairs.sort(key=lambda pair: (pair.after.task, pair.after.object))
    return [
        choice
        for kind, count in _counts(options)
        for choice in _chosen([p for p in pairs if p.after.kind == kind and p.after.masks], count)
    ]


def _counts(options: PictureOptions) -> tuple[tuple[Kind, int], ...]:
    return ("image", options.images), ("track", options.tracks)


def _chosen(pairs: Sequence[Choice], count: int) -> Iterator[Choice]:
    if not pairs:
        return
    middle = median(pair.gain for pair in pairs)
    orders = {
        "gained most": sorted((p for p in pairs if p.gain > _WORTH), key=lambda p: -p.gain),
        "lost most": sorted((p for p in pairs if p.gain < -_WORTH), key=lambda p: p.gain),
        "still worst": sorted(pairs, key=lambda p: p.after.score),
        "typical": sorted(pairs, key=lambda p: abs(p.gain - middle)),
    }
    shown: set[tuple[str, int]] = set()
    for why, order in orders.items():
        for pair in islice(_of_other_tasks(order, shown), count):
            shown.add((pair.after.task, pair.after.object))
            yield Choice(why, pair.before, pair.after)


def _of_other_tasks(order: Sequence[Choice], shown: set[tuple[str, int]]) -> Iterator[Choice]:
    tasks: set[str] = set()
    for pair in order:
        if (pair.after.task, pair.after.object) not in shown and pair.after.task not in tasks:
            tasks.add(pair.after.task)
            yield pair


# Rows of panels ---------------------------------------------------------------------------------------


def _image_rows(
    clip: TaskClip, each: AnnotatedObject, choice: Choice, options: PictureOptions
) -> tuple[tuple[Panel, ...], ...]:
    """One row: the picture with what was shown to the models, the truth, both answers."""
    old, new = choice.before.masks[0], choice.after.masks[0]
    rgb = clip.file_frame(new.frame)
    truth = _truth(each, new.frame, rgb)
    part = _part_around([truth])
    asked = _prompted(rgb, _prompt(each, choice.after, truth), part, options.width)
    shown = "a person's" if choice.after.prompt == "given" else "the truth's box"
    return (
        (
            Panel(f"prompt: {shown}", f"The picture with the prompt, {shown}", asked),
            Panel("truth", "The mask that people drew", _drawn(rgb, truth, None, part, options.width)),
            _answer("before", rgb, old, truth, part, options.width),
            _answer("after", rgb, new, truth, part, options.width),
        ),
    )


def _track_rows(
    clip: TaskClip, each: AnnotatedObject, choice: Choice, options: PictureOptions
) -> tuple[tuple[Panel, ...], ...]:
    """Three film strips: the truth, and both answers on the same frames."""
    frames = [found.frame for found in choice.after.masks]
    pictures = [clip.file_frame(frame) for frame in frames]
    truths = [_truth(each, frame, rgb) for frame, rgb in zip(frames, pictures, strict=True)]
    part = _part_around(truths)
    true = tuple(
        Panel(
            f"frame {frame}: {'truth' if mask.any() else 'not there'}",
            f"Frame {frame} with the mask that people drew",
            _drawn(rgb, mask, None, part, options.tile),
        )
        for frame, rgb, mask in zip(frames, pictures, truths, strict=True)
    )
    answers = [
        tuple(
            _answer(name, rgb, found, truth, part, options.tile)
            for rgb, found, truth in zip(pictures, score.masks, truths, strict=True)
        )
        for name, score in (("before", choice.before), ("after", choice.after))
    ]
    return true, *answers


def _answer(name: str, rgb: Rgb, found: FoundMask, truth: Mask, part: Window, side: int) -> Panel:
    caption = f"{name}: {found.score:.2f}"
    alt = f"The model's mask {name}, {found.score:.2f} alike; the truth is outlined"
    return Panel(caption, alt, _drawn(rgb, found.mask(), truth, part, side))


def _truth(each: AnnotatedObject, frame: int, rgb: Rgb) -> Mask:
    """(H, W), empty where the object is away."""
    seen = each.sighting_on(frame)
    size = (rgb.shape[0], rgb.shape[1])
    return np.zeros(size, np.bool_) if seen is None else seen.shape.mask(size)


def _prompt(each: AnnotatedObject, score: ObjectScore, truth: Mask) -> Prompt | None:
    """What the models were shown."""
    seen = each.sighting_on(score.masks[0].frame)
    if score.prompt == "given" and seen is not None and seen.given is not None:
        return seen.given.prompt((truth.shape[0], truth.shape[1]))
    box = mask_box(truth)
    return None if box is None else Prompt(box=box)


# Drawing ----------------------------------------------------------------------------------------------


def _part_around(masks: Sequence[Mask]) -> Window:
    """The part of a picture that shows objects and their surroundings, with the picture's proportions."""
    height, width = masks[0].shape
    box = mask_box(np.logical_or.reduce(masks))
    if box is None:
        return Window.whole((height, width))
    x0, y0, x1, y1 = box
    margin = _MARGIN * max(x1 - x0, y1 - y0)
    share = max((x1 - x0 + 2 * margin) / width, (y1 - y0 + 2 * margin) / height)
    if share > _NEARLY_ALL:
        return Window.whole((height, width))
    wide, high = max(1, round(share * width)), max(1, round(share * height))
    left = min(max(round((x0 + x1 - wide) / 2), 0), width - wide)
    top = min(max(round((y0 + y1 - high) / 2), 0), height - high)
    return Window(left, top, left + wide, top + high)


def _drawn(rgb: Rgb, mask: Mask, outline: Mask | None, part: Window, side: int) -> Rgb:
    """A part of a picture with a tinted mask and, in white, the outline of another."""
    size = _panel_size(rgb, side)
    picture = _enlarged(rgb, part, size)
    tinted = draw_overlay(
        picture, [Drawn(1, "", _enlarged_mask(mask, part, size), "visible", 0.0)], captions=False
    )
    if outline is not None:
        shape = _enlarged_mask(outline, part, size).view(np.uint8)
        contours, _ = cv2.findContours(shape, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tinted, contours, -1, _LIGHT, 1, cv2.LINE_AA)
    return tinted


def _prompted(rgb: Rgb, prompt: Prompt | None, part: Window, side: int) -> Rgb:
    """The whole picture with clicks and box; where the other panels show a part of it, that is framed."""
    height, width = rgb.shape[:2]
    canvas = _enlarged(rgb, Window.whole((height, width)), _panel_size(rgb, side))
    scale = np.array((canvas.shape[1] / width, canvas.shape[0] / height))
    if part.size != (height, width):
        _frame(canvas, np.array(part.corners).reshape(2, 2) * scale, _LIGHT)
    if prompt is not None and prompt.box is not None:
        _frame(canvas, prompt.box.reshape(2, 2) * scale, _POSITIVE)
    if prompt is not None and prompt.points is not None:
        for point, label in zip(prompt.points * scale, prompt.labels, strict=True):
            x, y = (round(value) for value in point.tolist())
            cv2.circle(canvas, (x, y), 6, _LIGHT, -1, cv2.LINE_AA)
            cv2.circle(canvas, (x, y), 4, _POSITIVE if label else _NEGATIVE, -1, cv2.LINE_AA)
    return canvas


def _frame(
    canvas: Rgb, corners: np.ndarray[tuple[int, ...], np.dtype[np.floating]], colour: tuple[int, int, int]
) -> None:
    """A rectangle that is seen on light and on dark."""
    (x0, y0), (x1, y1) = corners.round().astype(int).tolist()
    cv2.rectangle(canvas, (x0 - 1, y0 - 1), (x1, y1), _DARK, 1)
    cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), colour, 1)


def _panel_size(rgb: Rgb, side: int) -> tuple[int, int]:
    """(H, W) of a picture's panels, the longer one `side`; of parts too, which have its proportions."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _enlarged(rgb: Rgb, part: Window, size: tuple[int, int]) -> Rgb:
    """A part as a panel of size (H, W)."""
    method = cv2.INTER_AREA if size[0] < part.size[0] else cv2.INTER_CUBIC
    return np.asarray(
        cv2.resize(np.ascontiguousarray(part.cut(rgb)), size[::-1], interpolation=method), np.uint8
    )


def _enlarged_mask(mask: Mask, part: Window, size: tuple[int, int]) -> Mask:
    """(H, W) of a part's picture; smooth edges where it is enlarged."""
    soft = np.ascontiguousarray(part.cut(mask)).astype(np.float32)
    method = cv2.INTER_AREA if size[0] < soft.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(soft, size[::-1], interpolation=method) > 0.5)
