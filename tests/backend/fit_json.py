"""Label Studio's tasks and annotations as its API gives them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from backend.image_prompts import Canvas, DrawnObject
from backend.image_regions import RegionOptions, regions_from_mask
from backend.label_config import parse_label_config
from edgetam_model import MaskResult
from edgetam_model.training.annotations import AnnotatedObject, AnnotationSet

SIZE = (120, 200)  # H, W
KINDS = ("Brush", "Bitmask", "Polygon", "Rectangle")
_TOOLS = "".join(
    f'<{kind}Labels name="{kind.lower()}" toName="image" smart="false"><Label value="cat"/></{kind}Labels>'
    for kind in KINDS
)
CONFIG = f"""<View><Image name="image" value="$image"/>{_TOOLS}
<Video name="video" value="$clip" frameRate="$fps"/><VideoRectangle name="box" toName="video"/></View>"""


def result_of(mask: NDArray[np.bool_]) -> MaskResult:
    """A result that shows about this mask."""
    logits = cv2.resize(mask.astype(np.float32), (256, 256), interpolation=cv2.INTER_LINEAR) - 0.5
    return MaskResult(logits.astype(np.float32), (mask.shape[0], mask.shape[1]), 0.9, 5.0)


def disc(x: float = 90, y: float = 60, radius: float = 30) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    mask: NDArray[np.bool_] = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
    return mask


blobs = st.builds(disc, st.floats(20, 180), st.floats(20, 100), st.floats(6, 60))


def drawn(kind: str, mask: NDArray[np.bool_], tolerance: float = 0.0) -> dict[str, Any]:
    """The region that the product writes for a mask, as Label Studio keeps it when a person changed it."""
    config = parse_label_config(CONFIG)
    control = config.control(kind.lower())
    assert control is not None
    target = DrawnObject((), ("cat",), f"{kind}-1", Canvas("image"), (control,))
    options = RegionOptions(polygon_tolerance=tolerance)
    (region,) = regions_from_mask(result_of(mask), target, config, options)
    return {**region.model_dump(exclude_none=True), "origin": "manual"}


def polygon(name: str = "p", **more: Any) -> dict[str, Any]:
    value = {"points": [[10, 10], [60, 10], [60, 60]], "closed": True, "polygonlabels": ["cat"]}
    entry = {"id": name, "type": "polygonlabels", "to_name": "image", "value": value}
    return {**entry, "origin": "manual", **more}


def rectangle(x: float, y: float, width: float, height: float, **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": ["cat"]}
    entry = {"id": f"r{x}", "type": "rectanglelabels", "to_name": "image", "value": value}
    return {**entry, "origin": "manual", **more}


def click(x: float, y: float, positive: bool | None = True) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.5, "keypointlabels": ["cat"]}
    mark = {} if positive is None else {"is_positive": positive}
    return {"id": f"k{x}", "type": "keypointlabels", "to_name": "image", "value": value, **mark}


def annotation(*result: Any, number: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "was_cancelled": False, "ground_truth": False, "result": list(result), **more}


def task(*annotations: Any, number: int = 1, **data: Any) -> dict[str, Any]:
    return {"id": number, "data": data or {"image": "/data/upload/1/a.png"}, "annotations": list(annotations)}


def only(found: AnnotationSet) -> AnnotatedObject:
    """The only object of the only task."""
    (made,) = found.tasks
    (each,) = made.objects
    return each
