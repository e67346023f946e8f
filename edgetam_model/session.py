"""The state of one video: its objects, their prompts and memories, and the frames that are finished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgetam_model.engine import Engine, Tracked, View
from edgetam_model.errors import InputError, PromptError, SessionError
from edgetam_model.finishing import object_result, prompted_record, reliable, tracked_record
from edgetam_model.looking import Answer, look
from edgetam_model.memory import Memory, MemoryBank
from edgetam_model.model import EdgeTAM
from edgetam_model.options import TrackerOptions
from edgetam_model.prompts import Prompt
from edgetam_model.propagation import Progress, propagation
from edgetam_model.results import FrameResult, ObjectResult, without_overlap
from edgetam_model.store import FrameRecord, FrameStore
from edgetam_model.video import FrameSource
from edgetam_model.windows import Window


@dataclass
class TrackedObject:
    """One object of a session.

    Attributes:
        bank: its memories.
        prompts: frame → the prompt in force there.
        corrections: prompted frames that had been tracked before → backward?
        unremembered: prompted frames whose memory is not encoded yet.
        stale: finished frames that a later prompt put in doubt → to be tracked backward?
    """

    bank: MemoryBank
    prompts: dict[int, Prompt] = field(default_factory=dict)
    corrections: dict[int, bool] = field(default_factory=dict)
    unremembered: set[int] = field(default_factory=set)
    stale: dict[int, bool] = field(default_factory=dict)

    @property
    def conditioning(self) -> list[int]:
        """Prompted frames that are conditioning memories, in order (published corrections are not)."""
        return sorted(self.bank.conditioning)

    def neighbours(self, frame: int, end: int) -> tuple[int, int]:
        """The conditioning frames before and after `frame`; -1 and `end` where there is none."""
        frames = self.conditioning
        before = max((f for f in frames if f < frame), default=-1)
        return before, min((f for f in frames if f > frame), default=end)

    def reaches(self, frame: int, *, reverse: bool) -> bool:
        """Whether a prompt lies on the way to `frame`, so that the object can be tracked to it."""
        return any(f > frame if reverse else f < frame for f in self.prompts)


class VideoSession:
    """Tracks any number of objects through one video. Made by `VideoTracker.open` and `resume`.

    Calls are made from one thread at a time. Frames are 0-based indices in presentation order.
    """

    def __init__(self, model: EdgeTAM, options: TrackerOptions, source: FrameSource) -> None:
        self.model = model
        self.options = options
        self.source = source
        info = source.info
        self.size = (info.height, info.width)
        self.engine = Engine(
            model,
            self.size,
            dynamic_multimask=options.dynamic_multimask,
            object_batch=options.object_batch,
            verify=options.verify,
        )
        self.objects: dict[int, TrackedObject] = {}
        self.store = FrameStore(options.exact_bytes)

    def __len__(self) -> int:
        return len(self.source)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the video and the finished frames."""
        self.source.close()
        self.store.close()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong while reading the video, in words for people."""
        return self.source.warnings

    @property
    def latents_kept(self) -> int:
        """Frames back that keep latents; published corrections go back into the past and need more of it."""
        config = self.model.config
        return config.recent_memories if self.options.corrections_as_conditioning else config.max_pointers

    @cached_property
    def fingerprint(self) -> str:
        """Which weights this session runs on."""
        return self.model.fingerprint()

    def add_prompt(self, frame: int, object_id: int, prompt: Prompt, *, extend: bool = False) -> ObjectResult:
        """Prompt an object on a frame, new or tracked; the object is created by its first prompt.

        Args:
            frame: 0-based index.
            object_id: the caller's number for the object.
            prompt: replaces the object's earlier prompt on this frame.
            extend: add the clicks to the earlier prompt instead.

        Returns:
            The object's mask on that frame, at once. Other frames follow with the next `propagate`.

        Raises:
            InputError: a frame outside the video.
            PromptError: a prompt outside the image, or nothing positive in it and nothing to correct.
        """
        self._check_frame("frame", frame)
        prompt.check_inside(*self.size)
        known = self.objects.get(object_id)
        earlier = known.prompts.get(frame) if known else None
        finished = self.store.get(object_id, frame) if self.store.has(object_id, frame) else None
        if extend and earlier is not None:
            prompt = earlier.extended(prompt)
        correcting = finished is not None and (extend or not finished.prompted)
        if not prompt.has_positive and not correcting:
            raise PromptError("labels", "expected a positive click, a box or a mask: nothing is selected yet")
        tracked = known or TrackedObject(MemoryBank(self.model.config, self.latents_kept))
        answer = self._answer(frame, object_id, tracked, prompt, finished if correcting else None)
        self.objects[object_id] = tracked
        self._set_prompt(frame, object_id, prompt, answer, finished)
        return self._object_result(object_id, frame)

    def remove_prompt(self, frame: int, object_id: int) -> None:
        """Take a prompt back; the stretch between its neighbours is tracked again by the next `propagate`.

        Raises:
            SessionError: the object has no prompt there, or no other one.
        """
        tracked = self._object(object_id)
        if frame not in tracked.prompts:
            raise SessionError(f"object {object_id} has no prompt on frame {frame}")
        if len(tracked.conditioning) == 1 and frame in tracked.conditioning:
            raise SessionError(
                f"frame {frame} holds the only prompt of object {object_id}: remove the object"
            )
        self.store.discard(object_id, (frame,))
        del tracked.prompts[frame]
        tracked.corrections.pop(frame, None)
        tracked.bank.conditioning.pop(frame, None)
        tracked.unremembered.discard(frame)
        before, after = tracked.neighbours(frame, len(self))
        self._put_in_doubt(object_id, range(before + 1, after), backward=before < 0)
        tracked.bank.forget(range(before + 1, after), tracked.prompts)

    def remove_object(self, object_id: int) -> None:
        """Forget an object; the others keep their masks and memories.

        Raises:
            SessionError: there is no such object.
        """
        self._object(object_id)
        del self.objects[object_id]
        self.store.discard(object_id, self.store.frames(object_id))

    def result(self, frame: int) -> FrameResult:
        """What is finished on a frame, computing nothing."""
        self._check_frame("frame", frame)
        return self.frame_result(frame, {})

    def propagate(
        self,
        start: int | None = None,
        stop: int | None = None,
        *,
        reverse: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[FrameResult]:
        """Track all objects, yielding one result per frame; finished frames come from the store.

        Stretches that a correction put in doubt and that must be tracked against the direction asked
        for are done first. Closing the iterator, or an exception raised by `progress`, stops at a frame;
        what is finished stays, and a later call goes on from there.

        Args:
            start: first frame, included; None: the first prompted frame (the last one in reverse).
            stop: last frame, included; None: the end of the video (frame 0 in reverse).
            reverse: track backward in time; then start ≥ stop.
            progress: called with (computed frames, frames to compute) after each computed frame.

        Raises:
            SessionError: nothing is prompted yet.
            InputError: frames outside the video or in the wrong order.
        """
        frames = self._range(start, stop, reverse=reverse)
        return propagation(self, frames, progress)

    def checkpoint(self) -> bytes:
        """The session as bytes; `VideoTracker.resume` goes on from them to the same masks."""
        from edgetam_model.checkpoint import save  # it builds on sessions, so that it cannot come first

        return save(self)

    # What follows serves `propagation` and checkpoints.

    def remember_prompts(self) -> None:
        """Encode the memories of prompted frames from their final masks."""
        for object_id, tracked in self.objects.items():
            self._remember(object_id, tracked)

    def track_frame(
        self, frame: int, rgb: NDArray[np.uint8], object_ids: list[int], *, reverse: bool
    ) -> dict[int, ObjectResult]:
        """Compute a frame of these objects in one batch, and keep what comes out."""
        self.remember_prompts()  # prompts may have come since the last frame
        limit = self.options.max_conditioning_frames
        recalls = [
            self.objects[i].bank.recall(frame, reverse=reverse, max_conditioning=limit) for i in object_ids
        ]
        outcome = self.engine.track(frame, lambda: rgb, recalls)
        return {
            object_id: self._finish(frame, object_id, tracked, reverse=reverse)
            for object_id, tracked in zip(object_ids, outcome, strict=True)
        }

    def _finish(self, frame: int, object_id: int, tracked: Tracked, *, reverse: bool) -> ObjectResult:
        doubtful = self._doubtful(frame, object_id, tracked, reverse=reverse)
        record = tracked_record(tracked, doubtful, self.options, reverse=reverse)
        self.store.put(object_id, frame, record)
        known = self.objects[object_id]
        known.bank.remember(tracked.memory, reverse=reverse)
        known.stale.pop(frame, None)
        return object_result(object_id, record, self.size)

    def _answer(
        self, frame: int, object_id: int, tracked: TrackedObject, prompt: Prompt, last: FrameRecord | None
    ) -> Answer:
        """Decode a prompt; on a tracked frame with memories, and clicks refine its last logits.

        A model with windows is asked anew for all clicks of a frame that nothing was tracked to.
        """
        recall = None
        reached = tracked.corrections.get(frame, last.reverse if last and not last.prompted else None)
        if reached is not None:
            self._remember(object_id, tracked)
            limit = self.options.max_conditioning_frames
            remembered = tracked.bank.recall(frame, reverse=reached, max_conditioning=limit)
            recall = remembered if remembered.latents else None  # None: the other prompts were removed
        begun = prompt.box is not None or prompt.mask is not None or prompt.logits is not None
        anew = self.engine.windowed and reached is None
        if last is not None and not begun and not anew:
            prompt = prompt.refining(last)
        return look(self.engine, partial(self._view, frame), prompt, recall=recall)

    def _set_prompt(
        self, frame: int, object_id: int, prompt: Prompt, answer: Answer, finished: FrameRecord | None
    ) -> None:
        tracked, record = self.objects[object_id], prompted_record(answer, self.options)
        if finished is not None and not finished.prompted:
            tracked.corrections[frame] = finished.reverse
        memory = Memory(frame, answer.decoded.pointer[0].clone(), None)
        before, after = tracked.neighbours(frame, len(self))
        if frame in tracked.corrections and not self.options.corrections_as_conditioning:
            reverse = tracked.corrections[frame]
            later = range(before + 1, frame) if reverse else range(frame + 1, after)
            self._put_in_doubt(object_id, later, backward=reverse)
            tracked.bank.recent[reverse][frame] = memory
        else:
            self._put_in_doubt(object_id, range(before + 1, frame), backward=True)
            self._put_in_doubt(object_id, range(frame + 1, after), backward=False)
            tracked.bank.forget(range(before + 1, after), tracked.prompts)
            tracked.bank.conditioning[frame] = memory
        tracked.prompts[frame] = prompt
        tracked.unremembered.add(frame)
        tracked.stale.pop(frame, None)
        self.store.put(object_id, frame, record)

    def _put_in_doubt(self, object_id: int, frames: range, *, backward: bool) -> None:
        """Mark what is finished on these frames, other than prompts, to be tracked again."""
        tracked = self.objects[object_id]
        for frame in self.store.frames(object_id):
            if frame in frames and frame not in tracked.prompts:
                tracked.stale[frame] = backward

    def _remember(self, object_id: int, tracked: TrackedObject) -> None:
        for frame in sorted(tracked.unremembered):
            home = tracked.bank.conditioning
            if frame not in home:
                home = tracked.bank.recent[tracked.corrections[frame]]
            record = self.store.get(object_id, frame)
            home[frame] = self.engine.remember(
                self._view(frame, record.window),
                home[frame],
                record.logits,
                binarize=self.options.binarize_prompted_memory,
            )
            tracked.unremembered.discard(frame)

    def _view(self, frame: int, window: Window | None) -> View:
        return self.engine.view(frame, lambda: self.source.read(frame), window)

    def _doubtful(self, frame: int, object_id: int, tracked: Tracked, *, reverse: bool) -> int:
        if reliable(tracked, self.options):
            return 0
        previous = frame + 1 if reverse else frame - 1
        if not self.store.has(object_id, previous):
            return 1
        record = self.store.get(object_id, previous)
        return record.doubtful + 1 if record.reverse == reverse else 1

    def _object_result(self, object_id: int, frame: int) -> ObjectResult:
        return object_result(object_id, self.store.get(object_id, frame), self.size)

    def frame_result(self, frame: int, fresh: Mapping[int, ObjectResult]) -> FrameResult:
        """Every object's result on a frame: `fresh` ones as they are, the others from the store."""
        results = {
            i: fresh[i] if i in fresh else self._object_result(i, frame)
            for i in self.objects
            if i in fresh or self.store.has(i, frame)
        }
        if self.options.non_overlapping:
            results = without_overlap(results)
        return FrameResult(frame, float(self.source.info.times[frame]), results)

    def _object(self, object_id: int) -> TrackedObject:
        if object_id not in self.objects:
            raise SessionError(f"there is no object {object_id}")
        return self.objects[object_id]

    def _check_frame(self, name: str, frame: int) -> None:
        if not 0 <= frame < len(self):
            raise InputError(name, f"expected a frame from 0 to {len(self) - 1}, got {frame}")

    def _range(self, start: int | None, stop: int | None, *, reverse: bool) -> range:
        prompted = [frame for tracked in self.objects.values() for frame in tracked.prompts]
        if not prompted:
            raise SessionError("nothing is prompted yet: add a prompt first")
        if start is None:
            start = max(prompted) if reverse else min(prompted)
        if stop is None:
            stop = 0 if reverse else len(self) - 1
        self._check_frame("start", start)
        self._check_frame("stop", stop)
        if (stop - start) * (-1 if reverse else 1) < 0:
            order = "at most" if reverse else "at least"
            raise InputError("stop", f"expected {order} start ({start}), got {stop}")
        return range(start, stop - 1, -1) if reverse else range(start, stop + 1)
