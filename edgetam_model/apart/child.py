"""What runs in a decoder's process: opens one file, or reads one image after the other, and answers.

Its owner believes nothing that comes from here; see `answers`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgetam_model.apart.canvas import Canvas
from edgetam_model.apart.confine import allow_seconds, confine, libraries
from edgetam_model.apart.landlock import read_only
from edgetam_model.apart.seccomp import forbid_reaching_out
from edgetam_model.apart.wire import Channel, Message
from edgetam_model.errors import InputError
from edgetam_model.sources import Frame, FrameSource, MediaLimits, Walk

if TYPE_CHECKING:
    from edgetam_model.sources import VideoInfo

LETTERS = 300  # of a warning or of an error
NEW_WARNINGS = 10  # told with one answer; the others with the next one
Answer = tuple[Message, bytes]


def main(kind: str, connection: str, canvas: str, memory_bytes: str) -> None:
    """Serve until the owner closes the connection.

    Args:
        kind: "source" or "images".
        connection: its descriptor.
        canvas: the descriptor of the memory for pixels; -1: pixels go along with the answers.
        memory_bytes: that may be taken.
    """
    memory = Canvas(int(canvas)) if int(canvas) >= 0 else None
    teller: Source | Images = Images(memory) if kind == "images" else Source(memory)
    confine(int(memory_bytes))
    # Images come as bytes; a source's fence around files waits for the file's name.
    held = {"files": read_only(libraries()) if kind == "images" else False, "calls": forbid_reaching_out()}
    with socket.socket(fileno=int(connection)) as owner, suppress(ConnectionError):
        serve(Channel(owner), teller.handle, held)


def serve(channel: Channel, handle: Callable[[Message, bytearray], Answer], held: Message) -> None:
    """Answer one message after the other; what is wrong with a file is an answer as well.

    Args:
        channel: to the owner.
        handle: answers about files.
        held: what is told of the fences.
    """
    while True:
        message, data = channel.receive(most=1 << 62)  # from the owner, who has checked it
        allow_seconds(message["seconds"])
        try:
            answer, pixels = (held, b"") if message["do"] == "tell" else handle(message, data)
        except InputError as error:
            answer, pixels = {"refused": [error.field[:LETTERS], error.problem[:LETTERS]]}, b""
        except MemoryError:
            answer, pixels = {"exhausted": True}, b""
        channel.send(answer, pixels)


class Source:
    """Answers about one file or folder, which is all that can be opened once it is named."""

    def __init__(self, canvas: Canvas | None) -> None:
        import edgetam_model.video  # noqa: F401  before the limits: all code that it takes

        self._canvas = canvas
        self._walks: dict[int, Walk] = {}
        self._source: FrameSource | None = None
        self._told = 0  # warnings

    def handle(self, message: Message, data: bytearray) -> Answer:
        """Do what `message["do"]` says."""
        del data
        match message["do"]:
            case "open":
                return self._open(message)
            case "read":
                return self._frame(self._opened.read(message["frame"]))
            case "walk":
                start, stop = message["start"], message["stop"]
                walk = self._opened.frames(start, stop, reverse=stop < start, ahead=0)
                self._walks[message["walk"]] = walk
                return {}, b""
            case _:
                for number in message["ended"]:
                    self._walks.pop(number).close()
                _, frame = next(self._walks[message["walk"]], (0, None))
                return self._frame(frame)

    @property
    def _opened(self) -> FrameSource:
        assert self._source is not None, "the owner opens first"
        return self._source

    def _open(self, message: Message) -> Answer:
        from edgetam_model.video import open_source

        path = Path(message["path"])
        read_only([path, *libraries()])
        self._source = open_source(path, MediaLimits(*message["limits"]))
        self._told = len(self._source.info.warnings)
        return described(self._source.info)

    def _frame(self, frame: Frame | None) -> Answer:
        warnings = self._opened.warnings[self._told :][:NEW_WARNINGS]
        self._told += len(warnings)
        answer = {"there": frame is not None, "warnings": [text[:LETTERS] for text in warnings]}
        return answer, b"" if frame is None else handed(frame, self._canvas)


class Images:
    """Reads images from the bytes that come with the question; no file can be opened."""

    def __init__(self, canvas: Canvas | None) -> None:
        import edgetam_model.images  # noqa: F401  before the limits: all code that it takes

        self._canvas = canvas
        self._frame = np.zeros((0, 0, 3), np.uint8)

    def handle(self, message: Message, data: bytearray) -> Answer:
        """Read an image and tell its size; then hand it over, once the canvas is large enough."""
        if message["do"] == "hand":
            frame, self._frame = self._frame, np.zeros((0, 0, 3), np.uint8)
            return {}, handed(frame, self._canvas)
        from edgetam_model.images import read_image

        self._frame = read_image(bytes(data), MediaLimits(*message["limits"]))
        height, width = self._frame.shape[:2]
        return {"width": width, "height": height}, b""


def handed(frame: Frame, canvas: Canvas | None) -> bytes:
    """Paint a frame where its owner looks; without such a place, its bytes."""
    if canvas is None:
        return frame.tobytes()
    canvas.paint(frame)
    return b""


def described(info: VideoInfo) -> Answer:
    """Facts about a source, as `answers.Opened` reads them; the times of frames as int64."""
    table = info.table
    rate = table.nominal_rate
    return {
        "width": info.width,
        "height": info.height,
        "codec": info.codec,
        "rotation": info.rotation,
        "mirrored": info.mirrored,
        "has_b_frames": info.has_b_frames,
        "media_duration": info.media_duration,
        "warnings": [text[:LETTERS] for text in info.warnings[:NEW_WARNINGS]],
        "end": int(table.end),
        "time_base": table.time_base.as_integer_ratio(),
        "origin": table.origin.as_integer_ratio(),
        "nominal_rate": None if rate is None else rate.as_integer_ratio(),
    }, np.ascontiguousarray(table.pts).tobytes()
