from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from backend.commands import supervisor
from backend.commands.supervisor import Supervisor

OBEDIENT = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
open(sys.argv[1], "a").write("started\\n")
sys.stdin.read()
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def until(condition: object, seconds: float = 20) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_workers_are_started_again_and_stopped_with_the_server(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    looked: list[None] = []
    command = [sys.executable, "-S", "-c", OBEDIENT, str(trace)]
    with Supervisor(command, 2, os.environ, lambda: looked.append(None)) as workers:
        until(lambda: lines(trace) == 2)
        first, second = workers.pids
        os.kill(first, signal.SIGKILL)
        until(lambda: lines(trace) == 3)
        until(lambda: len(workers.pids) == 2)
        pids = workers.pids
        assert second in pids
        assert first not in pids
        assert looked
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    assert all(gone(pid) for pid in pids)
    time.sleep(3 * supervisor.LOOK)
    assert lines(trace) == 3


def test_a_worker_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP", 0.5)
    with Supervisor([sys.executable, "-S", "-c", DEAF], 1, os.environ) as workers:
        (pid,) = workers.pids
        time.sleep(0.3)
    assert gone(pid)


def test_pauses_grow_for_one_that_dies_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with Supervisor([sys.executable, "-S", "-c", "raise SystemExit(3)"], 1, os.environ):
        until(lambda: caplog.text.count("exit code 3") == 2)
    assert "0.5 s" in caplog.text
    assert "1.0 s" in caplog.text


def test_none_are_needed() -> None:
    with Supervisor(["false"], 0, os.environ) as workers:
        assert workers.pids == []
