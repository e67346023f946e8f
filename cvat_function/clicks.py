"""What an annotator has clicked and boxed on one image, from CVAT's JSON to prompts. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cvat_function.json_numbers import numbers
from cvat_function.shapes import Corners, ordered_box
from edgetam_model import InputError, Prompt

Point = tuple[float, float]

MAX_CLICKS = 1000  # of each kind; people stop at some dozens
SLIP = 2.0  # pixels by which a click may miss the image: CVAT does not clamp what hits its edge


@dataclass(frozen=True)
class Clicks:
    """Clicks and boxes in pixels, as they came: points may lie outside, corners stand in the order drawn.

    Attributes:
        positive: what belongs to the object.
        negative: what does not.
        boxes: two opposite corners each.
    """

    positive: tuple[Point, ...] = ()
    negative: tuple[Point, ...] = ()
    boxes: tuple[Corners, ...] = ()

    def moved(self, x: float, y: float) -> Clicks:
        """The same in an image whose origin is at (x, y) of this one."""
        return Clicks(
            tuple((px - x, py - y) for px, py in self.positive),
            tuple((px - x, py - y) for px, py in self.negative),
            tuple((x0 - x, y0 - y, x1 - x, y1 - y) for x0, y0, x1, y1 in self.boxes),
        )

    def prompts(self, width: int, height: int) -> list[Prompt]:
        """One prompt per object on an image of this size.

        Without a box or with one, everything is about one object. Of several boxes each is an object, with
        the clicks inside it; positive clicks outside all of them are one more.
        Clicks outside the image count for nothing, and neither do boxes without an area inside it.

        Raises:
            InputError: nothing of it says where an object is.
        """
        positive, negative = (_inside(points, width, height) for points in (self.positive, self.negative))
        boxes = [box for corners in self.boxes if (box := ordered_box(corners, width, height))]
        if not boxes and not positive:
            raise self._nothing(width, height)
        if len(boxes) < 2:
            return [_prompt(positive, negative, *boxes)]
        found = [_prompt(_within(box, positive), _within(box, negative), box) for box in boxes]
        free = [point for point in positive if not any(_within(box, [point]) for box in boxes)]
        return [*found, _prompt(free, negative)] if free else found

    def _nothing(self, width: int, height: int) -> InputError:
        image = f"the image ({width}×{height} pixels)"
        if self.boxes:
            return InputError("obj_bbox", f"expected a box with an area inside {image}")
        if self.positive:
            return InputError("pos_points", f"expected a click inside {image}")
        return InputError("pos_points", "expected a positive click or a box: nothing is selected yet")


def parse_clicks(pos_points: object, neg_points: object, obj_bbox: object, max_boxes: int) -> Clicks:
    """Clicks and boxes from JSON.

    Args:
        pos_points, neg_points: lists of [x, y]; None is an empty one.
        obj_bbox: two corners [x, y] for each box in one list, or their flat numbers; None is none.
        max_boxes: more are refused.

    Raises:
        InputError: another form, or too many.
    """
    return Clicks(
        _points("pos_points", pos_points), _points("neg_points", neg_points), _boxes(obj_bbox, max_boxes)
    )


def _points(field: str, raw: object) -> tuple[Point, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list | tuple):
        raise InputError(field, f"expected a list of [x, y], got {type(raw).__name__}")
    if len(raw) > MAX_CLICKS:
        raise InputError(field, f"expected at most {MAX_CLICKS} points, got {len(raw)}")
    return tuple(_point(f"{field}[{index}]", entry) for index, entry in enumerate(raw))


def _point(field: str, raw: object) -> Point:
    pair = numbers(field, raw)
    if len(pair) != 2:
        raise InputError(field, f"expected [x, y], got {len(pair)} numbers")
    return pair[0], pair[1]


def _boxes(raw: object, most: int) -> tuple[Corners, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list | tuple):
        raise InputError("obj_bbox", f"expected a list of corners, got {type(raw).__name__}")
    if len(raw) > 4 * most:
        raise InputError("obj_bbox", f"expected at most {most} boxes")
    if any(isinstance(entry, list | tuple) for entry in raw):
        flat = [n for index, entry in enumerate(raw) for n in _point(f"obj_bbox[{index}]", entry)]
    else:
        flat = list(numbers("obj_bbox", raw))
    if len(flat) % 4:
        raise InputError("obj_bbox", f"expected two corners for each box, got {len(flat)} numbers")
    if len(flat) > 4 * most:
        raise InputError("obj_bbox", f"expected at most {most} boxes, got {len(flat) // 4}")
    corners = zip(flat[0::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in corners)


def _inside(points: Sequence[Point], width: int, height: int) -> list[Point]:
    """Points that hit the image or slipped off its edge, drawn into it."""
    return [
        (min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0))
        for x, y in points
        if -SLIP <= x <= width + SLIP and -SLIP <= y <= height + SLIP
    ]


def _within(box: Corners, points: Sequence[Point]) -> list[Point]:
    x0, y0, x1, y1 = box
    return [(x, y) for x, y in points if x0 <= x <= x1 and y0 <= y <= y1]


def _prompt(positive: Sequence[Point], negative: Sequence[Point], box: Corners | None = None) -> Prompt:
    points = [*positive, *negative]
    labels = [1] * len(positive) + [0] * len(negative)
    return Prompt(points=points or None, labels=labels or None, box=box)
