"""The cost of a frame, by the number of objects and along a video, as one picture."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgetam_model.bench.suite import Row

SIZE, MARGIN = (760, 420), (90, 40, 30, 50)  # of a panel; left, top, right, bottom
COLOURS = ((200, 30, 60), (40, 120, 190), (90, 150, 80), (200, 150, 40), (120, 80, 160), (90, 90, 96))
INK, GRID = (40, 40, 46), (222, 222, 228)
PLACES = 6  # at most that are named along the foot

Lines = Mapping[str, Sequence[tuple[int, float]]]


def plot_growth(rows: Sequence[Row]) -> NDArray[np.uint8]:
    """(H, W, 3): left, ms of a frame over objects on it; right, core-ms of a frame over frames of a video.

    A line for each model and runtime.
    """
    panels = [
        _panel(_by_objects(rows), "objects on the frame", "ms"),
        _panel(_by_frames(rows), "frames into the video, one object", "core-ms"),
    ]
    return np.concatenate(panels, axis=1)


def _panel(lines: Lines, foot: str, unit: str) -> NDArray[np.uint8]:
    places = sorted({x for line in lines.values() for x, _ in line})
    most = max(places, default=1)
    slowest = max((y for line in lines.values() for _, y in line), default=1.0)
    image = Image.new("RGB", SIZE, (255, 255, 255))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    left, top, right, bottom = MARGIN
    wide, high = SIZE[0] - left - right, SIZE[1] - top - bottom
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = top + high * (1 - share)
        draw.line([(left, y), (left + wide, y)], GRID)
        draw.text((left - 8, y), f"{slowest * share:.0f} {unit}", INK, font, anchor="rm")
    for place in places[:: max(1, -(-len(places) // PLACES))]:
        draw.text((left + wide * place / most, top + high + 14), str(place), INK, font, anchor="mm")
    draw.text((left + wide / 2, top + high + 34), foot, INK, font, anchor="mm")
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [(left + wide * x / most, top + high * (1 - y / slowest)) for x, y in line]
        draw.line(points, colour, 2)
        for x, y in points:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], colour)
        draw.text((left + 16, top + 4 + 17 * number), name, colour, font)
    return np.asarray(image)


def _by_objects(rows: Sequence[Row]) -> Lines:
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        count = re.fullmatch(r"a frame, (\d+) objects?", row.case)
        if count and row.pair:
            lines[f"{row.model}, {row.runtime}"].append((int(count[1]), row.pair.candidate.median))
            published = lines[f"{row.model}, as published"]
            if all(x != int(count[1]) for x, _ in published):
                published.append((int(count[1]), row.pair.reference.median))
    return lines


def _by_frames(rows: Sequence[Row]) -> Lines:
    return {f"{row.model}, {row.runtime}": row.growth for row in rows if row.growth}
