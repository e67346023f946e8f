"""Programs that the demo starts: each with a log, waited for, and stopped with what it started itself."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from edgetam_model import EdgeTAMError

LOOK = 0.2  # seconds between two looks whether a program answers
STOP = 20.0  # seconds that a program has to stop: the server gives its workers seven
CALL = 120.0  # seconds for one call
LOG_LINES = 15  # of a program that failed
REFUSAL_LETTERS = 500
JSON_TYPE = "application/json"


class ProgramFailed(EdgeTAMError):  # noqa: N818  a state, as its neighbours
    """A program ended, does not answer, or refused a call; the text says what it said."""


@contextmanager
def running(
    name: str, command: Sequence[str], environ: Mapping[str, str], log: Path, probe: str, seconds: float
) -> Iterator[None]:
    """Run a program until the block ends; begins once its probe answers.

    Args:
        name: what people call it.
        command: the program and its arguments. It must stop on SIGTERM.
        environ: its environment.
        log: file for its output.
        probe: address that answers with success when it can be used.
        seconds: that it may take to start.

    Raises:
        ProgramFailed: it ended, or did not answer in time.
    """
    with log.open("wb") as output, ExitStack() as stack:
        with _undisturbed():
            process = subprocess.Popen(  # noqa: S603  our own command
                command,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal is for this process, which passes it on once
            )
            stack.callback(_stop, process)
        _wait(name, process, probe, seconds, log)
        yield


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for the end of the block: a program that is half started would be nobody's."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def free_port() -> int:
    """A TCP port of this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def call(url: str, body: object = None, seconds: float = CALL) -> Any:
    """GET, or POST where there is a body; the JSON of the answer.

    Raises:
        ProgramFailed: refused, not reached, or no JSON.
    """
    return json.loads(fetch(url, None if body is None else json.dumps(body).encode(), seconds))


def fetch(url: str, body: bytes | None = None, seconds: float = CALL) -> bytes:
    """As `call`, with bytes."""
    request = urllib.request.Request(url, body, {"Content-Type": JSON_TYPE})  # noqa: S310  our own address
    try:
        with _direct().open(request, timeout=seconds) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode(errors="replace")[:REFUSAL_LETTERS]
        raise ProgramFailed(f"{request.full_url} answered {error.code}: {said}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ProgramFailed(f"{request.full_url} does not answer: {error}") from error


def _direct() -> urllib.request.OpenerDirector:
    """Without a proxy: everything here is on this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _wait(name: str, process: subprocess.Popen[bytes], probe: str, seconds: float, log: Path) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise ProgramFailed(f"{name} does not start: {_tail(log)}")
        with suppress(ProgramFailed):
            fetch(probe, seconds=2)
            return
        time.sleep(LOOK)
    raise ProgramFailed(f"{name} did not answer within {seconds:.0f} s: {_tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it as a service manager does; another Ctrl-C meanwhile changes nothing, its children need it."""
    if process.poll() is None:
        process.terminate()
    end = time.monotonic() + STOP
    while process.poll() is None and time.monotonic() < end:
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(LOOK)
    with suppress(ProcessLookupError):  # whoever of its group is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
