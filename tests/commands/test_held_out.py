"""`edgetam evaluate synthetic`, as it is typed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetam_model.cli import main
from edgetam_model.commands import held_out
from edgetam_model.training.held_out import ReturnedClip, RolledClip

SMALL = ("--clips", "2", "--frames", "3", "--size", "64")


def test_json_is_the_only_thing_on_stdout(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "synthetic", "--weights", str(weights), *SMALL, "--seed", "5", "--json"]) == 0
    printed, progress = capsys.readouterr()
    document = json.loads(printed)
    assert (document["state"], document["weights"]["name"]) == ("done", "tiny")
    assert document["options"] == {"clips": 2, "frames": 3, "size": 64, "seed": 5, "textures": None}
    rollout, reentry = document["rollout"], document["reentry"]
    assert (len(rollout["per_frame"]), len(rollout["clips"])) == (2, 2)
    assert rollout["last"] == rollout["per_frame"][-1]
    assert (reentry["count"], set(reentry["by_way"])) == (2, {"outside", "behind"})
    assert "roll-out: 2/2 clips" in progress
    assert "re-entry: 2/2 clips" in progress


def test_tables_for_people(
    untrained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rolled = RolledClip(0, tuple(t / 100 for t in range(39)), (0.5,) * 39)
    back = ReturnedClip(0, "outside", 10, 1, (0.1, 0.6, 0.7))
    monkeypatch.setattr(held_out, "roll_outs", lambda *_: iter([rolled]))
    monkeypatch.setattr(held_out, "reentries", lambda *_: iter([back]))
    assert main(["evaluate", "synthetic", "--weights", str(untrained), "--clips", "1"]) == 0
    printed, _ = capsys.readouterr()
    rows = [line.split() for line in printed.splitlines()]
    assert printed.startswith("weights nothing: UNTRAINED")
    assert "prompt mask, 256 px, seed 880001, procedural textures\n" in printed
    assert "in view: 1 clips of 40" in printed
    frames = [row for row in rows if len(row) == 3 and row[0].isdigit()]
    assert (frames[0], frames[-1], len(frames)) == (["1", "0.000", "0.500"], ["39", "0.380", "0.500"], 16)
    assert ["mean", "0.190", "0.500"] in rows
    assert ["outside", "the", "frame", "1", "100.0%", "10.0%"] in rows
    assert ["all", "1", "100.0%", "10.0%"] in rows
    assert "behind" not in printed


def test_cancelling_keeps_finished_clips(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> Iterator[RolledClip]:
        yield RolledClip(0, (0.5,), (0.5,))
        signal.raise_signal(signal.SIGINT)
        yield RolledClip(1, (1.0,), (0.5,))
        raise AssertionError("asked for another clip after Ctrl-C")

    monkeypatch.setattr(held_out, "roll_outs", interrupted)
    words = ["evaluate", "synthetic", "--weights", str(weights), "--json"]
    assert main(words) == 130
    printed, err = capsys.readouterr()
    document = json.loads(printed)
    assert (document["state"], document["rollout"]["mean"], document["reentry"]) == ("cancelled", 0.75, None)
    assert "cancelled: 2 roll-outs and 0 re-entries are finished" in err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["synthetic", "--clips", "a,b"], "clips: expected how many"),
        (["synthetic", "--clips", "0"], "clips: expected 1 to 100,000, got 0"),
        (["synthetic", "--frames", "1"], "frames: expected 2 to 256, got 1"),
        (["synthetic", "--size", "100"], "size: expected a multiple of 16"),
        (["synthetic", "--seed", "-1"], "seed: expected 0 or more"),
        (["synthetic", "--textures", "nowhere"], "textures: expected a folder"),
        (["synthetic", "--prompt", "mask"], "prompt: goes with a folder of clips only"),
        (["synthetic", "--floors"], "floors: goes with a folder of clips only"),
        (["clips", "--frames", "3"], "frames: goes with made-up clips"),
        (["clips", "--seed", "0"], "seed: goes with made-up clips"),
        (["./synthetic"], "synthetic"),  # a folder, which is not there
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *words]) == 2
    printed, err = capsys.readouterr()
    assert (printed, problem in err.splitlines()[-1]) == ("", True), err
