"""An agent's interaction function: clicks and boxes on a frame in, masks out. Needs cvat-sdk."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any, Protocol

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from cvat_sdk.models import AttributeValRequest
from PIL import Image

from cvat_function.clicks import parse_clicks
from cvat_function.engine import Engine, Rgb
from cvat_function.interactor.interactor import Found, Request, find
from cvat_function.pictures import picture_pixels
from cvat_function.rle import encode_mask
from edgetam_model import InputError


class Prompts(Protocol):
    """The part of cvat-sdk's `InteractionPrompts` that is used, as cvat-cli fills it."""

    @property
    def pos_points(self) -> Any:
        """(x, y) each."""

    @property
    def neg_points(self) -> Any:
        """(x, y) each."""

    @property
    def bounding_box(self) -> Any:
        """Two corners (x, y), more pairs where several boxes were drawn, or None."""


class KeptImage:
    """A frame in a file of its own, which goes when this object goes.

    cvat-cli keeps what `preprocess_image` returns for ten minutes without a limit: pixels and features of
    every frame that somebody looks at would fill the memory.
    """

    def __init__(self, pixels: Rgb) -> None:
        self.shape = pixels.shape
        self.content = repr(pixels.shape).encode() + hashlib.sha256(pixels.data).digest()
        file, name = tempfile.mkstemp(prefix="edgetam-frame-")
        self._path = Path(name)
        weakref.finalize(self, self._path.unlink, missing_ok=True)
        with os.fdopen(file, "wb") as out:
            out.write(pixels.data)

    def pixels(self) -> Rgb:
        """uint8 (H, W, 3) RGB."""
        return np.fromfile(self._path, np.uint8).reshape(self.shape)


class InteractionFunction:
    """cvat-sdk's `InteractionFunction`. A frame is encoded once; the last few stay encoded.

    Args:
        engine: the model, which is loaded here.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._spec = cvataa.InteractionFunctionSpec(min_pos_points=0, min_neg_points=0, min_bounding_boxes=0)
        _ = engine.model  # an agent that cannot work ends here, and not at somebody's first click

    @property
    def spec(self) -> Any:
        """Clicks and a box, none of them required alone."""
        return self._spec

    def preprocess_image(self, context: object, image: Image.Image) -> KeptImage:  # noqa: ARG002  the protocol's
        """The frame as CVAT shows it, put aside; `detect` encodes it when it is first asked about it."""
        return KeptImage(picture_pixels(image))

    def detect(self, context: object, pp_image: KeptImage, prompts: Prompts) -> list[Any]:  # noqa: ARG002
        """One `InteractionResultShape` of type mask per object, with its confidence.

        Raises:
            BadFunctionError: prompts that say nothing; the one error whose text cvat-cli passes on to people.
        """
        boxes = prompts.bounding_box
        try:
            clicks = parse_clicks(
                prompts.pos_points, prompts.neg_points, boxes, self._engine.settings.max_objects
            )
            with self._engine.encoded(pp_image.content, pp_image.pixels) as image:
                found = find(image, Request(image=b"", clicks=clicks))
        except InputError as error:
            raise cvataa.BadFunctionError(str(error)) from error
        return [_shape(one) for one in found if one.mask.any()]


def _shape(found: Found) -> Any:
    confidence = AttributeValRequest(
        spec_id=int(cvataa.InteractionResultAttributes.CONFIDENCE), value=f"{found.confidence:.2f}"
    )
    return cvataa.InteractionResultShape(type="mask", points=encode_mask(found.mask), attributes=[confidence])
