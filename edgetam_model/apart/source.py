"""A file or folder whose frames are decoded by a process of its own."""

from __future__ import annotations

import itertools
from dataclasses import astuple
from pathlib import Path

from edgetam_model.apart.answers import FrameAnswer, Nothing, Opened, plain
from edgetam_model.apart.decoder import NONSENSE, Decoder
from edgetam_model.apart.options import ApartOptions
from edgetam_model.errors import MediaError
from edgetam_model.sources import Frame, FrameSource, MediaLimits, Walk

SLOW_DISK = 20e6  # bytes a second at which opening may read a file, beside the seconds of the options
TIME_BYTES = 8  # of a frame in the table


class ApartSource(FrameSource):
    """Frames, warnings and errors as `open_source` in this process would give them, at the cost of a copy.

    Args:
        path: of a file or folder, links resolved.
        limits: what is refused.
        options: what the process may take.

    Raises:
        MediaError: refused; or it broke the decoder.
        OSError: the system starts no more processes.
    """

    def __init__(self, path: Path, limits: MediaLimits, options: ApartOptions) -> None:
        self._name = path.name
        self._options = options
        self._decoder = Decoder("source", options)
        self._numbers = itertools.count()
        self._ended: list[int] = []  # walks that nobody goes on with; told with the next question
        opened = False
        try:
            question = {"do": "open", "path": str(path), "limits": astuple(limits)}
            seconds = options.seconds + (path.stat().st_size if path.is_file() else 0) / SLOW_DISK
            most = TIME_BYTES * limits.max_frames
            facts, times = self._decoder.ask(Opened, question, name=self._name, seconds=seconds, most=most)
            info = facts.info(times, limits)
            opened = True
        except MediaError:
            raise
        except ValueError as error:
            raise MediaError(self._name, NONSENSE) from error
        finally:
            if not opened:
                self._decoder.close()
        if self._decoder.canvas is not None:
            self._decoder.canvas.grow(info.width * info.height * 3)
        super().__init__(info)

    def close(self) -> None:
        """End the process; later calls of `read` and `frames` are refused."""
        super().close()
        self._decoder.close()

    def _read(self, index: int) -> Frame | None:
        return self._frame({"do": "read", "frame": index})

    def _forward(self, start: int, stop: int) -> Walk:
        return self._walk(start, stop)

    def _backward(self, start: int, stop: int) -> Walk:
        return self._walk(start, stop)

    def _walk(self, start: int, stop: int) -> Walk:
        number = next(self._numbers)
        question = {"do": "walk", "walk": number, "start": start, "stop": stop}
        self._decoder.ask(Nothing, question, name=self._name, seconds=self._options.seconds)
        try:
            for index in range(start, stop + 1) if start <= stop else range(start, stop - 1, -1):
                ended = [self._ended.pop() for _ in range(len(self._ended))]
                frame = self._frame({"do": "next", "walk": number, "ended": ended})
                if frame is None:
                    return
                yield index, frame
        finally:
            self._ended.append(number)

    def _frame(self, question: dict[str, object]) -> Frame | None:
        """The frame asked for, or None where it cannot be decoded; its warnings are kept."""
        height, width, decoder = self.info.height, self.info.width, self._decoder
        with decoder.held:
            answer, more = decoder.ask(
                FrameAnswer,
                question,
                name=self._name,
                seconds=self._options.seconds,
                most=0 if decoder.canvas else height * width * 3,
            )
            for text in answer.warnings:
                self._warn(plain(text))
            return decoder.pixels(height, width, more, name=self._name) if answer.there else None
