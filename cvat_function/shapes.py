"""CVAT's shapes: rectangles, polygons and masks, to prompts and back from masks. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvat_function.json_numbers import numbers
from cvat_function.rle import CORNERS, decode_mask, encode_mask
from edgetam_model import InputError, Prompt
from edgetam_model.masks import Mask, Polygon, mask_box, mask_to_polygons, polygons_to_mask

Corners = tuple[float, float, float, float]

TYPES = ("rectangle", "polygon", "mask")
TOLERANCE = 1.0  # pixels by which a polygon may leave the mask's outline, so that people can edit it
THIN = 0.01  # of a pixel: float32 does not tell apart edges of large images that are closer


@dataclass(frozen=True)
class Shape:
    """One shape as CVAT writes it, in pixels of the image.

    Attributes:
        type: rectangle, polygon or mask.
        points: x0, y0, x1, y1 of a rectangle, in the order drawn; x, y of each corner of a polygon, at least
            three; run lengths and corners of a mask (`rle.encode_mask`).
    """

    type: str
    points: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """`{"type": …, "points": […]}` in Python's own numbers; those of a mask are integers."""
        points = [int(n) for n in self.points] if self.type == "mask" else list(self.points)
        return {"type": self.type, "points": points}


def parse_shape(raw: object, field: str) -> Shape:
    """A shape from JSON: an object with `type` and `points`, or the four numbers of older servers.

    Args:
        raw: what the JSON has.
        field: what an error calls it, for example "shapes[2]".

    Raises:
        InputError: another type, too few points, or anything but finite numbers.
    """
    if isinstance(raw, list | tuple):
        return _checked(Shape("rectangle", numbers(field, raw)), field)
    if not isinstance(raw, Mapping):
        raise InputError(field, f"expected an object with type and points, got {type(raw).__name__}")
    kind = raw.get("type")
    if kind not in TYPES:
        raise InputError(f"{field}.type", f"expected {', '.join(TYPES)}, got {kind!r:.80}")
    if raw.get("rotation"):
        raise InputError(f"{field}.rotation", "rotated shapes cannot be tracked; draw it upright")
    return _checked(Shape(kind, numbers(f"{field}.points", raw.get("points"))), field)


def shape_prompt(shape: Shape, width: int, height: int) -> Prompt:
    """The prompt of a shape: a box for a rectangle, a mask for the others.

    A rectangle's corners are put in order and drawn into the image; a polygon is cut off at its edge.

    Args:
        shape: in pixels.
        width, height: of the image.

    Raises:
        InputError: nothing of it is inside the image, or a mask that is not of this image.
    """
    if shape.type == "rectangle":
        box = ordered_box(shape.points, width, height)
        if box is None:
            raise InputError("rectangle", f"expected one with an area inside the image ({width}×{height})")
        return Prompt(box=box)
    mask = shape_mask(shape, width, height)
    if not mask.any():
        raise InputError(shape.type, f"expected one that covers pixels of the image ({width}×{height})")
    return Prompt(mask=mask)


def shape_mask(shape: Shape, width: int, height: int) -> Mask:
    """The pixels (height, width) of a polygon or mask.

    Raises:
        InputError: a mask that is not of this image.
    """
    if shape.type == "mask":
        return decode_mask(shape.points, width, height)
    outline = np.array(shape.points, np.float32).reshape(-1, 2)
    return polygons_to_mask([Polygon(outline)], height, width)


def ordered_box(corners: Sequence[float], width: int, height: int) -> Corners | None:
    """x0 < x1 and y0 < y1 inside the image, of two opposite corners; None where no area is left."""
    xs, ys = corners[0::2], corners[1::2]
    x0, x1 = (min(max(x, 0.0), float(width)) for x in (min(xs), max(xs)))
    y0, y1 = (min(max(y, 0.0), float(height)) for y in (min(ys), max(ys)))
    return (x0, y0, x1, y1) if x1 - x0 >= THIN and y1 - y0 >= THIN else None


def shape_of_mask(mask: Mask, type: str) -> Shape | None:  # noqa: A002  CVAT's own word
    """The shape that draws a mask (H, W) bool; None for an empty one.

    A rectangle surrounds it; a polygon is the outline of its largest region without holes, since CVAT's
    polygons have neither holes nor parts.

    Raises:
        InputError: not one of rectangle, polygon and mask.
    """
    if type not in TYPES:
        raise InputError("type", f"expected {', '.join(TYPES)}, got {type!r:.80}")
    box = mask_box(mask)
    if box is None:
        return None
    if type == "rectangle":
        return Shape(type, tuple(float(edge) for edge in box))
    if type == "mask":
        return Shape(type, tuple(encode_mask(mask)))
    outline = mask_to_polygons(mask, TOLERANCE)[0].outline
    return Shape(type, tuple(outline.ravel().tolist()))


def _checked(shape: Shape, field: str) -> Shape:
    count = len(shape.points)
    if shape.type == "rectangle" and count != 4:
        raise InputError(f"{field}.points", f"expected x0, y0, x1, y1, got {count} numbers")
    if shape.type == "polygon" and (count < 6 or count % 2):
        raise InputError(f"{field}.points", f"expected x, y of at least three points, got {count} numbers")
    if shape.type == "mask" and count <= CORNERS:
        raise InputError(f"{field}.points", f"expected run lengths and four corners, got {count} numbers")
    return shape
