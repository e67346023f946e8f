"""`edgetam doctor` as people type it."""

from __future__ import annotations

import argparse
import json

import pytest

from backend import doctor as checks
from backend.commands import doctor
from backend.doctor import Check

Capture = pytest.CaptureFixture[str]


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    doctor.register(parser.add_subparsers(dest="verb"))
    args = parser.parse_args(words)
    return int(args.run(args))


def test_the_doctors_lines_and_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    found = [Check("a", "ok", "fine"), Check("b", "warn", "two\nlines", "do this")]
    monkeypatch.setattr(checks, "examine", lambda environ: tuple(found))
    assert call("doctor") == 0
    assert capsys.readouterr().out.splitlines() == [
        "[ ok ] a: fine",
        "[warn] b: two lines",
        "       → do this",
    ]
    found.append(Check("c", "fail", "broken", "mend it"))
    assert call("doctor", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert document["checks"][2] == {"name": "c", "state": "fail", "found": "broken", "cure": "mend it"}
