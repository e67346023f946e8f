"""Tracking frame by frame without a video: what is remembered goes out with each answer and comes back in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from edgetam_model.engine import Engine, Tracked, check_rgb
from edgetam_model.errors import InputError, PromptError, StateError
from edgetam_model.finishing import object_result, prompted_record, reliable, tracked_record
from edgetam_model.looking import See, look
from edgetam_model.memory import Memory
from edgetam_model.model import EdgeTAM
from edgetam_model.object_state import ANEW, OTHER_WEIGHTS, ObjectState, read_state, rounded
from edgetam_model.options import TrackerOptions
from edgetam_model.prompts import Prompt
from edgetam_model.results import ObjectResult, without_overlap
from edgetam_model.runtime.choosing import in_quality

Rgb = NDArray[np.uint8]
Precision = Literal["float16", "float32"]


@dataclass(frozen=True, eq=False)
class Followed:
    """One object on one frame.

    Attributes:
        result: its mask.
        state: what to bring along to the next frame.
    """

    result: ObjectResult
    state: ObjectState


class FrameTracker:
    """Tracks objects from one frame to the next, with `VideoTracker`'s masks, and keeps nothing of them.

    Frames are tracked forward, one after the other; calls are made from one thread at a time. Features of
    the last frames are kept to save time, and change no answer.

    Args:
        model: in eval mode.
        options: how to track.
        precision: of the memories in states. float16 halves them, and costs a pixel of the edge here and
            there (docs/log.md); float32 gives the very masks of `VideoTracker`.
    """

    def __init__(
        self, model: EdgeTAM, options: TrackerOptions | None = None, precision: Precision = "float16"
    ) -> None:
        self.options = options or TrackerOptions()
        self.model = in_quality(model, self.options.quality)
        self._precision = torch.float16 if precision == "float16" else torch.float32
        self._engine: Engine | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Which weights this tracker runs on."""
        return self.model.fingerprint()

    def start(self, frame: Rgb, prompts: Sequence[Prompt]) -> list[Followed]:
        """Begin to track one object per prompt, in the prompts' order.

        Args:
            frame: uint8 (H, W, 3) RGB.
            prompts: in pixels of the frame.

        Raises:
            InputError: not such a frame, or nothing that can be remembered comes of a prompt.
            PromptError: a prompt outside the image, or nothing positive in it.
        """
        engine = self._engine_of(frame)
        for prompt in prompts:
            prompt.check_inside(*engine.size)
            if not prompt.has_positive:
                raise PromptError("labels", "expected a positive click, a box or a mask: nothing is selected")
        see = partial(engine.view, _key(frame), lambda: frame)
        begun = {i: self._begin(engine, see, i, prompt) for i, prompt in enumerate(prompts)}
        return list(self._settled(begun).values())

    def step(self, frame: Rgb, states: Sequence[ObjectState]) -> list[Followed | None]:
        """Track objects to the frame after those they have seen: one batch, each with its own history.

        The states given are not changed: the same call gives the same answer again.

        Args:
            frame: uint8 (H, W, 3) RGB.
            states: from `start`, `step` or `restore`.

        Returns:
            In the states' order; None for an object of which the model makes no finite numbers, so that its
            state stays the one given.

        Raises:
            InputError: not such a frame.
            StateError: a state of other weights or of another image size; the field is its place in `states`.
        """
        engine = self._engine_of(frame)
        for i, state in enumerate(states):
            self.check(state, engine.size, f"states[{i}]")
        config, like, limit = self.model.config, self.model.no_mem_embed, self.options.max_conditioning_frames
        recalls = [
            state.bank(config, like).recall(state.frames, reverse=False, max_conditioning=limit)
            for state in states
        ]
        outcome = engine.track(_key(frame), lambda: frame, recalls)
        pairs = enumerate(zip(states, outcome, strict=True))
        followed = {i: self._go_on(engine, i, state, tracked) for i, (state, tracked) in pairs}
        settled = self._settled({i: one for i, one in followed.items() if one is not None})
        return [settled.get(i) for i in range(len(states))]

    def restore(self, blob: bytes) -> ObjectState:
        """A state from `ObjectState.to_bytes`, made by any process with these weights.

        Raises:
            StateError: damaged bytes, or of another version or other weights.
        """
        return read_state(blob, self.fingerprint, self.model)

    def check(self, state: ObjectState, size: tuple[int, int], field: str = "state") -> None:
        """Raise where a state does not go with this tracker and frames of this size (H, W).

        Raises:
            StateError: made with other weights, or on an image of another size.
        """
        if state.model != self.fingerprint:
            raise StateError(field, OTHER_WEIGHTS)
        if state.size != size:
            (height, width), (rows, columns) = size, state.size
            raise StateError(
                field, f"made on an image of {columns}×{rows} pixels, this one has {width}×{height}: {ANEW}"
            )

    def _begin(self, engine: Engine, see: See, index: int, prompt: Prompt) -> Followed:
        answer = look(engine, see, prompt)
        record = prompted_record(answer, self.options)
        pointer = Memory(0, answer.decoded.pointer[0].clone(), None)
        binarize = self.options.binarize_prompted_memory
        memory = rounded(
            engine.remember(answer.view, pointer, record.logits, binarize=binarize), self._precision
        )
        if memory is None:
            raise InputError(f"prompts[{index}]", "the model makes no finite numbers of it")
        state = ObjectState(self.fingerprint, engine.size, 1, (memory,), 0, None)
        return Followed(object_result(index, record, engine.size), state)

    def _go_on(self, engine: Engine, index: int, state: ObjectState, tracked: Tracked) -> Followed | None:
        memory = rounded(replace(tracked.memory, frame=state.frames), self._precision)
        if memory is None or not np.isfinite((tracked.object_score, tracked.iou, tracked.logits.sum())).all():
            return None
        doubtful = 0 if reliable(tracked, self.options) else state.doubtful + 1
        record = tracked_record(tracked, doubtful, self.options)
        after = state.after(memory, doubtful, self.model.config)
        return Followed(object_result(index, record, engine.size), after)

    def _settled(self, found: Mapping[int, Followed]) -> dict[int, Followed]:
        """Overlaps parted where the options say so, and where each object was visible remembered."""
        results = {i: followed.result for i, followed in found.items()}
        if self.options.non_overlapping:
            results = without_overlap(results)
        return {
            i: Followed(results[i], replace(followed.state, box=results[i].box or followed.state.box))
            for i, followed in found.items()
        }

    def _engine_of(self, frame: Rgb) -> Engine:
        """Features of frames of one size are kept, for as long as that size goes on."""
        check_rgb(frame)
        size = (frame.shape[0], frame.shape[1])
        if self._engine is None or self._engine.size != size:
            options = self.options
            self._engine = Engine(
                self.model,
                size,
                dynamic_multimask=options.dynamic_multimask,
                object_batch=options.object_batch,
                verify=options.verify,
            )
        return self._engine


def _key(frame: Rgb) -> int:
    """Equal frames have equal numbers, whichever call brings them."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest())
