"""What CVAT shows of an annotation on a frame. No SDK, no torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from cvat_function.field.content import Drawing
from cvat_function.shapes import Shape, parse_shape
from cvat_function.video.records import LabeledShape, TrackedShape
from edgetam_model import InputError

KINDS_OF_TRACKS = ("rectangle", "polygon")  # CVAT has no tracks of masks


def editable(drawing: Drawing) -> bool:
    """Whether the field page can draw it; the rest is carried along and never sent.

    That are turned rectangles, points, lines, ellipses, cuboids and skeletons, and what is damaged.
    """
    marks: Sequence[LabeledShape | TrackedShape]
    if isinstance(drawing, LabeledShape):
        marks = [drawing]
    else:
        marks = drawing.shapes
        kinds = {mark.type for mark in marks}
        if drawing.elements or len(kinds) != 1 or not kinds <= set(KINDS_OF_TRACKS):
            return False
    try:
        for mark in marks:
            parse_shape({"type": mark.type, "points": mark.points, "rotation": mark.rotation}, "shape")
    except InputError:
        return False
    return True


def key_frames(drawing: Drawing) -> list[TrackedShape]:
    """A track's key frames, ascending; of a shape its one frame, and the end after it."""
    if not isinstance(drawing, LabeledShape):
        return sorted(drawing.shapes, key=lambda shape: shape.frame)
    facts = drawing.model_dump(include=set(TrackedShape.model_fields) - {"id"})
    own = TrackedShape.model_validate(facts)
    return [own, own.model_copy(update={"frame": own.frame + 1, "outside": True})]


def shown_on(keys: Sequence[TrackedShape], frame: int) -> Shape | None:
    """What CVAT shows on a frame between key frames, ascending; None: nothing.

    Nothing before the first and after one that is outside; straight lines between rectangles, and between
    polygons of equally many corners. Other polygons CVAT fits to each other in a way of its own: here the
    last one stays until the next. The last key frame holds to the end.
    """
    place = bisect_right(keys, frame, key=_frame)
    if not place or keys[place - 1].outside:
        return None
    before, after = keys[place - 1], keys[place] if place < len(keys) else None
    points = before.points
    if after is not None and not after.outside and len(after.points) == len(points):
        share = (frame - before.frame) / (after.frame - before.frame)
        points = tuple(a + (b - a) * share for a, b in zip(points, after.points, strict=True))
    return Shape(before.type, points)


def _frame(key: TrackedShape) -> int:
    return key.frame
