"""The other processes of a training: started with the first, heard if they fail, and never left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter

from edgetam_model.errors import EdgeTAMError
from edgetam_model.training.processes import LostProcessError, Processes, Seat, joined

FOLLOWER = "edgetam_model.commands.follow"
READY = b"ready\n"
ENDING_SECONDS = 5.0  # a process that is done, or whose connection broke, takes so long to end at most


class Follower:
    """Another process of the training, in a session of its own: Ctrl-C reaches only the one that leads.

    It ends by itself when its standard input is closed, which the end of this process does too.

    Args:
        job: what it trains, a dataclass of plain values and paths.
        seat: its place.
    """

    def __init__(self, job: object, seat: Seat) -> None:
        package = str(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self.rank = seat.rank
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 (our own program)
            [sys.executable, "-m", FOLLOWER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=os.environ | {"PYTHONPATH": paths},
            start_new_session=True,
        )
        order = {"job": _plain(job), "seat": _plain(seat)}
        self._send(json.dumps(order).encode() + b"\n")

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(message)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise LostProcessError(f"process {self.rank} ended at once") from error

    def wait_ready(self) -> None:
        """Return when it has prepared everything.

        Raises:
            LostProcessError: it ended before.
        """
        assert self._process.stdout is not None
        if self._process.stdout.readline() != READY:
            raise LostProcessError(f"process {self.rank} ended")

    def ended(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self) -> str:
        """How a process that ended did, with the last line of its complaints."""
        code = self._process.returncode
        end = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "backslashreplace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f"process {self.rank} of the training ended ({end})" + (f": {said[-1]}" if said else "")

    def close(self) -> None:
        """It is gone when this returns, and if it has to be killed."""
        if not self.ended(0):
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                stream.close()


@contextmanager
def launched(job: Any, count: int, folder: Path) -> Iterator[Processes]:
    """Processes that run the same job, this one leading; the others are gone after the block.

    Args:
        job: a `TrainJob`.
        count: of processes, this one included; 1 starts none.
        folder: for a file through which they meet.

    Raises:
        EdgeTAMError: one of them ended too early, or does not answer.
    """
    if count == 1:
        yield Processes()
        return
    with ExitStack() as stack:
        meeting = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".meeting-", dir=folder)))
        followers: list[Follower] = []
        try:
            for rank in range(1, count):
                follower = Follower(job, Seat(rank, count, meeting / "file"))
                stack.callback(follower.close)
                followers.append(follower)
            for follower in followers:
                follower.wait_ready()
            with joined(Seat(0, count, meeting / "file")) as processes:
                yield processes
        except LostProcessError as error:
            raise EdgeTAMError(_blame(followers)) from error
        for follower in followers:  # they are done too, and may be killed only once they know
            follower.ended(ENDING_SECONDS)


def _plain(value: object) -> Any:
    """A dataclass as JSON values."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def _blame(followers: list[Follower]) -> str:
    """Which process is to blame for a training that cannot go on; --resume takes it up again."""
    lost = [follower for follower in followers if follower.ended(ENDING_SECONDS / len(followers))]
    if not lost:
        return "another process of the training does not answer"
    return lost[0].last_words()
