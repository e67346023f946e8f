"""What people drew on an image in Label Studio → objects: masks, boxes, given prompts. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from backend.bitmask_png import decode_bitmask
from backend.brush_rle import decode_brush
from backend.image_shapes import Bitmask, Brush, Click, Outline, Rectangle, checked, shape_class
from edgetam_model import InputError
from edgetam_model.masks import Mask, mask_box
from edgetam_model.training.annotations import (
    PERCENT,
    AnnotatedObject,
    BoxShape,
    Given,
    MaskShape,
    Origin,
    PolygonShape,
    Shape,
    Sighting,
)

MAX_DRAWN = 2**26  # pixels of a painted mask: larger than cameras make
COARSE = 256  # side of the masks that are looked at to tell which object a click or box belongs to
SAME_BOX = 0.5  # IoU from which a box is taken for the prompt of a mask rather than for an object of its own


class _Region(BaseModel):
    """One entry of a result list."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    id: str | None = None
    type: str
    value: dict[str, Any]
    origin: str | None = None
    is_positive: bool | None = None
    original_width: int | None = Field(default=None, ge=1, le=2**16)
    original_height: int | None = Field(default=None, ge=1, le=2**16)


@dataclass(frozen=True)
class _Click:
    """A click, in percent."""

    x: float
    y: float
    positive: bool
    labels: tuple[str, ...]


@dataclass
class _Found:
    """An object while its prompts are looked for; `coarse` (COARSE, COARSE) bool, None for a rectangle."""

    shape: Shape
    labels: tuple[str, ...]
    origin: Origin
    coarse: Mask | None = None
    box: BoxShape | None = None
    clicks: list[_Click] = field(default_factory=list)

    def given(self) -> Given | None:
        """What a person told the model about it, if anything."""
        if not self.clicks and self.box is None:
            return None
        marks: tuple[Literal[0, 1], ...] = tuple(1 if click.positive else 0 for click in self.clicks)
        return Given(tuple((click.x, click.y) for click in self.clicks), marks, PERCENT, self.box)


def region_labels(
    regions: Iterable[Mapping[str, Any]], buttons: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Region id → labels, from the entries by which `Labels` controls label what unlabelled tools draw.

    `buttons`: labels that are no classes, as Track is.
    """
    found: dict[str, tuple[str, ...]] = {}
    for region in regions:
        name, value = region.get("id"), region.get("value")
        if region.get("type") == "labels" and isinstance(name, str) and isinstance(value, Mapping):
            classes = tuple(label for label in texts(value.get("labels")) if label not in buttons)
            found[name] = classes or found.get(name, ())
    return found


def texts(value: object) -> tuple[str, ...]:
    """The texts of a list; none of anything else."""
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def image_objects(
    regions: Sequence[Mapping[str, Any]], labels: Mapping[str, tuple[str, ...]], ignored: Counter[str]
) -> tuple[AnnotatedObject, ...]:
    """The objects of one image, in the order drawn.

    Clicks on a mask and a box around one, of the same labels, are its prompt; a box around nothing is an
    object of its own. What a person took over from a model unchanged is the model's.

    Args:
        regions: those that draw on this image; a damaged one is left out.
        labels: from `region_labels`.
        ignored: counts what is left out.
    """
    painted: list[_Found] = []
    boxes: list[_Found] = []
    clicks: list[_Click] = []
    for raw in regions:
        try:
            found = _read(raw, labels)
        except InputError:
            ignored["damaged regions"] += 1
            continue
        kinds: list[Any] = clicks if isinstance(found, _Click) else boxes if _is_box(found) else painted
        kinds.append(found)
    if painted and (boxes or clicks):
        for found in painted:
            found.coarse = found.shape.mask((COARSE, COARSE))
    boxes = [box for box in boxes if not _around_a_mask(box, painted)]
    lost = sum(not _on_a_mask(click, painted) for click in sorted(clicks, key=lambda each: not each.positive))
    if lost:
        ignored["clicks that belong to no mask"] += lost
    return tuple(
        AnnotatedObject(number, each.labels, (Sighting(0, each.shape, each.origin, each.given()),))
        for number, each in enumerate((*painted, *boxes), start=1)
    )


def _read(raw: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]]) -> _Found | _Click:
    region = checked(_Region, raw, "region")
    kind = shape_class(region.type.lower())
    if kind is None:
        raise InputError("region.type", "expected a type that draws on an image")
    own = texts(region.value.get(region.type.lower())) or texts(region.value.get("labels"))
    chosen = own or labels.get(region.id or "", ())
    drawn = checked(kind, region.value, "region.value")
    if isinstance(drawn, Click):
        return _Click(drawn.x, drawn.y, region.is_positive is not False, chosen)
    origin: Origin = "model" if region.origin == "prediction" else "human"
    return _Found(_shape(drawn, region), chosen, origin)


def _shape(drawn: Rectangle | Brush | Bitmask | Outline, region: _Region) -> Shape:
    if isinstance(drawn, Rectangle):
        return BoxShape(drawn.x, drawn.y, drawn.width, drawn.height, PERCENT, drawn.rotation)
    if isinstance(drawn, Outline):
        return PolygonShape((drawn.points,), PERCENT)
    if isinstance(drawn, Bitmask):
        return MaskShape.of(decode_bitmask(drawn.image, MAX_DRAWN))
    height, width = region.original_height, region.original_width
    if height is None or width is None or height * width > MAX_DRAWN:
        raise InputError("region.original_width", f"expected the image's size, at most {MAX_DRAWN} pixels")
    return MaskShape.of(decode_brush(drawn.rle, height, width))


def _is_box(found: _Found) -> bool:
    return isinstance(found.shape, BoxShape)


def _around_a_mask(box: _Found, painted: Sequence[_Found]) -> bool:
    """Whether the box is the prompt of a mask; it is noted there."""
    free = [each for each in painted if each.box is None and each.labels == box.labels]
    best = max(free, key=lambda each: _overlap(box, each), default=None)
    if best is None or _overlap(box, best) < SAME_BOX or not isinstance(box.shape, BoxShape):
        return False
    best.box = box.shape
    return True


def _overlap(box: _Found, painted: _Found) -> float:
    """IoU of the box and the mask's box."""
    a = box.shape.box((COARSE, COARSE)) if isinstance(box.shape, BoxShape) else None
    b = None if painted.coarse is None else mask_box(painted.coarse)
    if a is None or b is None:
        return 0.0
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (a, b))
    return width * height / (areas - width * height)


def _on_a_mask(click: _Click, painted: Sequence[_Found]) -> bool:
    """Whether the click is part of one mask's prompt; it is noted there.

    A positive one lies on it. A negative one is of the only mask of its labels that has a prompt already.
    """
    alike = [each for each in painted if each.labels == click.labels]
    if click.positive:
        fitting = [each for each in alike if each.coarse is not None and _covers(each.coarse, click)]
    else:
        fitting = [each for each in alike if each.clicks or each.box]
    if len(fitting) != 1:
        return False
    fitting[0].clicks.append(click)
    return True


def _covers(coarse: Mask, click: _Click) -> bool:
    x, y = (int(np.clip(n * COARSE / 100, 0, COARSE - 1)) for n in (click.x, click.y))
    return bool(coarse[y, x])
