"""Video files through PyAV, frame-exact in both directions and from any point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from math import atan2, pi
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter

from edgetam_model.errors import MediaError
from edgetam_model.packets import Container, PacketIndex, scan
from edgetam_model.sources import Frame, FrameSource, MediaLimits, VideoInfo, Walk

REVERSE_BYTES = 192 * 1024**2  # decoded frames held while going backward: 64 of 1080p in 4:2:0
FROM_THE_START = -1  # the slot before the first keyframe: a fresh decoder at the file's first packet
UNSPECIFIED = 2  # libavutil's number for a colour space that the file does not name
HD_LINES = 576  # above it untagged video is BT.709, as players assume


class VideoFile(FrameSource):
    """A video file; opening reads every packet once and decodes one frame.

    Frames are turned upright by the file's display matrix. A frame whose size changes midway is
    scaled to the first one's, with a warning. Pixels that are not square stay as stored, so that
    positions in percent are those that a player shows. Untagged colours are BT.709 above 576 lines,
    else BT.601; high dynamic range is not tone-mapped.

    Raises:
        MediaError: not a video of a permitted format, damaged at its beginning, or too large.
    """

    def __init__(self, path: Path, limits: MediaLimits) -> None:
        limits.check_bytes(path.name, path.stat().st_size)
        self._path = path
        self._limits = limits
        self._lock = Lock()
        with Container(path, limits) as container:
            self._index = scan(container, path.name, limits)
        with Cursor(path, self._index, limits) as cursor:
            if self._index.damage:
                self._index = _without_tail(self._index, cursor, path.name)
            self._layout = _first_layout(cursor, path.name, limits)
        self._cursor = Cursor(path, self._index, limits)
        self._painter = Painter(self._layout)
        super().__init__(self._describe())

    def close(self) -> None:
        """Release the decoder; later calls of `read` and `frames` are refused."""
        super().close()
        with self._lock:
            self._cursor.close()

    def _describe(self) -> VideoInfo:
        index, layout = self._index, self._layout
        width, height = layout.upright_size
        return VideoInfo(
            width=width,
            height=height,
            table=index.table,
            codec=index.codec,
            rotation=layout.turns * 90,
            mirrored=layout.mirrored,
            has_b_frames=index.reordered,
            media_duration=index.media_duration,
            warnings=(f"the file is {index.damage}",) if index.damage else (),
        )

    def _read(self, index: int) -> Frame | None:
        with self._lock:
            frame = self._cursor.fetch(index)
            return None if frame is None else self._paint(self._painter, index, frame)

    def _forward(self, start: int, stop: int) -> Walk:
        painter = Painter(self._layout)
        with Cursor(self._path, self._index, self._limits) as cursor:
            for index in range(start, stop + 1):
                frame = cursor.fetch(index)
                if frame is None:
                    return self._warn(self._unreadable(index))
                yield index, self._paint(painter, index, frame)

    def _backward(self, start: int, stop: int) -> Walk:
        """Chunks of what memory holds, each decoded forward from its keyframe and given out backward."""
        painter = Painter(self._layout)
        with Cursor(self._path, self._index, self._limits) as cursor:
            while start >= stop:
                low = max(
                    stop, cursor.keyframe_before(start), start - self._layout.frames_in(REVERSE_BYTES) + 1
                )
                chunk = [cursor.fetch(index) for index in range(low, start + 1)]
                for index in range(start, low - 1, -1):
                    frame = chunk.pop()
                    if frame is None:
                        return self._warn(self._unreadable(index))
                    yield index, self._paint(painter, index, frame)
                start = low - 1

    def _paint(self, painter: Painter, index: int, decoded: Decoded) -> Frame:
        frame = decoded.frame
        if decoded.damaged:
            self._warn(f"frame {index} is damaged; the decoder filled what is missing")
        if (frame.width, frame.height) != (self._layout.width, self._layout.height):
            self._warn(
                f"frames change size to {frame.width}×{frame.height};"
                f" scaled to {self._layout.width}×{self._layout.height} like frame 0"
            )
        return painter.paint(frame)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded frame, as stored.

    Attributes:
        frame: PyAV's frame.
        damaged: whether the decoder filled in what was missing, here or in frames that this one needs.
    """

    frame: VideoFrame
    damaged: bool


class Cursor:
    """A decoder at one place of a file; moves forward frame by frame and jumps to keyframes.

    A frame is recognised by its presentation time alone, so a seek that lands elsewhere costs time
    and never shifts an index. Where times do not tell frames apart, it always begins with the first
    and ends with the first damage, after which nobody can count.
    """

    def __init__(self, path: Path, index: PacketIndex, limits: MediaLimits) -> None:
        self._path = path
        self._limits = limits
        self._table = index.table
        self._starts = index.starts
        self._counted = index.counted
        self._container: Container | None = None
        self._slot = FROM_THE_START  # the keyframe that decoding began with
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._frame: VideoFrame | None = None  # the decoded frame that the cursor stands on
        self._at = -1  # its index; the number of frames behind the last one
        self._before = -1  # index of the frame decoded before it
        self._broken_slot: int | None = None  # the keyframe after which frames failed to decode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; another `fetch` opens it again."""
        self._frame = None
        self._frames = iter(())
        if self._container is not None:
            self._container.file.close()
            self._container = None

    def keyframe_before(self, index: int) -> int:
        """The first frame of the stretch that is decoded to reach `index`."""
        slot = self._slot_of(index)
        return 0 if slot == FROM_THE_START else int(np.searchsorted(self._table.pts, self._starts[slot]))

    def fetch(self, index: int) -> Decoded | None:
        """The decoded frame `index`, or None where no decoding from anywhere before yields it."""
        if not self._leads_to(index):
            self._begin(self._slot_of(index))
        back = 1
        frame = self._walk_to(index)
        while frame is None and self._slot != FROM_THE_START:
            # A keyframe that decoders cannot begin with, or a seek that went past it: ever earlier.
            self._begin(max(self._slot - back, FROM_THE_START))
            back *= 2
            frame = self._walk_to(index)
        return frame

    def last_readable(self) -> int:
        """The last frame that decodes, found from the end; -1 where none does."""
        slots = range(len(self._starts) - 1, -1, -1) if not self._counted else ()
        for slot in (*slots, FROM_THE_START):
            self._begin(slot)
            while self._frame is not None:
                self._step()
            if self._before >= 0:
                return self._before
        return -1

    def _slot_of(self, index: int) -> int:
        """Number of the last keyframe that is shown no later than the frame."""
        if self._counted:
            return FROM_THE_START
        return int(np.searchsorted(self._starts, self._table.pts[index], side="right")) - 1

    def _leads_to(self, index: int) -> bool:
        """Whether decoding on is the way to the frame, or shows that there is none."""
        if self._container is None or index <= self._before:
            return False
        if self._slot == FROM_THE_START and index < self._at:
            return True  # decoded from the first packet on, and passed over: it does not exist
        near = index - self._at <= 1 or self._slot_of(self._at) == self._slot_of(index)
        return self._frame is not None and self._at <= index and near

    def _begin(self, slot: int) -> None:
        if slot == FROM_THE_START or self._container is None:
            self.close()
            self._container = Container(self._path, self._limits)
            self._container.read_video_only()
        self._slot = slot
        self._frames = self._numbered(self._container) if self._is_found(self._container) else iter(())
        self._at = -1
        self._broken_slot = None
        self._step()

    def _is_found(self, container: Container) -> bool:
        """Go to the slot's keyframe; False where the file's index is too damaged to lead there."""
        if self._slot == FROM_THE_START:
            return True
        try:
            container.file.seek(int(self._starts[self._slot]), stream=container.stream)
        except FFmpegError:
            return False
        return True

    def _step(self) -> None:
        self._before = self._at
        self._at, self._frame = next(self._frames, (len(self._table), None))
        if self._frame is not None and 0 <= self._before < self._at - 1:
            self._broken_slot = self._slot_of(self._at)  # what was passed over is missing until a keyframe

    def _walk_to(self, index: int) -> Decoded | None:
        """Decode up to the frame and stay on it, so that it can be fetched again."""
        while self._at < index:
            self._step()
        if self._at != index or self._frame is None:
            return None
        return Decoded(self._frame, self._frame.is_corrupt or self._broken_slot == self._slot_of(index))

    def _numbered(self, container: Container) -> Iterator[tuple[int, VideoFrame]]:
        """Decoded frames with their indices, ascending; frames that the table does not hold are left out."""
        if self._counted:
            whole = takewhile(lambda frame: not frame.is_corrupt, self._decoded(container))
            yield from zip(range(len(self._table)), whole, strict=False)
            return
        for frame in self._decoded(container):
            if frame.pts is not None:
                index = int(np.searchsorted(self._table.pts, frame.pts))
                if index < len(self._table) and self._table.pts[index] == frame.pts:
                    yield index, frame

    def _decoded(self, container: Container) -> Iterator[VideoFrame]:
        """Frames from the first packet, or after a seek from the first keyframe met."""
        packets = container.packets()
        if self._slot == FROM_THE_START:
            yield from container.decode(packets, strict=self._counted)
            return
        for packet in packets:
            if packet.is_keyframe and packet.pts is not None:
                # Frames shown before the keyframe refer to what was not decoded.
                whole = container.decode(chain([packet], packets), strict=False)
                yield from (f for f in whole if f.pts is not None and f.pts >= packet.pts)
                return


@dataclass(frozen=True)
class Layout:
    """How stored frames become upright ones.

    Attributes:
        width, height: pixels as stored.
        turns: quarter turns clockwise.
        mirrored: whether to flip left to right first.
    """

    width: int
    height: int
    turns: int
    mirrored: bool

    @classmethod
    def of(cls, frame: VideoFrame) -> Layout:
        """The layout that a frame's display matrix asks for."""
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if not isinstance(matrix, SideData):
            return cls(frame.width, frame.height, 0, mirrored=False)
        # Three rows of three numbers; a point (x, y) is shown at (a x + c y, b x + d y), y downward.
        a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(matrix), np.int32)[:5])
        mirrored = a * d - b * c < 0
        turns = round(atan2(-b if mirrored else b, -a if mirrored else a) / (pi / 2)) % 4
        return cls(frame.width, frame.height, turns, mirrored)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as delivered."""
        return (self.height, self.width) if self.turns % 2 else (self.width, self.height)

    def frames_in(self, budget: int) -> int:
        """How many stored frames fit into so many bytes, at 1.5 bytes a pixel; at least one."""
        return max(1, budget * 2 // (3 * self.width * self.height))


def _without_tail(index: PacketIndex, cursor: Cursor, name: str) -> PacketIndex:
    """Shorten the table of a damaged file to what its last readable stretch gives."""
    readable = cursor.last_readable() + 1
    if readable == 0:
        raise MediaError(name, f"has no readable video frames: {index.damage}")
    return replace(index, table=index.table.head(readable))


def _first_layout(cursor: Cursor, name: str, limits: MediaLimits) -> Layout:
    first = cursor.fetch(0)
    if first is None:
        raise MediaError(name, f"the first frame is damaged or has more than {limits.max_pixels:,} pixels")
    limits.check_size(name, first.frame.width, first.frame.height)
    return Layout.of(first.frame)


class Painter:
    """Turns decoded frames into upright RGB; one per thread, because it keeps a scaler's tables."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._reformatter = VideoReformatter()

    def paint(self, frame: VideoFrame) -> Frame:
        """uint8 (H, W, 3) RGB of the layout's size."""
        untagged_hd = frame.colorspace == UNSPECIFIED and frame.height > HD_LINES
        rgb = self._reformatter.reformat(
            frame,
            width=self._layout.width,
            height=self._layout.height,
            format="rgb24",
            src_colorspace=Colorspace.ITU709 if untagged_hd else None,
            threads=1,
        ).to_ndarray()
        if self._layout.mirrored:
            rgb = rgb[:, ::-1]
        return np.ascontiguousarray(np.rot90(rgb, -self._layout.turns))
