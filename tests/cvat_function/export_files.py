"""CVAT's exports, written by hand as its own sources say it writes them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cvat_function.shapes import shape_of_mask
from edgetam_model.masks import mask_counts

SIZE = (60, 80)  # H, W
Bools = NDArray[np.bool_]


def disc(x: float = 40, y: float = 30, radius: float = 20, size: tuple[int, int] = SIZE) -> Bools:
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask: Bools = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
    return mask


discs = st.builds(disc, st.floats(5, 75), st.floats(5, 55), st.floats(3, 40))


def element(kind: str, mask: Bools, label: str = "cat", **more: Any) -> str:
    """A shape of CVAT XML from the product's own encoder."""
    shape = shape_of_mask(mask, {"box": "rectangle"}.get(kind, kind))
    assert shape is not None
    points = shape.points
    drawn: dict[str, Any]
    if kind == "box":
        drawn = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{n:.2f}" for n in points), strict=True))
    elif kind == "polygon":
        pairs = zip(points[::2], points[1::2], strict=True)
        drawn = {"points": ";".join(f"{x:.2f},{y:.2f}" for x, y in pairs)}
    else:
        *lengths, left, top, right, bottom = (int(n) for n in points)
        drawn = {"rle": ", ".join(map(str, lengths)), "left": left, "top": top}
        drawn |= {"width": right - left + 1, "height": bottom - top + 1}
    return tag(kind, {"label": label, "source": "manual", "occluded": 0, **drawn, "z_order": 0, **more})


def tag(name: str, attributes: Mapping[str, Any], inner: str = "") -> str:
    written = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f"<{name} {written}>{inner}</{name}>"


def image(name: str, *shapes: str, number: int = 0, **more: Any) -> str:
    attributes = {"id": number, "name": name, **more, "width": SIZE[1], "height": SIZE[0]}
    return tag("image", attributes, "".join(shapes))


def track(*shapes: str, label: str = "cat", source: str = "manual", **more: Any) -> str:
    return tag("track", {"id": 0, "label": label, "source": source, **more}, "".join(shapes))


def on_frame(
    frame: int, mask: Bools, kind: str = "polygon", *, outside: bool = False, keyframe: bool = True
) -> str:
    return element(kind, mask, frame=frame, outside=int(outside), keyframe=int(keyframe))


def task(number: int = 5, mode: str = "interpolation", source: str = "clip.mp4") -> str:
    size = f"<original_size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></original_size>"
    labels = "<labels><label><name>cat</name></label></labels>"
    inner = f"<id>{number}</id><name>walk</name><mode>{mode}</mode>{labels}{size}<source>{source}</source>"
    return f"<task>{inner}</task>"


def document(*elements: str, meta: str = "") -> bytes:
    head = f"<version>1.1</version><meta>{meta}<dumped>2026-11-01</dumped></meta>"
    text = f"<annotations>{head}{''.join(elements)}</annotations>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}'.encode()


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def picture(shade: int = 90) -> bytes:
    return png(np.full((*SIZE, 3), shade, np.uint8))


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def coco(images: Sequence[str], annotations: Sequence[Mapping[str, Any]]) -> bytes:
    """instances_default.json; an annotation without an image is of the first."""
    listed = [
        {"id": number, "file_name": name, "width": SIZE[1], "height": SIZE[0]}
        for number, name in enumerate(images, start=1)
    ]
    entries = [
        {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, **entry}
        for number, entry in enumerate(annotations, start=1)
    ]
    categories = [{"id": 1, "name": "cat", "supercategory": ""}]
    return json.dumps({"images": listed, "annotations": entries, "categories": categories}).encode()


def crowd(mask: Bools) -> dict[str, Any]:
    """A painted mask as CVAT's COCO has it: a crowd, with run lengths that are not compressed."""
    counts = mask_counts(mask).tolist()
    return {"iscrowd": 1, "segmentation": {"size": list(mask.shape), "counts": counts}}


def ring(mask: Bools) -> dict[str, Any]:
    """A polygon as CVAT's COCO has it."""
    shape = shape_of_mask(mask, "polygon")
    assert shape is not None
    return {"segmentation": [list(shape.points)]}


def boxed(x: float, y: float, width: float, height: float, rotation: float = 0.0) -> dict[str, Any]:
    return {"segmentation": [], "bbox": [x, y, width, height], "attributes": {"rotation": rotation}}
