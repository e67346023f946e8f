"""The reference host: tracking with exported parts in NumPy, step by step as an app must do it.

Same masks as `VideoTracker`, from any `Runtime` of the parts. What is remembered is in `bank`, the calls of
the parts are in `host_engine`, the order of frames in `propagation`; `rules` says all of it in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError, PromptError, SessionError
from edgetam_model.export.bank import MemoryBank
from edgetam_model.export.host_engine import Answer, HostEngine, Runtime, Views
from edgetam_model.export.manifest import Manifest
from edgetam_model.masks import fill_holes, remove_islands
from edgetam_model.options import TrackerOptions
from edgetam_model.parts.specs import MANY_CONDITIONING
from edgetam_model.prompts import Prompt
from edgetam_model.propagation import Progress, propagation
from edgetam_model.results import FrameResult, ObjectResult, State, without_overlap
from edgetam_model.store import FrameRecord, FrameStore
from edgetam_model.video import FrameSource, MediaLimits, Source, open_source
from edgetam_model.windows import Window

__all__ = ["HostObject", "HostSession", "HostTracker", "Runtime"]


class HostTracker:
    """Opens sessions, as `VideoTracker` does; one tracker serves any number of them.

    Args:
        runtime: executes the parts.
        manifest: of the export that it runs.
        options: how to track; None: as the manifest says.

    Raises:
        InputError: options that the exported graphs or the rules do not have.
    """

    def __init__(self, runtime: Runtime, manifest: Manifest, options: TrackerOptions | None = None) -> None:
        self.runtime = runtime
        self.manifest = manifest
        self.options = options or TrackerOptions.from_dict(manifest.tracker)
        if not self.options.corrections_as_conditioning:
            raise InputError("corrections_as_conditioning", "expected True: hosts have no other corrections")
        if self.options.max_conditioning_frames > MANY_CONDITIONING:
            raise InputError(
                "max_conditioning_frames",
                f"expected at most {MANY_CONDITIONING}, got {self.options.max_conditioning_frames}",
            )

    def open(self, source: Source, limits: MediaLimits | None = None) -> HostSession:
        """Start a session on a video file, a folder of images, or uint8 (H, W, 3) arrays.

        Raises:
            MediaError: the source is refused or cannot be read.
        """
        return HostSession(self, open_source(source, limits))


@dataclass
class HostObject:
    """One object of a session.

    Attributes:
        bank: its memories.
        prompts: frame → the prompt in force there; all of them are conditioning memories.
        corrections: prompted frames that had been tracked before → backward?
        stale: finished frames that a later prompt put in doubt → to be tracked backward?
    """

    bank: MemoryBank
    prompts: dict[int, Prompt] = field(default_factory=dict)
    corrections: dict[int, bool] = field(default_factory=dict)
    stale: dict[int, bool] = field(default_factory=dict)

    def neighbours(self, frame: int, end: int) -> tuple[int, int]:
        """The prompted frames before and after `frame`; -1 and `end` where there is none."""
        before = max((f for f in self.prompts if f < frame), default=-1)
        return before, min((f for f in self.prompts if f > frame), default=end)

    def reaches(self, frame: int, *, reverse: bool) -> bool:
        """Whether a prompt lies on the way to `frame`, so that the object can be tracked to it."""
        return any(f > frame if reverse else f < frame for f in self.prompts)


class HostSession:
    """Tracks any number of objects through one video. Made by `HostTracker.open`."""

    def __init__(self, tracker: HostTracker, source: FrameSource) -> None:
        self.options = tracker.options
        self.config = tracker.manifest.sizes
        self.source = source
        self.size = (source.info.height, source.info.width)
        self.engine = HostEngine(tracker.runtime, tracker.manifest, self.options, self.size)
        self.objects: dict[int, HostObject] = {}
        self.store = FrameStore(self.options.exact_bytes)

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

    def add_prompt(self, frame: int, object_id: int, prompt: Prompt, *, extend: bool = False) -> ObjectResult:
        """Prompt an object on a frame, new or tracked; as `VideoSession.add_prompt`.

        Raises:
            InputError: a frame outside the video.
            PromptError: a prompt outside the image, more clicks than there are slots, or nothing positive in
                it and nothing to correct.
        """
        self._check_frame("frame", frame)
        prompt.check_inside(*self.size)
        known = self.objects.get(object_id) or HostObject(MemoryBank(self.config))
        earlier = known.prompts.get(frame)
        finished = self.store.get(object_id, frame) if self.store.has(object_id, frame) else None
        if extend and earlier is not None:
            prompt = earlier.extended(prompt)
        correcting = finished is not None and (extend or not finished.prompted)
        if not prompt.has_positive and not correcting:
            raise PromptError("labels", "expected a positive click, a box or a mask: nothing is selected yet")
        answer = self._answer(frame, known, prompt, finished if correcting else None)
        self.objects[object_id] = known
        if finished is not None and not finished.prompted:
            known.corrections[frame] = finished.reverse
        self._put_in_doubt_around(frame, object_id)
        known.prompts[frame] = prompt
        known.stale.pop(frame, None)
        record = self._record(answer, 0, prompted=True, reverse=False)
        self.store.put(object_id, frame, record)
        view = self._see(frame, answer.window)
        known.bank.conditioning[frame] = self.engine.remember(frame, view, answer, record.logits)
        return self._object_result(object_id, record)

    def remove_prompt(self, frame: int, object_id: int) -> None:
        """Take a prompt back; the stretch between its neighbours is tracked again by the next `propagate`.

        Raises:
            SessionError: the object has no prompt there, or no other one.
        """
        known = self._object(object_id)
        if frame not in known.prompts:
            raise SessionError(f"object {object_id} has no prompt on frame {frame}")
        if len(known.prompts) == 1:
            raise SessionError(
                f"frame {frame} holds the only prompt of object {object_id}: remove the object"
            )
        self.store.discard(object_id, (frame,))
        del known.prompts[frame], known.bank.conditioning[frame]
        known.corrections.pop(frame, None)
        before, after = known.neighbours(frame, len(self))
        self._put_in_doubt(object_id, range(before + 1, after), backward=before < 0)
        known.bank.forget(range(before + 1, after), known.prompts)

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
        """Track all objects, yielding one result per frame; as `VideoSession.propagate`.

        Raises:
            SessionError: nothing is prompted yet.
            InputError: frames outside the video or in the wrong order.
        """
        prompted = [frame for known in self.objects.values() for frame in known.prompts]
        if not prompted:
            raise SessionError("nothing is prompted yet: add a prompt first")
        start = start if start is not None else max(prompted) if reverse else min(prompted)
        stop = stop if stop is not None else 0 if reverse else len(self) - 1
        self._check_frame("start", start)
        self._check_frame("stop", stop)
        step = -1 if reverse else 1
        if (stop - start) * step < 0:
            raise InputError("stop", f"expected one on the way from {start}, got {stop}")
        return propagation(self, range(start, stop + step, step), progress)

    # What follows serves `propagation`.

    def track_frame(
        self, frame: int, rgb: NDArray[np.uint8], object_ids: list[int], *, reverse: bool
    ) -> dict[int, ObjectResult]:
        """Compute a frame of these objects, and keep what comes out."""
        limit = self.options.max_conditioning_frames
        recalls = [
            self.objects[i].bank.recall(frame, reverse=reverse, max_conditioning=limit) for i in object_ids
        ]
        outcome = self.engine.track(frame, lambda: rgb, recalls)
        results = {}
        for object_id, tracked in zip(object_ids, outcome, strict=True):
            doubtful = self._doubtful(frame, object_id, tracked.answer, reverse=reverse)
            record = self._record(tracked.answer, doubtful, prompted=False, reverse=reverse)
            self.store.put(object_id, frame, record)
            self.objects[object_id].bank.remember(tracked.memory, reverse=reverse)
            self.objects[object_id].stale.pop(frame, None)
            results[object_id] = self._object_result(object_id, record)
        return results

    def frame_result(self, frame: int, fresh: Mapping[int, ObjectResult]) -> FrameResult:
        """Every object's result on a frame: `fresh` ones as they are, the others from the store."""
        results = {
            i: fresh[i] if i in fresh else self._object_result(i, self.store.get(i, frame))
            for i in self.objects
            if i in fresh or self.store.has(i, frame)
        }
        if self.options.non_overlapping:
            results = without_overlap(results)
        return FrameResult(frame, float(self.source.info.times[frame]), results)

    def _answer(self, frame: int, known: HostObject, prompt: Prompt, last: FrameRecord | None) -> Answer:
        """Decode a prompt; on a tracked frame with memories, and clicks refine its last logits."""
        recall = None
        reached = known.corrections.get(frame, last.reverse if last and not last.prompted else None)
        if reached is not None:
            limit = self.options.max_conditioning_frames
            remembered = known.bank.recall(frame, reverse=reached, max_conditioning=limit)
            recall = remembered if remembered.latents else None  # None: the other prompts were removed
        begun = prompt.box is not None or prompt.mask is not None or prompt.logits is not None
        anew = self.engine.windowed and reached is None
        if last is not None and not begun and not anew:
            prompt = prompt.refining(last)
        return self.engine.answer(partial(self._see, frame), prompt, recall)

    def _see(self, frame: int, window: Window | None) -> Views:
        return self.engine.view(frame, lambda: self.source.read(frame), window)

    def _put_in_doubt_around(self, frame: int, object_id: int) -> None:
        known = self.objects[object_id]
        before, after = known.neighbours(frame, len(self))
        self._put_in_doubt(object_id, range(before + 1, frame), backward=True)
        self._put_in_doubt(object_id, range(frame + 1, after), backward=False)
        known.bank.forget(range(before + 1, after), known.prompts)

    def _put_in_doubt(self, object_id: int, frames: range, *, backward: bool) -> None:
        """Mark what is finished on these frames, other than prompts, to be tracked again."""
        known = self.objects[object_id]
        for frame in self.store.frames(object_id):
            if frame in frames and frame not in known.prompts:
                known.stale[frame] = backward

    def _doubtful(self, frame: int, object_id: int, answer: Answer, *, reverse: bool) -> int:
        """Frames in a row without a reliable mask, this one included."""
        if answer.present and answer.iou >= self.options.lost_iou:
            return 0
        previous = frame + 1 if reverse else frame - 1
        if not self.store.has(object_id, previous):
            return 1
        record = self.store.get(object_id, previous)
        return record.doubtful + 1 if record.reverse == reverse else 1

    def _record(self, answer: Answer, doubtful: int, *, prompted: bool, reverse: bool) -> FrameRecord:
        """A finished frame: holes filled, and whether the object counts as seen."""
        logits = answer.logits
        if self.options.fill_hole_area:
            logits = fill_holes(logits, self.options.fill_hole_area)
        if self.options.island_area:
            logits = remove_islands(logits, self.options.island_area)
        state: State = "visible" if answer.present else "absent"
        if 0 < self.options.lost_after <= doubtful:
            state = "lost"
        record = FrameRecord(
            logits, answer.iou, answer.object_score, state, prompted, reverse, doubtful, answer.window
        )
        return replace(record, logits=np.ascontiguousarray(logits, np.float32))

    def _object_result(self, object_id: int, record: FrameRecord) -> ObjectResult:
        return ObjectResult(
            logits=record.logits,
            size=self.size,
            iou=record.iou,
            object_score=record.object_score,
            state=record.state,
            window=record.window,
            object_id=object_id,
            prompted=record.prompted,
        )

    def _object(self, object_id: int) -> HostObject:
        if object_id not in self.objects:
            raise SessionError(f"there is no object {object_id}")
        return self.objects[object_id]

    def _check_frame(self, name: str, frame: int) -> None:
        if not 0 <= frame < len(self):
            raise InputError(name, f"expected a frame from 0 to {len(self) - 1}, got {frame}")
