"""What people type: clicks, boxes, masks, frames and ranges, as prompts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask
from edgetam_model.prompts import Prompt

# Nine digits: more frames than a year at 25 per second, and any id fits 32 bits.
_TARGET = re.compile(r"(?P<value>.*?)(?:@(?P<frame>[0-9]{1,9}))?(?:#(?P<id>[0-9]{1,9}))?", re.DOTALL)
_RANGE = re.compile(r"(?P<first>[0-9]{1,9})(?P<open>-(?P<last>[0-9]{1,9})?)?")
_LABEL = re.compile(r"(?P<id>[0-9]{1,9})=(?P<name>.*)", re.DOTALL)

_CLICK = "x,y, or x,y,0 for a negative click"
_BOX = "x0,y0,x1,y1"


@dataclass(frozen=True)
class Target:
    """Where a prompt applies.

    Attributes:
        frame: 0-based.
        object_id: from 1.
    """

    frame: int = 0
    object_id: int = 1


@dataclass(frozen=True, eq=False)
class PlacedPrompt:
    """One object's whole prompt on one frame."""

    target: Target
    prompt: Prompt


@dataclass(frozen=True)
class FrameRange:
    """Frames `first` to `last`, both included, 0-based; `last` None: to the end."""

    first: int = 0
    last: int | None = None

    def __str__(self) -> str:
        return f"{self.first}-{'' if self.last is None else self.last}"


def parse_click(text: str) -> tuple[float, float, int]:
    """`x,y` or `x,y,LABEL` → x, y in pixels and 1 (positive) or 0 (negative).

    Raises:
        InputError: anything else.
    """
    numbers = _numbers(text)
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] not in (0, 1)):
        raise InputError("point", f"expected {_CLICK}, got {text!r}")
    label = int(numbers[2]) if len(numbers) == 3 else 1
    return numbers[0], numbers[1], label


def parse_box(text: str) -> tuple[float, float, float, float]:
    """`x0,y0,x1,y1` in pixels.

    Raises:
        InputError: anything else, or corners in another order.
    """
    numbers = _numbers(text)
    if len(numbers) != 4:
        raise InputError("box", f"expected {_BOX}, got {text!r}")
    x0, y0, x1, y1 = numbers
    if x1 <= x0 or y1 <= y0:
        raise InputError("box", f"expected {_BOX} with x0 < x1 and y0 < y1, got {text!r}")
    return x0, y0, x1, y1


def split_target(field: str, text: str) -> tuple[str, Target]:
    """`VALUE[@FRAME][#ID]` → the value, and frame 0 and object 1 where they are left out.

    Raises:
        InputError: object 0, or no value.
    """
    match = _TARGET.fullmatch(text)
    if match is None or not match["value"]:  # the pattern takes any text; nothing before the @ is the fault
        raise InputError(field, f"expected a value before @FRAME#ID, got {text!r}")
    object_id = int(match["id"] or 1)
    if object_id < 1:
        raise InputError(field, f"expected an object id from 1 up, got {text!r}")
    return match["value"], Target(int(match["frame"] or 0), object_id)


def parse_range(text: str) -> FrameRange:
    """`A-B`, `A-` (to the end) or `A` (that frame alone), 0-based and inclusive.

    Raises:
        InputError: anything else, or B before A.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InputError("range", f"expected A-B, A- or A (0-based frames, both included), got {text!r}")
    first = int(match["first"])
    if match["open"] is None:
        return FrameRange(first, first)
    last = None if match["last"] is None else int(match["last"])
    if last is not None and last < first:
        raise InputError("range", f"expected A-B with A ≤ B, got {text!r}")
    return FrameRange(first, last)


def parse_labels(texts: Iterable[str]) -> dict[int, str]:
    """`ID=NAME` each → names by object id.

    Raises:
        InputError: anything else, or two names for one object.
    """
    labels: dict[int, str] = {}
    for text in texts:
        match = _LABEL.fullmatch(text)
        name = match["name"].strip() if match else ""
        if match is None or not name:
            raise InputError("label", f"expected ID=NAME, such as 1=dog, got {text!r}")
        if int(match["id"]) in labels:
            raise InputError("label", f"object {int(match['id'])} is named twice")
        labels[int(match["id"])] = name
    return labels


def place_prompts(
    points: Sequence[str], boxes: Sequence[str], masks: Sequence[str]
) -> tuple[PlacedPrompt, ...]:
    """All prompts of a `track`, by frame and object; clicks and a box of the same two become one prompt.

    Raises:
        InputError: no prompts at all, text that is none, two boxes or masks for one object on one frame.
    """
    clicks: dict[Target, list[tuple[float, float, int]]] = {}
    for text in points:
        value, target = split_target("point", text)
        clicks.setdefault(target, []).append(parse_click(value))
    box_of: dict[Target, Any] = {}
    for text in boxes:
        value, target = split_target("box", text)
        _claim("box", box_of, target, parse_box(value))
    mask_of: dict[Target, Any] = {}
    for text in masks:
        value, target = split_target("mask", text)
        _claim("mask", mask_of, target, read_mask(value))
    targets = sorted({*clicks, *box_of, *mask_of}, key=lambda t: (t.frame, t.object_id))
    if not targets:
        raise InputError("prompt", "expected at least one --point, --box or --mask, got none")
    return tuple(
        PlacedPrompt(target, make_prompt(clicks.get(target, []), box_of.get(target), mask_of.get(target)))
        for target in targets
    )


def make_prompt(
    clicks: Sequence[tuple[float, float, int]],
    box: tuple[float, float, float, float] | None = None,
    mask: Mask | None = None,
) -> Prompt:
    """One prompt of parsed clicks, a box or a mask.

    Raises:
        PromptError: a mask beside clicks or a box.
    """
    return Prompt(
        points=[(x, y) for x, y, _ in clicks] or None,
        labels=[label for _, _, label in clicks] or None,
        box=box,
        mask=mask,
    )


def read_mask(path: str | Path) -> Mask:
    """A mask (H, W) bool from an image file: whatever is not black is the object.

    Raises:
        InputError: not an image, or one that is all black or nowhere black.
    """
    from edgetam_model.video import read_image  # decoders load only for those who bring a mask

    mask: Mask = read_image(path).max(axis=2) > 0
    if not mask.any() or mask.all():
        found = "nothing is" if mask.all() else "everything is"
        raise InputError("mask", f"expected black around the object and another colour on it, {found} black")
    return mask


def _claim(field: str, taken: dict[Target, Any], target: Target, value: object) -> None:
    if target in taken:
        raise InputError(
            field,
            f"object {target.object_id} has two on frame {target.frame}; "
            f"name another object with #ID, such as @{target.frame}#{target.object_id + 1}",
        )
    taken[target] = value


def _numbers(text: str) -> list[float]:
    """Comma-separated finite numbers; empty where something else is among them."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
