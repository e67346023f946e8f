"""An agent's tracking function: rectangles, polygons and masks from frame to frame. Needs cvat-sdk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol

import cvat_sdk.auto_annotation as cvataa
from PIL import Image

from cvat_function.answers import out_of_memory
from cvat_function.engine import Engine, Rgb
from cvat_function.pictures import picture_pixels
from cvat_function.shapes import TYPES, Shape, parse_shape, shape_of_mask, shape_prompt
from cvat_function.tracker.tracker import FAILURES
from edgetam_model import FrameTracker, InputError

_log = logging.getLogger(__name__)


class Drawn(Protocol):
    """The part of cvat-sdk's `TrackableShape` that is used."""

    @property
    def type(self) -> str:
        """Rectangle, polygon or mask."""

    @property
    def points(self) -> list[float]:
        """As CVAT has them."""


@dataclass
class AgentState:
    """One object in the agent's memory, where cvat-cli keeps it for eight hours.

    Attributes:
        remembered: the tracker's state as bytes: on a GPU it would stay in the GPU's memory.
        shape: the object's last shape.
    """

    remembered: bytes
    shape: Shape


class TrackingFunction:
    """cvat-sdk's `TrackingFunction`. A frame is encoded once for all its objects.

    Args:
        engine: the model, which is loaded here.
    """

    def __init__(self, engine: Engine) -> None:
        self._lost = engine.settings.lost
        self._spec = cvataa.TrackingFunctionSpec(supported_shape_types=frozenset(TYPES))
        # States do not travel here, so that nothing is won by rounding them.
        self._tracker = FrameTracker(engine.model, precision="float32")

    @property
    def spec(self) -> Any:
        """All shapes that have an area."""
        return self._spec

    def preprocess_image(self, context: object, image: Image.Image) -> Rgb:  # noqa: ARG002  the protocol's
        """The frame as CVAT shows it; the tracker knows it again by its pixels and keeps its features."""
        return picture_pixels(image)

    def init_tracking_state(self, context: object, pp_image: Rgb, shape: Drawn) -> AgentState:  # noqa: ARG002
        """Begin with a shape.

        Raises:
            BadFunctionError: a shape that cannot be tracked; the one error whose text cvat-cli passes on.
        """
        height, width = pp_image.shape[:2]
        try:
            drawn = parse_shape({"type": shape.type, "points": shape.points}, "shape")
            (begun,) = self._tracker.start(pp_image, [shape_prompt(drawn, width, height)])
        except InputError as error:
            raise cvataa.BadFunctionError(str(error)) from error
        return AgentState(begun.state.to_bytes(), drawn)

    def track(self, context: object, pp_image: Rgb, state: AgentState) -> Any:  # noqa: ARG002
        """The shape on the next frame, a `TrackableShape` of the same type; None for a lost one.

        The state goes on. Of an object that the model fails on, shape and state stay as they were, so that
        the other objects of the request get their answers.
        """
        kind = state.shape.type
        try:
            (followed,) = self._tracker.step(pp_image, [self._tracker.restore(state.remembered)])
            seen = None if followed is None else shape_of_mask(followed.result.mask, kind)
        except FAILURES as error:
            if out_of_memory(error):
                raise
            _log.warning("an object keeps its last shape: %r", error)
            followed = None
        if followed is None:
            return _trackable(state.shape)
        state.remembered = followed.state.to_bytes()
        if seen is None:
            stays = self._lost == "last" or (self._lost == "auto" and kind == "rectangle")
            return _trackable(state.shape) if stays else None
        state.shape = seen
        return _trackable(seen)


def _trackable(shape: Shape) -> Any:
    return cvataa.TrackableShape(**shape.to_json())
