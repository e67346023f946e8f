"""A decoder's process as its owner sees it: asked, watched, and ended at the first word that is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from typing import Any, Literal

import numpy as np

from edgetam_model.apart.answers import AnyOf, Exhausted, Refused, plain, read_answer
from edgetam_model.apart.canvas import Canvas
from edgetam_model.apart.options import ApartOptions
from edgetam_model.apart.wire import Channel
from edgetam_model.errors import MediaError
from edgetam_model.sources import Frame

PROGRAM = Path(__file__).with_name("start.py")
NONSENSE = "the decoder gave an answer that makes no sense"
GONE = 1.0  # seconds in which a process that has closed its connection has ended, and tells how
# What is set for it: no threads of linear algebra, no more than two stores of free memory.
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # without which some interpreters do not start


class Decoder:
    """One process that decodes, and the only one who knows it. May be used by several threads.

    It starts at once and is ready about 0.2 s later; the first question waits for that. When it is closed,
    forgotten, or its owner dies, it ends.

    Args:
        kind: "source": one file or folder; "images": one image after the other, from their bytes.
        options: what it may take.

    Attributes:
        held: by whoever asks, until the pixels are copied.
        canvas: where it paints pixels; None: they come with the answers.

    Raises:
        OSError: the system starts no more processes.
    """

    def __init__(self, kind: Literal["source", "images"], options: ApartOptions) -> None:
        self.options = options
        self.canvas = Canvas.make()
        self.held = RLock()
        self._closed = False
        self._connection, theirs = socket.socketpair()
        self._channel = Channel(self._connection)
        passed = [theirs.fileno()] + ([self.canvas.descriptor] if self.canvas else [])
        canvas = self.canvas.descriptor if self.canvas else -1
        words = [kind, str(theirs.fileno()), str(canvas), str(options.memory_bytes), _folders()]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  our own program, told by descriptors
                [sys.executable, "-I", "-S", str(PROGRAM), *words],
                stdin=subprocess.PIPE,  # never written to: its end is the sign to end
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT | {name: os.environ[name] for name in LOADER if name in os.environ},
                cwd="/",
                pass_fds=passed,
                start_new_session=True,
            )
        self._end = weakref.finalize(self, _end, self._process, self._connection, self.canvas)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._end.alive and not self._closed and self._process.poll() is None

    def ask(
        self,
        expected: type[AnyOf],
        message: Mapping[str, Any],
        data: bytes = b"",
        *,
        name: str,
        seconds: float,
        most: int = 0,
    ) -> tuple[AnyOf, bytearray]:
        """Ask, and wait for the answer.

        Args:
            expected: the kind of answer.
            message: the question; `seconds` is added.
            data: bytes that belong to it.
            name: of the file, for errors.
            seconds: until the answer must be there.
            most: bytes that may come with it.

        Raises:
            MediaError: the file is refused; or the process crashed, took too long or too much memory, or
                said what makes no sense, and is no more.
        """
        deadline = time.monotonic() + seconds
        with self.held:
            if not self._end.alive or self._closed:
                raise MediaError(name, "the decoder is closed")
            done = False
            try:
                self._channel.send({**message, "seconds": seconds}, data, deadline)
                said, more = self._channel.receive(most, deadline)
                answer = read_answer(expected, said)
                done = not isinstance(answer, Exhausted)
            except TimeoutError as error:
                raise MediaError(name, f"took more than {seconds:.3g} s to decode") from error
            except OSError as error:
                raise MediaError(name, self._how_it_ended(seconds)) from error
            except ValueError as error:
                raise MediaError(name, NONSENSE) from error
            finally:
                if not done:  # also when a signal's exception came between: answers would be mixed up
                    self._end()
        if isinstance(answer, Exhausted):
            raise MediaError(name, self._too_large())
        if isinstance(answer, Refused):
            field, problem = answer.refused
            raise MediaError(plain(field), plain(problem))
        return answer, more

    def pixels(self, height: int, width: int, more: bytearray, *, name: str) -> Frame:
        """The frame that goes with the last answer, uint8 (H, W, 3).

        Args:
            more: the bytes that came with it.

        Raises:
            MediaError: they are not the frame.
        """
        if self.canvas is not None:
            return self.canvas.copy(height, width)
        if len(more) != height * width * 3:
            self._end()
            raise MediaError(name, NONSENSE)
        return np.frombuffer(more, np.uint8).reshape(height, width, 3)

    def close(self) -> None:
        """End the process at once; whoever waits for its answer gets a MediaError."""
        self._closed = True
        self._process.kill()
        with self.held:
            self._end()

    def _how_it_ended(self, seconds: float) -> str:
        if self._closed:
            return "the decoder is closed"
        try:
            code = self._process.wait(GONE)
        except subprocess.TimeoutExpired:
            return "the decoder closed the connection"
        if code == -signal.SIGXCPU:
            return f"took more processor time than {seconds:.3g} s allow"
        if code >= 0:
            return f"the decoder stopped (exit status {code})"
        try:
            return f"the decoder stopped (signal {-code}, {signal.Signals(-code).name})"
        except ValueError:
            return f"the decoder stopped (signal {-code})"

    def _too_large(self) -> str:
        return f"needs more than {self.options.memory_bytes:,} bytes of memory to decode"


def _end(process: subprocess.Popen[bytes], connection: socket.socket, canvas: Canvas | None) -> None:
    """Leave nothing behind: no process, no zombie, no descriptor, no memory."""
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
    connection.close()
    if canvas is not None:
        canvas.close()


def _folders() -> str:
    """Where the process finds its code: where this one found it, and nothing relative."""
    own = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([own, *(folder for folder in sys.path if Path(folder).is_absolute())])
