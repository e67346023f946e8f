"""Finished frames of a session, kept compact and, past a few megabytes, on disk instead of in memory."""

from __future__ import annotations

import struct
import tempfile
import weakref
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import CheckpointError
from edgetam_model.results import State
from edgetam_model.windows import Window

STATES: tuple[State, ...] = ("visible", "absent", "lost")
STEP = 0.25  # logits away from the mask's edge are kept to this step, ± 31.75
HEADER = struct.Struct(
    "<BBBBHHff"
)  # kind, state, prompted, reverse, side, doubtful frames, iou, object score
EXACT, COMPACT, CONSTANT = range(3)
WINDOWED = 0x80  # added to the kind where a window follows the header
CORNERS = struct.Struct("<IIII")  # x0, y0, x1, y1
MEMORY_LIMIT = 8 << 20  # bytes of finished frames held in memory before they move to a temporary file
WASTE_LIMIT = 64 << 20  # bytes of replaced frames before the file is written anew


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One object's finished frame.

    Attributes:
        logits: (S, S) float32.
        iou, object_score, state, prompted: as in `ObjectResult`.
        reverse: whether the frame was tracked backward.
        doubtful: how many frames in a row, this one included, had no reliable mask.
        window: what the logits cover, as in `ObjectResult`.
    """

    logits: NDArray[np.float32]
    iou: float
    object_score: float
    state: State
    prompted: bool
    reverse: bool
    doubtful: int
    window: Window | None = None


def pack(record: FrameRecord, *, exact: bool) -> bytes:
    """A record as bytes. Compact logits give the very same mask at every size.

    A bilinear mask depends on a logit's value only where logits of both signs meet: there the values are
    kept exactly, elsewhere the sign is, and the magnitude to `STEP`.
    """
    logits = record.logits
    first = logits.flat[0]
    if (logits == first).all():
        kind, payload = CONSTANT, struct.pack("<f", first)
    elif exact:
        kind, payload = EXACT, logits.tobytes()
    else:
        coarse = np.clip(np.rint(logits / STEP), -127, 127).astype(np.int8)
        coarse[(logits > 0) & (coarse <= 0)] = 1
        coarse[(logits <= 0) & (coarse > 0)] = 0
        rows = np.diff(coarse, axis=1, prepend=np.int8(0))  # neighbours differ little: compresses better
        kind, payload = COMPACT, zlib.compress(rows.tobytes(), 1) + logits[_edge(coarse > 0)].tobytes()
    window = b"" if record.window is None else CORNERS.pack(*record.window.corners)
    return (
        HEADER.pack(
            kind | WINDOWED if window else kind,
            STATES.index(record.state),
            record.prompted,
            record.reverse,
            len(logits),
            min(record.doubtful, 0xFFFF),
            record.iou,
            record.object_score,
        )
        + window
        + payload
    )


def unpack(blob: bytes) -> FrameRecord:
    """The inverse of `pack`.

    Raises:
        CheckpointError: bytes that `pack` did not write.
    """
    try:
        kind, state, prompted, reverse, side, doubtful, iou, score = HEADER.unpack_from(blob)
        window, start = None, HEADER.size
        if kind & WINDOWED:
            window = Window(*CORNERS.unpack_from(blob, start))
            start += CORNERS.size
        logits = _unpack_logits(kind & ~WINDOWED, side, blob[start:])
        return FrameRecord(logits, iou, score, STATES[state], bool(prompted), bool(reverse), doubtful, window)
    except (struct.error, zlib.error, ValueError, IndexError) as error:  # ValueError: a window that is none
        raise CheckpointError("a finished frame is damaged") from error


def _unpack_logits(kind: int, side: int, payload: bytes) -> NDArray[np.float32]:
    if kind == CONSTANT:
        return np.full((side, side), struct.unpack("<f", payload)[0], np.float32)
    if kind == EXACT:
        return np.frombuffer(payload, np.float32).reshape(side, side)
    inflate = zlib.decompressobj()
    # One byte more than there is, so that the stream's end is read too and the exact values are what is left.
    rows = np.frombuffer(inflate.decompress(payload, side * side + 1), np.int8).reshape(side, side)
    coarse = np.cumsum(rows, axis=1, dtype=np.int8)
    logits = coarse.astype(np.float32) * STEP
    logits[_edge(coarse > 0)] = np.frombuffer(inflate.unused_data, np.float32)
    return logits


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels with the other sign among their eight neighbours: all that a mixed bilinear cell can read."""
    signs, window = mask.astype(np.uint8), np.ones((3, 3), np.uint8)
    grown = cv2.dilate(signs, window, borderType=cv2.BORDER_REPLICATE)
    shrunk = cv2.erode(signs, window, borderType=cv2.BORDER_REPLICATE)
    edge: NDArray[np.bool_] = grown != shrunk
    return edge


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a record lies in the file: its packed bytes, then its exact logits if there are any."""

    offset: int
    packed: int
    exact: int


class FrameStore:
    """Finished frames by object and frame.

    Every frame is kept packed; while there is room, tracked frames keep their exact logits beside that.

    Args:
        exact_bytes: that room. Prompted frames are always exact, since corrections start from them.
    """

    def __init__(self, exact_bytes: int) -> None:
        self._exact_left = exact_bytes
        self._open_file()
        self._index: dict[int, dict[int, _Place]] = {}

    def put(self, object_id: int, frame: int, record: FrameRecord) -> None:
        """Keep a record in place of an earlier one."""
        exact = b""
        if not record.prompted and self._exact_left > 0:
            exact = record.logits.tobytes()
            self._exact_left -= len(exact)
        self._write(object_id, frame, pack(record, exact=record.prompted), exact)

    def put_packed(self, object_id: int, frame: int, blob: bytes) -> None:
        """Keep a record that is packed already."""
        self._write(object_id, frame, blob, b"")

    def get(self, object_id: int, frame: int) -> FrameRecord:
        """Read a record back.

        Raises:
            KeyError: that frame of that object is not finished.
        """
        record = unpack(self.get_packed(object_id, frame))
        place = self._index[object_id][frame]
        if not place.exact:
            return record
        exact = np.frombuffer(self._read(place.offset + place.packed, place.exact), np.float32)
        return replace(record, logits=exact.reshape(record.logits.shape))

    def get_packed(self, object_id: int, frame: int) -> bytes:
        """A record's packed bytes, for checkpoints."""
        place = self._index[object_id][frame]
        return self._read(place.offset, place.packed)

    def has(self, object_id: int, frame: int) -> bool:
        """Whether that frame of that object is finished."""
        return frame in self._index.get(object_id, {})

    def frames(self, object_id: int) -> list[int]:
        """Finished frames of an object, in order."""
        return sorted(self._index.get(object_id, {}))

    def discard(self, object_id: int, frames: Iterable[int]) -> None:
        """Forget frames of an object; frames that are not there are passed over."""
        index = self._index.get(object_id, {})
        for frame in frames:
            place = index.pop(frame, None)
            if place is not None:
                self._waste += place.packed + place.exact
                self._exact_left += place.exact
        if self._waste > WASTE_LIMIT and self._waste > self._end // 2:
            self._rewrite()

    def close(self) -> None:
        """Free the memory and the temporary file."""
        self._file.close()
        self._index.clear()

    def _open_file(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_LIMIT)  # noqa: SIM115 - lives as long as self
        self._end = 0
        self._waste = 0
        weakref.finalize(self, self._file.close)  # a session that nobody closes leaves no file behind either

    def _write(self, object_id: int, frame: int, packed: bytes, exact: bytes) -> None:
        self.discard(object_id, (frame,))
        self._file.seek(self._end)
        self._file.write(packed + exact)
        self._index.setdefault(object_id, {})[frame] = _Place(self._end, len(packed), len(exact))
        self._end += len(packed) + len(exact)

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def _rewrite(self) -> None:
        """Copy what is still wanted to a new file, one record at a time."""
        old, places = self._file, [(index, f, p) for index in self._index.values() for f, p in index.items()]
        self._open_file()
        for index, frame, place in places:
            old.seek(place.offset)
            self._file.write(old.read(place.packed + place.exact))
            index[frame] = replace(place, offset=self._end)
            self._end += place.packed + place.exact
        old.close()
