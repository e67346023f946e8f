"""A training's videos, decoded apart: it may open hundreds at once, too many for a process each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from edgetam_model import ApartOptions, FrameSource, MediaError, MediaLimits, VideoInfo, open_source

Frame = NDArray[np.uint8]

AT_ONCE = 8  # processes, of some 0.1 GB each; to open a video again takes about 0.3 s of processor time


class FitVideos:
    """The videos that were read last, open; may be shared between threads, one of which reads at a time.

    Args:
        limits: what is refused.
        apart: what a process may take.
    """

    def __init__(self, limits: MediaLimits, apart: ApartOptions) -> None:
        self._limits = limits
        self._apart = apart
        self._open: OrderedDict[Path, FrameSource] = OrderedDict()
        self._lock = Lock()

    def source(self, path: Path) -> FrameSource:
        """A video as a source that stays usable although its process may end in between.

        Raises:
            MediaError: it cannot be opened.
        """
        return _Video(self, path)

    def fresh(self, path: Path) -> FrameSource:
        """The video opened once more, to be closed by the caller."""
        return open_source(path, self._limits, self._apart)

    def info(self, path: Path) -> VideoInfo:
        """Facts about a video."""
        with self._lock:
            return self._opened(path).info

    def read(self, path: Path, index: int) -> Frame:
        """One of its frames.

        Raises:
            MediaError: it cannot be decoded.
        """
        with self._lock:
            source = self._opened(path)
            try:
                return source.read(index)
            except MediaError:
                self._drop(path)  # the process may have ended
                raise

    def close(self, path: Path) -> None:
        """End a video's process, if it has one."""
        with self._lock:
            self._drop(path)

    def _opened(self, path: Path) -> FrameSource:
        if path not in self._open:
            self._open[path] = self.fresh(path)
        self._open.move_to_end(path)
        if len(self._open) > AT_ONCE:
            self._open.popitem(last=False)[1].close()
        return self._open[path]

    def _drop(self, path: Path) -> None:
        source = self._open.pop(path, None)
        if source is not None:
            source.close()


class _Video(FrameSource):
    """One of them."""

    def __init__(self, videos: FitVideos, path: Path) -> None:
        super().__init__(videos.info(path))
        self._videos = videos
        self._path = path

    def close(self) -> None:
        super().close()
        self._videos.close(self._path)

    def _read(self, index: int) -> Frame:
        return self._videos.read(self._path, index)

    def _forward(self, start: int, stop: int) -> Generator[tuple[int, Frame], None, None]:
        return self._walk(start, stop)

    def _backward(self, start: int, stop: int) -> Generator[tuple[int, Frame], None, None]:
        return self._walk(start, stop)

    def _walk(self, start: int, stop: int) -> Generator[tuple[int, Frame], None, None]:
        with self._videos.fresh(self._path) as source:
            yield from source.frames(start, stop, reverse=stop < start, ahead=0)
            for text in source.warnings[len(self.info.warnings) :]:
                self._warn(text)
