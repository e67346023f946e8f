"""CVAT's tracker: shapes begin on one frame, and states bring them along to the next. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2

from cvat_function.answers import Logger, out_of_memory
from cvat_function.pictures import Rgb, decode_picture
from cvat_function.shapes import Shape, parse_shape, shape_of_mask, shape_prompt
from cvat_function.tracker.state import CvatState, States, parse_state
from edgetam_model import EdgeTAMError, InputError, Prompt

if TYPE_CHECKING:
    from cvat_function.engine import Engine
    from edgetam_model import Followed, FrameTracker, ObjectState

# What can go wrong with one object: our own errors, numpy's, PyTorch's and OpenCV's.
FAILURES = (EdgeTAMError, ArithmeticError, ValueError, RuntimeError, cv2.error)


@dataclass(frozen=True)
class Begun:
    """An object to begin with.

    Attributes:
        shape: as it is drawn on this frame.
        legacy: drawn by a CVAT that sends bare lists of numbers.
    """

    shape: Shape
    legacy: bool


@dataclass(frozen=True)
class Answer:
    """One object's part of the answer: its shape or None, and its state, never None."""

    shape: dict[str, Any] | list[float] | None
    state: dict[str, Any]


class Tracker:
    """Answers CVAT's requests. Nothing is kept between them but the last frame's features.

    Args:
        engine: the model.
        states: where the model's part of a state is between two frames.
        logger: told of objects that could not be tracked, since nobody else sees why.
    """

    def __init__(self, engine: Engine, states: States, logger: Logger) -> None:
        self._engine = engine
        self._states = states
        self._logger = logger
        self._settings = engine.settings

    def __call__(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request, for `answers.dumps`: `shapes` and `states`, in the request's order.

        Raises:
            InputError: something in it is wrong; the field is the JSON's.
        """
        asked = parse_request(raw, self._settings.max_objects)
        frame = decode_picture(raw.get("image"), self._settings.limits)
        begun = {i: one for i, one in enumerate(asked) if isinstance(one, Begun)}
        known = {i: one for i, one in enumerate(asked) if isinstance(one, CvatState)}
        answers = self._follow(frame, known) | self._begin(frame, begun)
        ordered = [answers[i] for i in range(len(asked))]
        return {"shapes": [one.shape for one in ordered], "states": [one.state for one in ordered]}

    @cached_property
    def _tracker(self) -> FrameTracker:
        from edgetam_model import FrameTracker

        return FrameTracker(self._engine.model)

    def _begin(self, frame: Rgb, objects: Mapping[int, Begun]) -> dict[int, Answer]:
        prompts = [_prompt(one.shape, frame, f"shapes[{i}]") for i, one in objects.items()]
        started = self._tracker.start(frame, prompts) if prompts else []
        return {
            i: Answer(
                _as_asked(one.shape, one.legacy),
                self._state(one.shape.type, one.legacy, one.shape, followed.state),
            )
            for (i, one), followed in zip(objects.items(), started, strict=True)
        }

    def _follow(self, frame: Rgb, objects: Mapping[int, CvatState]) -> dict[int, Answer]:
        states = [self._restored(one, frame, f"states[{i}]") for i, one in objects.items()]
        followed = self._step(frame, states) if states else []
        return {
            i: self._followed(i, one, found)
            for (i, one), found in zip(objects.items(), followed, strict=True)
        }

    def _restored(self, one: CvatState, frame: Rgb, field: str) -> ObjectState:
        height, width = frame.shape[:2]
        try:
            state = self._tracker.restore(self._states.get(one.memory))
            self._tracker.check(state, (height, width))
        except InputError as error:
            raise InputError(field, error.problem) from error
        return state

    def _step(self, frame: Rgb, states: Sequence[ObjectState]) -> list[Followed | None]:
        """One batch; where that fails, each object on its own, so that one costs the others nothing."""
        try:
            return self._tracker.step(frame, states)
        except FAILURES as error:
            if out_of_memory(error):
                raise
            if len(states) > 1:
                return [self._step(frame, [state])[0] for state in states]
            self._logger.warn_with("an object cannot be tracked", error=repr(error))
            return [None]

    def _followed(self, index: int, one: CvatState, found: Followed | None) -> Answer:
        """An object's answer; one that failed keeps its last shape and state."""
        shape = one.shape
        if found is not None:
            try:
                shape = shape_of_mask(found.result.mask, one.kind)
            except FAILURES as error:
                if out_of_memory(error):
                    raise
                self._logger.warn_with("an object's mask makes no shape", error=repr(error))
                found = None
        if found is None:
            self._logger.warn_with("an object keeps its last shape and state", object=index)
            return Answer(_as_asked(one.shape, one.legacy), one.to_json())
        state = self._state(one.kind, one.legacy, shape or one.shape, found.state)
        self._states.replace(one.memory)
        stays = self._settings.lost == "last" or (self._settings.lost == "auto" and one.kind == "rectangle")
        return Answer(_as_asked(one.shape if shape is None and stays else shape, one.legacy), state)

    def _state(self, kind: str, legacy: bool, shape: Shape | None, state: ObjectState) -> dict[str, Any]:
        return CvatState(kind, legacy, shape, self._states.put(state.to_bytes())).to_json()


def parse_request(raw: Mapping[str, Any], max_objects: int) -> list[Begun | CvatState]:
    """What is asked of each object: to begin with a shape where it has no state, else to be followed.

    CVAT sends shapes alone, states with shapes of null, and, of old, both lists filled in part.

    Raises:
        InputError: neither shape nor state, or something is wrong with either.
    """
    shapes, states = _listed(raw, "shapes"), _listed(raw, "states")
    count = max(len(shapes), len(states))
    if not 1 <= count <= max_objects:
        raise InputError("shapes", f"expected 1 to {max_objects} shapes or states, got {count}")
    shapes += [None] * (count - len(shapes))
    states += [None] * (count - len(states))
    return [_asked(i, shape, state) for i, (shape, state) in enumerate(zip(shapes, states, strict=True))]


def _asked(index: int, shape: object, state: object) -> Begun | CvatState:
    if state is not None:
        return parse_state(state, f"states[{index}]")
    if shape is None:
        raise InputError(f"states[{index}]", "expected a state, or else a shape to begin with")
    return Begun(parse_shape(shape, f"shapes[{index}]"), isinstance(shape, list))


def _listed(raw: Mapping[str, Any], field: str) -> list[Any]:
    given = raw.get(field)
    if given is None:
        return []
    if not isinstance(given, list):
        raise InputError(field, f"expected a list, got {type(given).__name__}")
    return list(given)


def _prompt(shape: Shape, frame: Rgb, field: str) -> Prompt:
    height, width = frame.shape[:2]
    try:
        return shape_prompt(shape, width, height)
    except InputError as error:
        raise InputError(field, error.problem) from error


def _as_asked(shape: Shape | None, legacy: bool) -> dict[str, Any] | list[float] | None:
    """A shape in the words of the CVAT that asks."""
    if shape is None:
        return None
    return list(shape.points) if legacy else shape.to_json()
