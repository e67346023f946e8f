"""The order in which a session's frames are computed, and nothing that is finished twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgetam_model.results import FrameResult, ObjectResult
from edgetam_model.sources import FrameSource

Progress = Callable[[int, int], None]


class Followed(Protocol):
    """One object of a session."""

    @property
    def stale(self) -> Mapping[int, bool]:
        """Finished frames that a later prompt put in doubt → to be tracked backward?"""

    def neighbours(self, frame: int, end: int) -> tuple[int, int]:
        """The conditioning frames before and after `frame`; -1 and `end` where there is none."""

    def reaches(self, frame: int, *, reverse: bool) -> bool:
        """Whether a prompt lies on the way to `frame`."""


class Finished(Protocol):
    """The frames that are finished."""

    def has(self, object_id: int, frame: int) -> bool:
        """Whether that frame of that object is."""


class Session(Protocol):
    """What frames are computed for: `VideoSession`, and the reference host's."""

    @property
    def source(self) -> FrameSource:
        """The video."""

    @property
    def store(self) -> Finished:
        """What is finished."""

    @property
    def objects(self) -> Mapping[int, Followed]:
        """By the caller's numbers."""

    def track_frame(
        self, frame: int, rgb: NDArray[np.uint8], object_ids: list[int], *, reverse: bool
    ) -> Mapping[int, ObjectResult]:
        """Compute a frame of these objects."""

    def frame_result(self, frame: int, fresh: Mapping[int, ObjectResult]) -> FrameResult:
        """Every object's result: `fresh` ones as they are, the others from the store."""


def propagation(session: Session, frames: range, progress: Progress | None) -> Iterator[FrameResult]:
    """Yield every frame of `frames`; compute what is missing or in doubt.

    Frames in doubt that lead away from their prompt against the direction of `frames` are computed first,
    without being yielded: the pass itself then reads them from the store.
    """
    reverse = frames.step < 0
    first = _against(session, frames, reverse=not reverse)
    missing = [frame for frame in frames if _missing(session, frame, reverse=reverse)]
    total, done = len(first) + len(missing), 0
    with _Reader(session.source, reverse=not reverse) as reader:
        for frame, object_ids in first.items():
            rgb = reader.read(frame)
            if rgb is None:
                break
            session.track_frame(frame, rgb, object_ids, reverse=not reverse)
            done += 1
            _report(progress, done, total)
    with _Reader(session.source, reverse=reverse) as reader:
        for frame in frames:
            fresh: Mapping[int, ObjectResult] = {}
            object_ids = _missing(session, frame, reverse=reverse)
            if object_ids:
                rgb = reader.read(frame)
                if rgb is None:
                    return
                fresh = session.track_frame(frame, rgb, object_ids, reverse=reverse)
                done += 1
                _report(progress, done, total)
            yield session.frame_result(frame, fresh)


def _missing(session: Session, frame: int, *, reverse: bool) -> list[int]:
    """Objects that must be computed on a frame on the way through in this direction."""
    return [
        object_id
        for object_id, tracked in session.objects.items()
        if tracked.stale.get(frame) is reverse
        or (not session.store.has(object_id, frame) and tracked.reaches(frame, reverse=reverse))
    ]


def _against(session: Session, frames: range, *, reverse: bool) -> dict[int, list[int]]:
    """Frame → objects in doubt there, in the order of computing; whole ways from the prompt on."""
    work: dict[int, list[int]] = defaultdict(list)
    for object_id, tracked in session.objects.items():
        for way in _ways(tracked, len(session.source), reverse=reverse):
            wanted = [i for i, frame in enumerate(way) if frame in frames]
            for frame in way[: wanted[-1] + 1] if wanted else []:
                work[frame].append(object_id)
    return dict(sorted(work.items(), reverse=reverse))


def _ways(tracked: Followed, end: int, *, reverse: bool) -> list[list[int]]:
    """Frames in doubt of this direction, one list per prompt that they lead away from, nearest first."""
    ways: dict[int, list[int]] = defaultdict(list)
    in_doubt = (frame for frame, backward in tracked.stale.items() if backward is reverse)
    for frame in sorted(in_doubt, reverse=reverse):
        before, after = tracked.neighbours(frame, end)
        ways[after if reverse else before].append(frame)
    return list(ways.values())


def _report(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


class _Reader:
    """Reads the frames of one pass with decode-ahead; frames nobody computes are not decoded for long."""

    def __init__(self, source: FrameSource, *, reverse: bool) -> None:
        self._source = source
        self._reverse = reverse
        self._walk: Iterator[tuple[int, NDArray[np.uint8]]] | None = None
        self._next = -1

    def read(self, frame: int) -> NDArray[np.uint8] | None:
        """A frame; None where the video turns out to end before it (see the source's warnings)."""
        if frame != self._next:
            self._close()
            last = 0 if self._reverse else len(self._source) - 1
            self._walk = self._source.frames(frame, last, reverse=self._reverse)
        assert self._walk is not None
        self._next = frame - 1 if self._reverse else frame + 1
        index, rgb = next(self._walk, (None, None))
        return rgb if index == frame else None

    def _close(self) -> None:
        close = getattr(self._walk, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
