"""CVAT's interactor: clicks and boxes on a frame in, masks out. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cvat_function.clicks import Clicks, parse_clicks
from cvat_function.json_numbers import number, numbers
from cvat_function.pictures import picture_bytes, read_picture
from cvat_function.rle import encode_mask
from cvat_function.settings import Settings
from edgetam_model import InputError, MaskResult, Prompt
from edgetam_model.masks import Mask

if TYPE_CHECKING:
    from cvat_function.engine import EncodedImage, Engine

NEAR = 0.001  # thresholds are kept so far from 0 and 1, whose logits are infinite


@dataclass(frozen=True)
class Request:
    """What CVAT asks.

    Attributes:
        image: the file of the frame.
        clicks: in pixels of the frame.
        roi: x0, y0, x1, y1 of the part that the annotator works on; None: all of it. How a function would be
            told is not settled: today's servers cut the image themselves and send none.
        threshold: probability above which a pixel belongs to the object, 0 to 1.
    """

    image: bytes
    clicks: Clicks
    roi: tuple[float, ...] | None = None
    threshold: float = 0.5


@dataclass(frozen=True)
class Found:
    """One object.

    Attributes:
        mask: (H, W) bool of the whole frame.
        confidence: the model's own estimate of the mask's IoU, 0 to 1.
    """

    mask: Mask
    confidence: float


class Interactor:
    """Answers CVAT's requests. The encoded image is kept: a second click does not encode it again.

    Args:
        engine: the model.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._settings = engine.settings

    def __call__(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request, for `answers.dumps`.

        Returns:
            `mask`: bool (H, W) of the frame, all objects in one; or `shapes`: one mask per object with its
            confidence, as `Settings.reply` says. Where nothing is found: an empty mask, no shapes.

        Raises:
            InputError: something in it is wrong; the field is the JSON's.
        """
        request = parse_request(raw, self._settings)
        limits = self._settings.limits
        with self._engine.encoded(
            request.image, lambda: read_picture(request.image, limits), request.roi
        ) as image:
            found = find(image, request)
            size = image.size
        return masks_as_one(found, size) if self._settings.reply == "mask" else masks_as_shapes(found)


def parse_request(raw: Mapping[str, Any], settings: Settings) -> Request:
    """CVAT's request; keys that are not known are left alone.

    Raises:
        InputError: see `Interactor`.
    """
    clicks = parse_clicks(
        raw.get("pos_points"), raw.get("neg_points"), raw.get("obj_bbox"), settings.max_objects
    )
    if not clicks.positive and not clicks.boxes:
        raise InputError("pos_points", "expected a positive click or a box: nothing is selected yet")
    return Request(
        image=picture_bytes(raw.get("image"), settings.limits),
        clicks=clicks,
        roi=_roi(raw.get("roi")),
        threshold=_threshold(raw.get("threshold")),
    )


def find(image: EncodedImage, request: Request) -> list[Found]:
    """The objects that a request points at, in the order of `Clicks.prompts`.

    Raises:
        InputError: nothing of it is inside the image or its region of interest.
    """
    window = image.window
    height, width = window.size
    prompts = request.clicks.moved(window.x0, window.y0).prompts(width, height)
    level = math.log(request.threshold / (1 - request.threshold))
    found = []
    for result in _results(image, prompts):
        mask = np.zeros(image.size, np.bool_)
        window.cut(mask)[:] = result.logits_at_size() > level
        found.append(Found(mask, min(max(result.iou, 0.0), 1.0)))
    return found


def masks_as_one(found: Sequence[Found], size: tuple[int, int]) -> dict[str, Any]:
    """The answer that every CVAT understands: one mask of the whole frame, without `bounds`, which some of
    its versions take for the mask's place and others do not."""
    mask = np.zeros(size, np.bool_)
    for one in found:
        mask |= one.mask
    return {"mask": mask}


def masks_as_shapes(found: Sequence[Found]) -> dict[str, Any]:
    """The answer that CVAT understands since 2026: objects apart, confidence as text for its slider."""
    return {
        "shapes": [
            {
                "type": "mask",
                "points": encode_mask(one.mask),
                "attributes": [{"spec_id": 0, "value": f"{one.confidence:.2f}"}],
            }
            for one in found
            if one.mask.any()
        ]
    }


def _results(image: EncodedImage, prompts: Sequence[Prompt]) -> list[MaskResult]:
    if len(prompts) > 1 and all(prompt.points is None for prompt in prompts):
        return image.predictor.predict_boxes([prompt.box for prompt in prompts])
    return [image.predictor.predict(prompt) for prompt in prompts]


def _roi(raw: object) -> tuple[float, ...] | None:
    if raw is None or raw == []:
        return None
    corners = numbers("roi", raw)
    if len(corners) != 4:
        raise InputError("roi", f"expected x0, y0, x1, y1, got {len(corners)} numbers")
    return corners


def _threshold(raw: object) -> float:
    if raw is None:
        return 0.5
    value = number("threshold", raw)
    if not 0 <= value <= 1:
        raise InputError("threshold", f"expected 0 to 1, got {value:g}")
    return min(max(value, NEAR), 1 - NEAR)
