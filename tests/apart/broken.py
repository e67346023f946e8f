"""A decoder that misbehaves as the file's name says; it takes the place of `start.py` in tests.

What it does comes after it was confined, as with a decoder that a file has taken over.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[:] = sys.argv[5].split(os.pathsep)

import numpy as np

from edgetam_model import images
from edgetam_model.apart import child
from edgetam_model.apart.wire import Message
from edgetam_model.decode import VideoFile
from edgetam_model.sources import Frame, MediaLimits, Walk


def spin() -> None:
    while True:
        pass


def crash() -> None:
    ctypes.string_at(1)


def exhaust() -> None:
    kept = [np.empty(1 << 28, np.uint8) for _ in range(1 << 10)]
    del kept


DEEDS: dict[str, Callable[[], object]] = {
    "spin": spin,
    "crash": crash,
    "abort": os.abort,
    "exhaust": exhaust,
    "leave": lambda: os._exit(3),
    "kill": lambda: signal.raise_signal(signal.SIGKILL),
}
# What a decoder that was taken over may claim about a file.
CLAIMS: dict[str, dict[str, object]] = {
    "wide": {"width": 10**12},
    "words": {"width": "160"},
    "negative": {"height": -1},
    "backward": {"end": -5},
    "timeless": {"time_base": [1, 0]},
    "more": {"surprise": 1},
    "markup": {"codec": "<script>"},
}


def connect() -> None:
    with socket.socket() as made:
        made.settimeout(1)
        made.connect(("127.0.0.1", 9))


def open_many() -> None:
    made: list[int] = []
    try:
        for _ in range(100):
            made.append(os.dup(0))  # noqa: PERF401  those made before the limit are closed again
    finally:
        for descriptor in made:
            os.close(descriptor)


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def none_but_zero(code: int) -> None:
    if code:
        raise OSError(code, "refused")


def attempts(path: Path) -> list[str]:
    """What it can still do, of all that it should not: names of what went through."""
    libc = ctypes.CDLL(None)

    def write() -> None:
        (path.parent / "made.txt").write_text("made")

    tried: dict[str, Callable[[], object]] = {
        "read the file": lambda: path.read_bytes()[:1],
        "read another": (path.parent / "secret.txt").read_bytes,
        "list a folder": lambda: list(path.parent.iterdir()),
        "write": write,
        "change the file": lambda: path.open("r+b").close(),
        "make a socket": lambda: socket.socket().close(),
        "connect": connect,
        "fork": fork,
        "start a program": lambda: os.execv(sys.executable, [sys.executable, "-c", "0"]),
        "signal others": lambda: os.kill(os.getppid(), 0),
        "signal threads of others": lambda: none_but_zero(libc.tgkill(os.getppid(), os.getppid(), 0)),
        "limit others": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU),
        "open many": open_many,
        "read the environment of others": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "cut the canvas": lambda: os.ftruncate(int(sys.argv[3]), 1),
        "grow the canvas": lambda: os.ftruncate(int(sys.argv[3]), 1 << 30),
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30)),
        "gain privileges": lambda: 1 / 0 if libc.prctl(39, 0, 0, 0, 0) == 1 else None,
    }
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    through = []
    for name, deed in tried.items():
        try:
            deed()
        except (OSError, ValueError, ZeroDivisionError):
            continue
        through.append(name)
    return through + [f"sees {name}" for name in os.environ if name.startswith("EDGETAM")]


real_read = VideoFile._read


def read(source: VideoFile, index: int) -> Frame:
    name = source._path.stem
    if name == "probe":
        for text in attempts(source._path):
            source._warn(text)
    elif name in DEEDS and index > 0:
        DEEDS[name]()
    frame = real_read(source, index)
    assert frame is not None
    return frame


def walk(source: VideoFile, start: int, stop: int) -> Walk:
    for index in range(start, stop + 1):
        yield index, read(source, index)


def read_image(content: bytes, limits: MediaLimits) -> Frame:
    """The file holds the name of the deed, else it is an image."""
    deed = DEEDS.get(content.decode(errors="replace").removeprefix("BM "))
    if deed is not None:
        deed()
    return real_read_image(content, limits)


real_read_image = images.read_image
real_open = child.Source._open


def claim(source: child.Source, message: Message) -> child.Answer:
    name = Path(message["path"]).stem
    answer, times = real_open(source, message)
    return answer | CLAIMS.get(name, {}), times[:-1] if name == "odd" else times


if __name__ == "__main__":
    VideoFile._read = read  # type: ignore[assignment,method-assign]
    VideoFile._forward = walk  # type: ignore[assignment,method-assign]
    images.read_image = read_image  # type: ignore[assignment]
    child.Source._open = claim  # type: ignore[assignment,method-assign]
    child.main(*sys.argv[1:5])
