"""The tracker over a task's frames, which come from the server one after the other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cvat_function.settings import Quality
from cvat_function.shapes import shape_of_mask, shape_prompt
from cvat_function.video.frames import FrameMap
from cvat_function.video.seeds import Seed
from cvat_function.video.tracks import Sight
from edgetam_model import (
    EdgeTAM,
    EdgeTAMError,
    InputError,
    ObjectResult,
    VideoSession,
    VideoTracker,
    read_image,
)

Frame = NDArray[np.uint8]
HELD = 3  # decoded frames: the one tracked, and two that are read ahead
Progress = Callable[[int], None]  # frames done


class TaskFrames(Sequence[Frame]):
    """A task's frames as the tracker reads them: uint8 (H, W, 3), fetched when asked for, few of them held.

    Args:
        fetch: frame number → the encoded image.
        numbers: the frames, as the task counts them; the sequence counts them from 0.
    """

    def __init__(self, fetch: Callable[[int], bytes], numbers: Sequence[int]) -> None:
        self._fetch = fetch
        self._numbers = numbers
        self._held: OrderedDict[int, Frame] = OrderedDict()
        self._lock = Lock()  # the tracker reads ahead in a thread of its own

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        if isinstance(index, slice):
            return TaskFrames(self._fetch, self._numbers[index])
        number = self._numbers[index]
        with self._lock:
            if number not in self._held:
                self._held[number] = read_image(self._fetch(number))
            self._held.move_to_end(number)
            while len(self._held) > HELD:
                self._held.popitem(last=False)
            return self._held[number]


@dataclass(frozen=True)
class Followed:
    """What was seen until the end, or until it was stopped.

    Attributes:
        sights: seed number → what was seen of it, ascending by frame; whole frames only.
        last: the last finished frame, as the task counts; None: not even the first.
        cancelled: by Ctrl-C.
        failure: what went wrong on the way, in words.
    """

    sights: Mapping[int, Sequence[Sight]]
    last: int | None
    cancelled: bool = False
    failure: str | None = None


def follow(
    model: EdgeTAM,
    fetch: Callable[[int], bytes],
    frames: FrameMap,
    seeds: Sequence[Seed],
    progress: Progress,
    quality: Quality | None = None,
) -> Followed:
    """Track all seeds to the end of the range.

    Ctrl-C, or a frame that cannot be had, ends it early; what is finished by then is the answer.

    Args:
        quality: None: as the model is set.

    Raises:
        InputError: `quality`, the weights have no fast mode.
        EdgeTAMError: a frame with a seed on it cannot be had or read, or is of another size than promised.
    """
    sights: dict[int, list[Sight]] = {seed.number: [] for seed in seeds}
    last: int | None = None
    with VideoTracker(model).open(TaskFrames(fetch, frames.frames), quality=quality) as session:
        begin = _prompt(session, seeds, frames)
        try:
            for count, result in enumerate(session.propagate(begin), start=1):
                frame = frames.frames[result.frame]
                seen = {
                    s.number: _sight(s, frame, result.objects[s.number])
                    for s in seeds
                    if s.number in result.objects
                }
                for number, sight in seen.items():
                    sights[number].append(sight)
                last = frame
                progress(count)
        except KeyboardInterrupt:
            return Followed(_until(sights, last), last, cancelled=True)
        except EdgeTAMError as error:
            return Followed(_until(sights, last), last, failure=str(error))
    return Followed(sights, last)


def _prompt(session: VideoSession, seeds: Sequence[Seed], frames: FrameMap) -> int:
    """Every key frame as a prompt; the index of the first one."""
    if session.size != (frames.height, frames.width):
        height, width = session.size
        raise InputError(
            "frames",
            f"expected {frames.width}×{frames.height} pixels as the server says, got {width}×{height}",
        )
    index = {number: place for place, number in enumerate(frames.frames)}
    placed = [
        (index[key.frame], seed, key.shape) for seed in seeds for key in seed.keys if key.shape is not None
    ]
    placed.sort(key=lambda item: (item[0], item[1].number))
    for place, seed, shape in placed:
        session.add_prompt(place, seed.number, shape_prompt(shape, frames.width, frames.height))
    return placed[0][0]


def _sight(seed: Seed, frame: int, result: ObjectResult) -> Sight:
    """People's own shapes come back as they drew them."""
    if seed.hidden_on(frame):
        return Sight(frame, None)
    drawn = seed.drawn_on(frame)
    return Sight(frame, drawn if drawn is not None else shape_of_mask(result.mask, seed.type))


def _until(sights: Mapping[int, Sequence[Sight]], last: int | None) -> dict[int, list[Sight]]:
    """Without a frame of which only some objects had been noted when the interruption came."""
    return {
        number: [s for s in seen if last is not None and s.frame <= last] for number, seen in sights.items()
    }
