"""A minute of chaos. Half an hour of it: `python -m tests.chaos.run --minutes 30`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.run import Plan, chaos

SECONDS = float(os.environ.get("EDGETAM_CHAOS_SECONDS", "30"))
SEED = int(os.environ.get("EDGETAM_CHAOS_SEED", "20"))


def test_every_job_ends_once_whatever_goes_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = chaos(Plan(SECONDS, SEED, workers=2, people=3, settle=90, revived=3), tmp_path)
    with capsys.disabled():
        print("\n" + "\n".join(report.lines()))  # noqa: T201  what was skipped must be seen
    assert not report.wrong
    assert report.equal > 0
    assert sum(report.faults.values()) >= SECONDS / 4
