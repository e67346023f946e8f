"""What every source of frames offers, whatever it reads from; and the source over arrays in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError, MediaError
from edgetam_model.timetable import TimeTable

Frame = NDArray[np.uint8]
Walk = Generator[tuple[int, Frame], None, None]  # (index, frame), frame by frame

NOMINAL_RATE = 25  # frames per second given to sources that have no clock: folders and arrays

MAX_WARNINGS = 100  # kept per source: a damaged film would fill the memory with them


@dataclass(frozen=True)
class MediaLimits:
    """What is refused before it costs memory or time.

    Attributes:
        max_pixels: of one image or frame; the default is where Pillow begins to warn (an RGB frame of
            that size takes 268 MB), and leaves room for 8K video (33 MP) and most cameras.
        max_frames: of one video or folder; the default is 4.6 hours at 60 frames per second.
        max_bytes: of one file.
    """

    max_pixels: int = 89_478_485
    max_frames: int = 1_000_000
    max_bytes: int = 16 * 1024**3

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_frames", "max_bytes"):
            if getattr(self, name) < 1:
                raise InputError(name, f"expected a positive number, got {getattr(self, name)}")

    def check_size(self, field: str, width: int, height: int) -> None:
        """Raise where an image of this size is too large.

        Raises:
            MediaError: more than `max_pixels`, or no pixels at all.
        """
        if width < 1 or height < 1:
            raise MediaError(field, f"has no pixels ({width}×{height})")
        if width * height > self.max_pixels:
            raise MediaError(field, f"{width}×{height} pixels are more than the limit of {self.max_pixels:,}")

    def check_bytes(self, field: str, size: int) -> None:
        """Raise where a file of this size is empty or too large.

        Raises:
            MediaError: no bytes, or more than `max_bytes`.
        """
        if size == 0:
            raise MediaError(field, "the file is empty (0 bytes)")
        if size > self.max_bytes:
            raise MediaError(field, f"{size:,} bytes are more than the limit of {self.max_bytes:,}")

    def check_frames(self, field: str, count: int) -> None:
        """Raise where there are too many frames.

        Raises:
            MediaError: more than `max_frames`.
        """
        if count > self.max_frames:
            raise MediaError(field, f"more frames than the limit of {self.max_frames:,}")


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """Facts about a source of frames.

    Attributes:
        width, height: pixels of the frames as delivered, rotated upright.
        table: presentation time of every frame.
        codec: the codec's name, "images" for a folder or an image, "arrays" for arrays.
        rotation: degrees clockwise by which stored frames are turned to stand upright: 0, 90, 180, 270.
        mirrored: whether the stored frames are also flipped left to right, before they are turned.
        has_b_frames: whether frames are stored in another order than they are shown.
        media_duration: seconds of the longest stream, sound included, as the file declares it: what
            a player shows as the length. None where there is no such claim.
        warnings: what was found wrong while opening.
    """

    width: int
    height: int
    table: TimeTable
    codec: str
    rotation: int = 0
    mirrored: bool = False
    has_b_frames: bool = False
    media_duration: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return len(self.table)

    @property
    def times(self) -> NDArray[np.float64]:
        """(T,) seconds on the file's clock, ascending, read-only; the first need not be 0."""
        return self.table.times

    @property
    def start_time(self) -> float:
        """Seconds on the file's clock at which the first frame appears."""
        return float(self.table.times[0])

    @property
    def duration(self) -> float:
        """Seconds from the first frame's appearance to the last one's end."""
        return self.table.duration

    @property
    def average_fps(self) -> float:
        """Frames per second, on average where the rate is variable."""
        return float(self.table.rate)

    @property
    def variable_rate(self) -> bool:
        """Whether the frames keep to no constant rate."""
        return self.table.variable_rate


class FrameSource(ABC):
    """A closeable sequence of upright RGB frames with random access.

    Frames are uint8 (H, W, 3), numbered from 0 in presentation order. `read` may be called from any
    thread, one call at a time; every iterator of `frames` reads on its own.
    """

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self._read_warnings: dict[str, None] = {}  # in order, each once
        self._closed = False

    def __len__(self) -> int:
        return self.info.frames

    @property
    def table(self) -> TimeTable:
        """Presentation time of every frame."""
        return self.info.table

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong so far, while opening and while reading."""
        return self.info.warnings + tuple(self._read_warnings)

    def read(self, index: int) -> Frame:
        """The frame `index`, uint8 (H, W, 3) RGB, not to be written into.

        Raises:
            InputError: no such frame.
            MediaError: the frame cannot be decoded, or the source is closed.
        """
        self._check_open()
        self._check_index("frame", index)
        frame = self._read(index)
        if frame is None:
            raise MediaError("frame", self._unreadable(index))
        return frame

    def frames(self, start: int, stop: int, *, reverse: bool = False, ahead: int = 2) -> Walk:
        """Yield (index, frame) from `start` to `stop`, both included; `reverse` counts down.

        A thread reads up to `ahead` frames in advance (0: none, everything happens in the caller). It
        ends when the iterator is exhausted or closed. A frame that cannot be decoded ends the
        iteration, with a warning in `warnings`.

        Raises:
            InputError: no such frames, or `stop` on the wrong side of `start`.
            MediaError: the source is closed.
        """
        self._check_open()
        self._check_index("start", start)
        self._check_index("stop", stop)
        if ahead < 0 or (stop > start if reverse else stop < start):
            raise InputError("stop", f"cannot go {'down' if reverse else 'up'} from {start} to {stop}")
        walk = self._backward if reverse else self._forward
        return read_ahead(lambda: walk(start, stop), ahead) if ahead else walk(start, stop)

    def close(self) -> None:
        """Release what is open; later calls of `read` and `frames` are refused."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _read(self, index: int) -> Frame | None:
        """The frame, or None where it cannot be decoded."""

    def _forward(self, start: int, stop: int) -> Walk:
        for index in range(start, stop + 1):
            frame = self._read(index)
            if frame is None:
                return self._warn(self._unreadable(index))
            yield index, frame

    def _backward(self, start: int, stop: int) -> Walk:
        for index in range(start, stop - 1, -1):
            frame = self._read(index)
            if frame is None:
                return self._warn(self._unreadable(index))
            yield index, frame

    def _unreadable(self, index: int) -> str:
        return f"frame {index} of {len(self)} cannot be decoded"

    def _warn(self, message: str) -> None:
        if len(self._read_warnings) < MAX_WARNINGS:
            self._read_warnings[message] = None

    def _check_open(self) -> None:
        if self._closed:
            raise MediaError("source", "is closed")

    def _check_index(self, field: str, index: int) -> None:
        if not 0 <= index < len(self):
            raise InputError(field, f"expected a frame from 0 to {len(self) - 1}, got {index}")


class ArraySource(FrameSource):
    """Frames that are already in memory.

    Args:
        arrays: T arrays uint8 (H, W, 3) RGB of one size, or one array (T, H, W, 3); read when asked for.

    Raises:
        MediaError: no frames, another shape or type, or more than the limits allow.
    """

    def __init__(self, arrays: Sequence[Frame] | Frame, limits: MediaLimits) -> None:
        if len(arrays) == 0:
            raise MediaError("source", "expected at least one frame, got none")
        limits.check_frames("source", len(arrays))
        self._arrays = arrays
        height, width = _checked_array(arrays[0], 0).shape[:2]
        limits.check_size("frames[0]", width, height)
        table = TimeTable.constant(len(arrays), NOMINAL_RATE)
        super().__init__(VideoInfo(width, height, table, "arrays"))

    def _read(self, index: int) -> Frame:
        array = _checked_array(self._arrays[index], index)
        if array.shape[:2] != (self.info.height, self.info.width):
            raise MediaError(
                f"frames[{index}]",
                f"expected {self.info.width}×{self.info.height} pixels like frame 0, got shape {array.shape}",
            )
        return array


def _checked_array(array: Frame, index: int) -> Frame:
    shape = getattr(array, "shape", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or getattr(array, "dtype", None) != np.uint8:
        raise MediaError(f"frames[{index}]", "expected a uint8 array of shape (H, W, 3), RGB")
    return np.asarray(array)


def read_ahead(make: Callable[[], Walk], ahead: int) -> Walk:
    """Run a walk in a thread of its own, at most `ahead` frames in advance of the consumer.

    The thread starts with the first frame and has ended when this iterator ends or is closed. What
    the walk raises is raised here.
    """
    walk = make()
    pool = ThreadPoolExecutor(1, thread_name_prefix="edgetam-decode")
    pending = deque(pool.submit(next, walk, None) for _ in range(ahead))
    try:
        while (item := pending.popleft().result()) is not None:
            pending.append(pool.submit(next, walk, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)  # waits for the frame that is being read
        walk.close()
