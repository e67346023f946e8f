"""What the page is shown: lists, one task, one frame, as plain JSON. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backend.field.manifest import PackedTask
from backend.field.work import Work
from edgetam_model.field_objects import FieldObject, Row
from edgetam_model.masks import decode_rle, mask_to_polygons

OUTLINE_TOLERANCE = 0.6  # pixels: below what a screen shows, and a third of the corners


def task_line(task: PackedTask, work: Work | None) -> dict[str, Any]:
    """A task in the list; `work` is None for one that nobody has opened."""
    objects = list(work.now.objects.values()) if work else []
    return {
        "id": task.id,
        "name": task.name,
        "kind": task.media.kind,
        "frames": task.media.frames,
        "objects": len(objects) if work else task.objects,
        "doubts": sum(len(one.doubts) for one in objects),
        "touched": bool(work and work.touched),
        "done": bool(work and work.now.done),
    }


def in_order(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Doubtful tasks first, then those that are not done, then the others; by id."""
    return sorted(lines, key=lambda line: (line["done"], -min(line["doubts"], 1), line["id"]))


def task_view(task: PackedTask, work: Work, labels: tuple[str, ...]) -> dict[str, Any]:
    """A task as the editor shows it: all but masks and pictures."""
    return {
        **task_line(task, work),
        "revision": work.revision,
        "sizes": [[width, height] for height, width in task.media.sizes],
        "numbers": list(task.media.numbers),
        "labels": list(labels),
        "can_undo": work.can_undo,
        "unfinished": bool(work.unfinished),
        "objects": [object_view(one) for one in work.now.objects.values()],
    }


def object_view(one: FieldObject) -> dict[str, Any]:
    """An object: `line` has one letter a frame from `first` on to the last of which something is known (see
    `FieldObject.code`), `doubts` the worst first."""
    first, last = min(one.rows, default=0), max(one.rows, default=-1)
    return {
        "id": one.id,
        "number": one.number,
        "labels": list(one.labels),
        "given": one.given,
        "drawn": one.drawn,
        "first": first,
        "line": "".join(one.code(frame) for frame in range(first, last + 1)),
        "doubts": [{"first": a, "last": b, "frame": at} for a, b, at in one.doubts],
    }


def frame_view(task: PackedTask, work: Work, frame: int) -> dict[str, Any]:
    """What is drawn over a frame, in pixels of the packed media."""
    shown = []
    for one in work.now.objects.values():
        row = one.rows.get(frame)
        if row is None:
            continue
        spec = one.prompts.get(frame)
        shown.append(
            {
                "id": one.id,
                "state": row.state,
                "score": row.score,
                "box": list(row.box) if row.box else None,
                "outlines": outlines(row, task.media.size_of(frame)),
                "points": [list(point) for point in spec.points] if spec else [],
            }
        )
    return {"frame": frame, "revision": work.revision, "objects": shown}


def outlines(row: Row, size: tuple[int, int]) -> list[list[float]]:
    """Rings x0, y0, x1, y1, … that enclose the mask by the even-odd rule; of a box its corners."""
    if not row.visible or row.box is None:
        return []
    if row.mask is None:
        x0, y0, x1, y1 = row.box
        return [[x0, y0, x1, y0, x1, y1, x0, y1]]
    mask = decode_rle({"size": list(size), "counts": row.mask})
    regions = mask_to_polygons(mask, OUTLINE_TOLERANCE)
    rings = [ring for region in regions for ring in (region.outline, *region.holes)]
    return [[round(float(n), 1) for n in ring.ravel()] for ring in rings]
