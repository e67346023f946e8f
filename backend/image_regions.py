"""From a mask to the regions that a project's label config asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np

from backend.bitmask_png import encode_bitmask
from backend.brush_rle import encode_brush
from backend.image_prompts import DrawnObject
from backend.image_shapes import fitted
from backend.label_config import Control, Kind, LabelConfig
from backend.predictions import Region
from edgetam_model import InputError, MaskResult
from edgetam_model.masks import Mask, mask_box, mask_to_polygons

Value = dict[str, Any]

_PERCENT_DIGITS = 4  # 0.0001 % of an image 10,000 pixels wide is a hundredth of a pixel


@dataclass(frozen=True)
class RegionOptions:
    """How masks become shapes.

    Attributes:
        polygon_tolerance: pixels by which a polygon may leave the mask's outline; 0 keeps every corner of
            every pixel. The attribute `tolerance` of a polygon control in the label config wins.
        keypoint_width: percent of the image's width at which a keypoint is drawn.

    Raises:
        InputError: a negative tolerance, or a width that is not 0 to 100.
    """

    polygon_tolerance: float = 1.0
    keypoint_width: float = 0.5

    def __post_init__(self) -> None:
        if not self.polygon_tolerance >= 0:
            raise InputError("polygon_tolerance", f"expected at least 0, got {self.polygon_tolerance}")
        if not 0 < self.keypoint_width <= 100:
            raise InputError("keypoint_width", f"expected 0 to 100 percent, got {self.keypoint_width}")


def regions_from_mask(
    result: MaskResult, drawn: DrawnObject, config: LabelConfig, options: RegionOptions | None = None
) -> list[Region]:
    """The regions of one object: one for each of its outputs, and the labels of those that carry none.

    Painted masks have the size of the image as the browser showed it. A polygon is the outline of the
    mask's largest part: the format has no holes and no second part. The first output gets the object's id,
    each further one an id made from it, because entries of one id would be one region.

    Args:
        result: of the object's prompt; its predicted IoU becomes the score.
        drawn: what was prompted.
        config: the project's.
        options: how masks become shapes.

    Returns:
        No regions for an empty mask, or where the config has nothing to write to.

    Raises:
        InputError: an attribute of the config that is not a number.
    """
    mask, options = result.mask, options or RegionOptions()
    if mask_box(mask) is None:
        return []
    common = _common(result, drawn)
    regions: list[Region] = []
    for control in drawn.outputs:
        if control.kind is None:
            continue
        common["id"] = f"{drawn.region_id}-{control.name}" if regions else drawn.region_id
        value = _VALUES[control.kind](mask, drawn, control, options)
        regions += _labelled(value, drawn, control, config, common)
    return regions


def labels_for(wanted: tuple[str, ...], control: Control) -> tuple[str, ...]:
    """The labels that a control's region gets: the wanted ones that it has; where none was wanted, its only
    one. A label is never guessed: a region without one is shown, and asks for it."""
    if control.dynamic:
        return wanted
    if not wanted and len(control.labels) == 1:
        return control.labels
    return tuple(label for label in wanted if label in control.labels)


def _labelled(
    value: Value, drawn: DrawnObject, control: Control, config: LabelConfig, common: Mapping[str, Any]
) -> list[Region]:
    """The region, with its labels in it or, for an unlabelled tool, in a second entry of the same id."""

    def region(by: Control, **labels: list[str]) -> Region:
        return Region(from_name=by.name, type=by.type, value=value | labels, **common)

    if control.labelled:
        return [region(control, **{control.type: list(labels_for(drawn.labels, control))})]
    beside = config.labels_control(drawn.canvas.name, next(iter(drawn.labels), None))
    labels = labels_for(drawn.labels, beside) if beside else ()
    return [region(control), *([region(beside, labels=list(labels))] if beside and labels else [])]


def _common(result: MaskResult, drawn: DrawnObject) -> dict[str, Any]:
    """What every region of the object says about it and its image."""
    height, width = drawn.canvas.size_for(result.size)
    return {
        "to_name": drawn.canvas.name,
        "score": round(min(max(result.iou, 0.0), 1.0), 4),
        "original_width": width,
        "original_height": height,
        "image_rotation": drawn.canvas.rotation,
        "item_index": drawn.canvas.item_index,
    }


def _brush(mask: Mask, drawn: DrawnObject, _control: Control, _options: RegionOptions) -> Value:
    return {"format": "rle", "rle": encode_brush(_as_shown(mask, drawn))}


def _bitmask(mask: Mask, drawn: DrawnObject, _control: Control, _options: RegionOptions) -> Value:
    return {"imageDataURL": encode_bitmask(_as_shown(mask, drawn))}


def _polygon(mask: Mask, _drawn: DrawnObject, control: Control, options: RegionOptions) -> Value:
    tolerance = control.number("tolerance", options.polygon_tolerance)
    outline = mask_to_polygons(mask, tolerance)[0].outline
    points = [list(_percent(x, y, mask)) for x, y in outline.tolist()]
    return {"points": points, "closed": True}


def _rectangle(mask: Mask, _drawn: DrawnObject, _control: Control, _options: RegionOptions) -> Value:
    x0, y0, x1, y1 = mask_box(mask) or (0, 0, 0, 0)
    x, y = _percent(x0, y0, mask)
    width, height = _percent(x1 - x0, y1 - y0, mask)
    return {"x": x, "y": y, "width": width, "height": height, "rotation": 0}


def _keypoint(mask: Mask, _drawn: DrawnObject, _control: Control, options: RegionOptions) -> Value:
    x, y = _percent(*inner_point(mask), mask)
    return {"x": x, "y": y, "width": options.keypoint_width}


def inner_point(mask: Mask) -> tuple[float, float]:
    """x, y in pixels of the middle of the mask's pixel that is farthest from its edges.

    Unlike the centre of mass, it is never in a hole or beside a bent object.
    """
    x0, y0, x1, y1 = mask_box(mask) or (0, 0, 1, 1)
    part = np.pad(mask[y0:y1, x0:x1].view(np.uint8), 1)
    distance = cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_5)
    row, column = divmod(int(distance.argmax()), part.shape[1])
    return x0 + column - 0.5, y0 + row - 0.5  # less the padding's pixel, and half a pixel to the centre


_VALUES: Mapping[Kind, Callable[[Mask, DrawnObject, Control, RegionOptions], Value]] = MappingProxyType(
    {
        "brush": _brush,
        "bitmask": _bitmask,
        "polygon": _polygon,
        "rectangle": _rectangle,
        "keypoint": _keypoint,
    }
)


def _as_shown(mask: Mask, drawn: DrawnObject) -> Mask:
    """The mask at the size of the browser's image."""
    height, width = mask.shape
    return fitted(mask, drawn.canvas.size_for((height, width)))


def _percent(x: float, y: float, mask: Mask) -> tuple[float, float]:
    height, width = mask.shape
    return round(100 * x / width, _PERCENT_DIGITS), round(100 * y / height, _PERCENT_DIGITS)
