"""CVAT's server and browser, as far as a tracker sees them: what they send, keep, sign and insist on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.core.signing import TimestampSigner
from numpy.typing import NDArray

from tests.cvat_function.nuclio_fixtures import Reply, base64_of

FUNCTION = "edgetam-tracker"
MAX_AGE = 8 * 3600  # seconds
TYPES = ("rectangle", "polygon", "mask")  # as function.yaml declares them

Post = Callable[[object], Reply]
Shape = dict[str, Any]


@dataclass
class Server:
    """CVAT's lambda manager, which keeps no states: it signs them and hands them to the browser.

    Attributes:
        post: the function.
        types: what it declares; none: the server speaks the protocol of old.
    """

    post: Post
    types: tuple[str, ...] = TYPES
    signer: TimestampSigner = field(
        default_factory=lambda: TimestampSigner(
            key="of this server", salt=f"cvat-tracker-state:{FUNCTION}", fallback_keys=[]
        )
    )

    def init_tracking(self, frame: NDArray[np.uint8], shapes: list[Shape]) -> list[str]:
        assert all(shape["type"] in (self.types or ("rectangle",)) for shape in shapes)
        sent = shapes if self.types else [shape["points"] for shape in shapes]
        answer = self._call({"image": base64_of(frame), "shapes": sent, "states": []})
        assert len(answer["states"]) == len(shapes)
        return self._signed(answer)

    def track(self, frame: NDArray[np.uint8], states: list[str]) -> tuple[list[Shape | None], list[str]]:
        kept = [json.loads(self.signer.unsign(state, max_age=MAX_AGE)) for state in states]
        answer = self._call({"image": base64_of(frame), "shapes": [None] * len(kept), "states": kept})
        shapes = [self._shape(shape) for shape in answer["shapes"]]
        assert len(shapes) == len(answer["states"]) == len(states)
        return shapes, self._signed(answer)

    def _call(self, payload: object) -> dict[str, Any]:
        reply = self.post(payload)
        assert reply.status == 200, reply.text
        assert reply.content_type == "application/json"
        answer = reply.body
        assert isinstance(answer, dict)
        return answer

    def _signed(self, answer: dict[str, Any]) -> list[str]:
        assert None not in answer["states"], "a null state comes back as null, and cannot be gone on from"
        return [self.signer.sign(json.dumps(state, separators=(",", ":"))) for state in answer["states"]]

    def _shape(self, shape: Any) -> Shape | None:
        if self.types or shape is None:
            assert shape is None or set(shape) == {"type", "points"}
            return shape
        assert isinstance(shape, list)
        return {"type": "rectangle", "points": shape}


@dataclass
class Tracked:
    """An object in the browser: its last shape, and the state that belongs to just that shape."""

    shape: Shape
    state: str = ""
    answered: list[float] | None = None  # points for which the state stands


class Browser:
    """The sidebar's tracker. On each new frame it makes at most two calls, each with all objects."""

    def __init__(self, server: Server, size: tuple[int, int]) -> None:
        self.server = server
        self.size = size
        self.objects: list[Tracked] = []
        self.begun = 0

    def next_frame(self, before: NDArray[np.uint8], frame: NDArray[np.uint8]) -> list[Shape | None]:
        """Go on by one frame: the shapes that the canvas shows."""
        fresh = [one for one in self.objects if one.answered != one.shape["points"]]  # new, or edited by hand
        if fresh:
            self.begun += len(fresh)
            states = self.server.init_tracking(before, [one.shape for one in fresh])
            for one, state in zip(fresh, states, strict=True):
                one.state = state
        shapes, states = self.server.track(frame, [one.state for one in self.objects])
        for one, shape, state in zip(self.objects, shapes, states, strict=True):
            assert shape is not None or one.shape["type"] != "rectangle", "null has no points"
            if shape is not None:
                assert shape["type"] == one.shape["type"]
                self._check_bounds(shape)
            one.shape = shape or one.shape  # what is lost goes on from its state
            one.state, one.answered = state, one.shape["points"]
        return shapes

    def _check_bounds(self, shape: Shape) -> None:
        """What the mapper to bounding rectangles takes for granted."""
        points = shape["points"]
        assert all(type(number) in (int, float) and np.isfinite(number) for number in points)
        if shape["type"] == "mask":
            left, top, right, bottom = points[-4:]
            assert sum(points[:-4]) == (right - left + 1) * (bottom - top + 1)
            points = [left, top, right + 1, bottom + 1]
        assert len(points) >= 4
        xs, ys = points[0::2], points[1::2]
        assert 0 <= min(xs) < max(xs) <= self.size[1]
        assert 0 <= min(ys) < max(ys) <= self.size[0]
