"""Memory that a decoder paints pixels into and its owner copies them from."""

from __future__ import annotations

import mmap
import os
import sys

import numpy as np

from edgetam_model.sources import Frame

KEPT_BYTES = 64 << 20  # a canvas that has grown beyond gives its memory back after use


class Canvas:
    """Memory of two processes, made by the one and inherited by the other as a descriptor.

    It has no name, so nothing is left of it when both have ended, however they end. It is sealed against
    shrinking: a process that reads memory that was cut off would be killed.

    Args:
        descriptor: of the memory.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory: mmap.mmap | None = None

    @classmethod
    def make(cls) -> Canvas | None:
        """A new one of no bytes; None where the system has no such memory (Linux alone has it)."""
        if sys.platform != "linux":
            return None
        import fcntl

        descriptor = os.memfd_create("edgetam-frames", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        return cls(descriptor)

    @property
    def size(self) -> int:
        """Bytes."""
        return os.fstat(self.descriptor).st_size

    def grow(self, size: int) -> None:
        """Have at least so many bytes; for its maker alone, as decoders may not make files larger."""
        if size > self.size:
            os.ftruncate(self.descriptor, size)

    def paint(self, frame: Frame) -> None:
        """Lay a frame at the beginning."""
        self._pixels(frame.nbytes).reshape(frame.shape)[:] = frame

    def copy(self, height: int, width: int) -> Frame:
        """What was painted, uint8 (H, W, 3), as memory of one's own."""
        frame = self._pixels(height * width * 3).reshape(height, width, 3).copy()
        if self.size > KEPT_BYTES and self._memory is not None:
            self._memory.madvise(mmap.MADV_REMOVE)
        return frame

    def close(self) -> None:
        """Give the memory back."""
        self._memory = None
        os.close(self.descriptor)

    def _pixels(self, size: int) -> Frame:
        if self._memory is None or len(self._memory) < size:
            self._memory = mmap.mmap(self.descriptor, self.size)
        return np.frombuffer(self._memory, np.uint8, size)
