"""What people draw on an image in Label Studio, in its percent, and the same in pixels."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, radians, sin
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.bitmask_png import decode_bitmask
from backend.brush_rle import decode_brush
from edgetam_model import InputError, PromptError
from edgetam_model.masks import Mask, Polygon, polygons_to_mask

Size = tuple[int, int]
Percent = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]
Checked = TypeVar("Checked", bound=BaseModel)

EDGE = 1.0  # percent that a click may lie outside: the editor lets the mouse slip over the border
MAX_OUTLINE = 100_000  # points of a polygon; people draw hundreds
_LENIENT = ConfigDict(frozen=True, extra="ignore")


class Click(BaseModel):
    """A keypoint. What says nothing about being positive is: the editor loses it when a draft is reloaded."""

    model_config = _LENIENT

    x: Percent
    y: Percent
    positive: bool = True

    def pixel(self, size: Size) -> tuple[float, float]:
        """x, y in pixels of an image of size (H, W).

        Raises:
            PromptError: more than 1 % outside the image.
        """
        if not (-EDGE <= self.x <= 100 + EDGE and -EDGE <= self.y <= 100 + EDGE):
            raise PromptError("points", f"expected 0 to 100 percent, got ({self.x:g}, {self.y:g})")
        height, width = size
        return min(max(self.x, 0), 100) * width / 100, min(max(self.y, 0), 100) * height / 100


class Rectangle(BaseModel):
    """A rectangle, turned clockwise about its top left corner by `rotation` degrees."""

    model_config = _LENIENT

    x: Percent
    y: Percent
    width: Percent
    height: Percent
    rotation: Annotated[float, Field(allow_inf_nan=False)] = 0

    def box(self, size: Size) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the upright box around it in pixels of an image of size (H, W), cut to the image.

        The turn happens in pixels: in percent, a square would not stay one.
        """
        image_height, image_width = size
        x, y = self.x * image_width / 100, self.y * image_height / 100
        width, height = self.width * image_width / 100, self.height * image_height / 100
        along, down = cos(radians(self.rotation)), sin(radians(self.rotation))
        xs = (x, x + width * along, x - height * down, x + width * along - height * down)
        ys = (y, y + width * down, y + height * along, y + width * down + height * along)
        return (
            max(min(xs), 0.0),
            max(min(ys), 0.0),
            min(max(xs), float(image_width)),
            min(max(ys), float(image_height)),
        )


class Brush(BaseModel):
    """A painted mask, see `brush_rle`."""

    model_config = _LENIENT

    rle: list[Any]

    def mask(self, size: Size, drawn_at: Size) -> Mask:
        """(H, W) bool of the image, drawn at the size that the browser saw."""
        return fitted(decode_brush(self.rle, *drawn_at), size)


class Bitmask(BaseModel):
    """A painted mask, see `bitmask_png`."""

    model_config = _LENIENT

    image: str = Field(alias="imageDataURL")

    def mask(self, size: Size, drawn_at: Size) -> Mask:
        """(H, W) bool of the image, drawn at the size that the browser saw."""
        largest = max(size[0] * size[1], drawn_at[0] * drawn_at[1])
        return fitted(decode_bitmask(self.image, largest), size)


class Outline(BaseModel):
    """A polygon."""

    model_config = _LENIENT

    points: Annotated[tuple[tuple[Percent, Percent], ...], Field(min_length=3, max_length=MAX_OUTLINE)]

    def mask(self, size: Size, _drawn_at: Size) -> Mask:
        """(H, W) bool of the image."""
        height, width = size
        scale = np.array((width / 100, height / 100), np.float32)
        return polygons_to_mask([Polygon(np.array(self.points, np.float32) * scale)], height, width)


Painted = Brush | Bitmask | Outline
Shape = Click | Rectangle | Painted

_SHAPES: Mapping[str, type[Shape]] = MappingProxyType(
    {"keypoint": Click, "rectangle": Rectangle, "brush": Brush, "bitmask": Bitmask, "polygon": Outline}
)


def shape_class(region_type: str) -> type[Shape] | None:
    """What regions of a type such as "brushlabels" draw; None for types that draw nothing on an image."""
    return _SHAPES.get(region_type.removesuffix("labels"))


def checked(model: type[Checked], value: Any, where: str) -> Checked:
    """The model of a JSON value.

    Raises:
        InputError: the first field that does not fit, named from `where` on; its value is not repeated.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InputError(".".join((where, *map(str, first["loc"]))), first["msg"]) from error


def fitted(mask: Mask, size: Size) -> Mask:
    """A mask (H, W) of an image at another size of the same image."""
    if mask.shape == size:
        return mask
    height, width = size
    resized = cv2.resize(mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return resized.view(np.bool_)
