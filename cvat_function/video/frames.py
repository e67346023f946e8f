"""Which frames of a task there are, and how CVAT counts them. No SDK, no torch.

CVAT's page and its annotations count a task's frames from 0, whatever frame of the original media the task
starts with and however many it skips. Deleted frames keep their numbers.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from cvat_function.video.records import FrameSize, Job, Meta
from edgetam_model import InputError

_RANGE = re.compile(r"(?P<first>[0-9]{1,9})(?:-(?P<last>[0-9]{1,9})?)?")
_STEP = re.compile(r"step\s*=\s*(?P<step>[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class FrameMap:
    """The frames of a task, or of a job, and those of them that are to be tracked.

    Attributes:
        frames: those to be tracked, ascending, as the task counts them; deleted ones are left out.
        kept: all that there are, within the range and beyond.
        width, height: of all of `frames`, in pixels.
        base: the task's number of the first frame of the task or job.
        source_start: that frame's number in the original media.
        step: frames of the original media from one frame to the next.
    """

    frames: tuple[int, ...]
    kept: tuple[int, ...]
    width: int
    height: int
    base: int
    source_start: int
    step: int

    def after(self, frame: int) -> int | None:
        """The next frame that there is, in the range or beyond it; None at the end."""
        place = bisect_right(self.kept, frame)
        return self.kept[place] if place < len(self.kept) else None

    def source(self, frame: int) -> int:
        """A frame's number in the original media."""
        return self.source_start + (frame - self.base) * self.step


@dataclass(frozen=True)
class ListedFrames:
    """Frames as the task counts them, ascending; deleted ones are left out.

    Attributes:
        frames: those that are asked for.
        kept: all that there are, within the range and beyond.
        sizes: of every frame.
    """

    frames: tuple[int, ...]
    kept: tuple[int, ...]
    sizes: Mapping[int, FrameSize]


def parse_range(text: str) -> tuple[int, int | None]:
    """`A-B`, `A-` (to the end) or `A`, both included; the second is None for the end.

    Raises:
        InputError: anything else, or B before A.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InputError(
            "range", f"expected A-B, A- or A (frames as CVAT's player counts them), got {text!r}"
        )
    first = int(match["first"])
    if "-" not in text:
        return first, first
    last = None if match["last"] is None else int(match["last"])
    if last is not None and last < first:
        raise InputError("range", f"expected A-B with A ≤ B, got {text!r}")
    return first, last


def map_frames(meta: Meta, job: Job | None, first: int, last: int | None) -> FrameMap:
    """The frames `first` to `last` of a task, or of one of its jobs.

    Raises:
        InputError: a range that leaves the task or job, or has only deleted frames, or images of
            different sizes.
    """
    listed = list_frames(meta, job, first, last)
    size = common_size(listed)
    low = job.start_frame if job else 0
    step = _step(meta.frame_filter)
    return FrameMap(listed.frames, listed.kept, size.width, size.height, low, meta.start_frame, step)


def list_frames(meta: Meta, job: Job | None, first: int, last: int | None) -> ListedFrames:
    """The frames `first` to `last` of a task, or of one of its jobs, whatever their sizes.

    Raises:
        InputError: a range that leaves the task or job, or has only deleted frames.
    """
    low, high = (job.start_frame, job.stop_frame) if job else (0, meta.size - 1)
    last = high if last is None else last
    if not low <= first <= last <= high:
        what = f"job {job.id}" if job else "the task"
        raise InputError("range", f"expected frames {low} to {high} of {what}, got {first}-{last}")
    listed = _included(meta, low, high, _step(meta.frame_filter))
    deleted = set(meta.deleted_frames)
    kept = tuple(frame for frame in listed if frame not in deleted)
    frames = tuple(frame for frame in kept if first <= frame <= last)
    if not frames:
        raise InputError("range", f"of frames {first} to {last} none is there: deleted, or not in the job")
    return ListedFrames(frames, kept, _sizes(meta, range(low, high + 1), listed))


def _step(frame_filter: str) -> int:
    match = _STEP.search(frame_filter)
    return int(match["step"]) if match else 1


def _included(meta: Meta, low: int, high: int, step: int) -> tuple[int, ...]:
    there = range(low, high + 1)
    if meta.included_frames is None:
        return tuple(there)
    numbers = {low + (number - meta.start_frame) // step for number in meta.included_frames}
    return tuple(frame for frame in there if frame in numbers)


def _sizes(meta: Meta, span: range, listed: tuple[int, ...]) -> dict[int, FrameSize]:
    """By frame: a video has one entry for all, images one each, of the whole range or of what is included."""
    if len(meta.frames) == 1:
        return dict.fromkeys(span, meta.frames[0])
    for frames in (span, listed):
        if len(frames) == len(meta.frames):
            return dict(zip(frames, meta.frames, strict=True))
    raise InputError(
        "task", f"expected the sizes of {len(span)} frames from the server, got {len(meta.frames)}"
    )


def common_size(listed: ListedFrames) -> FrameSize:
    """The size that all frames have.

    Raises:
        InputError: they have several.
    """
    sizes, frames = listed.sizes, listed.frames
    size = sizes[frames[0]]
    for frame in frames:
        if sizes[frame] != size:
            raise InputError(
                "range",
                f"expected images of one size: frame {frames[0]} has {size.width}×{size.height} pixels, "
                f"frame {frame} {sizes[frame].width}×{sizes[frame].height}",
            )
    return size
