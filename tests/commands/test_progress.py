"""Progress for terminals and for files."""

from __future__ import annotations

import io
import sys
import time

import pytest
from rich.console import Console

from edgetam_model.commands.progress import BarMeter, LineMeter, describe, stderr_meter


@pytest.mark.parametrize(
    ("done", "total", "unit", "seconds", "text"),
    [
        (0, None, "frames", 2.6, "3 s"),
        (0, 10, "frames", 2.0, "0/10 frames"),
        (5, 10, "frames", 0.0, "5/10 frames"),
        (20, 200, "frames", 10.0, "20/200 frames, 2.0 fps, 1:30 left"),
        (1, 7201, "frames", 1.0, "1/7201 frames, 1.0 fps, 2:00:00 left"),
        (10, 10, "frames", 4.0, "10/10 frames, 2.5 fps, 0:04 in all"),
        (64, 1024, "clicks", 2.0, "64/1024 clicks, 32.0 clicks/s, 0:30 left"),
    ],
)
def test_done_speed_and_time_left(done: int, total: int | None, unit: str, seconds: float, text: str) -> None:
    assert describe(done, total, unit, seconds) == text


def test_the_speed_is_that_of_this_run() -> None:
    assert describe(300, 2000, "updates", 10.0, 300) == "300/2000 updates"
    assert describe(320, 2000, "updates", 40.0, 300) == "320/2000 updates, 0.5 updates/s, 56:00 left"
    stream = io.StringIO()
    with LineMeter(stream, seconds=60) as meter:
        meter.stage("training", 400, "updates", begun=300)
    assert stream.getvalue() == "training: 300/400 updates\n"


def test_lines_come_on_time_while_nothing_advances() -> None:
    stream = io.StringIO()
    with LineMeter(stream, seconds=0.05) as meter:
        meter.stage("tracking", 100)
        meter.reach(3)
        time.sleep(0.4)
        lines = stream.getvalue().splitlines()
    assert 4 <= len(lines) <= 8
    assert all(line.startswith("tracking: 3/100 frames") for line in lines)


def test_stages_end_with_a_line_unless_they_were_short_and_endless() -> None:
    stream = io.StringIO()
    with LineMeter(stream, seconds=60) as meter:
        meter.stage("opening")
        meter.stage("tracking", 2)
        meter.reach(2)
        meter.note("by the way")
        meter.stage("drawing", 5)
        meter.retitle("stopping")
    lines = stream.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "by the way",
        "tracking: 2/2 frames",
        "stopping: 0/5 frames",
    ]


def test_after_an_error_nothing_more_is_said() -> None:
    stream = io.StringIO()

    def fail() -> None:
        with LineMeter(stream, seconds=60) as meter:
            meter.stage("tracking", 5)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_with_the_same_facts() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, color_system=None)
    with BarMeter(console) as meter:
        meter.stage("loading")
        meter.note("weights [bold]x[/bold]")
        meter.stage("tracking", 4)
        meter.reach(4)
        meter.retitle("stopping")
    shown = stream.getvalue()
    assert "weights [bold]x[/bold]" in shown
    last = next(line for line in reversed(shown.splitlines()) if "frames" in line)
    assert "stopping" in last
    assert "4/4 frames" in last
    assert "loading" not in last


def test_stderr_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(stderr_meter(), LineMeter)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(stderr_meter(), BarMeter)
