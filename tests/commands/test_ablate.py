"""`edgetam ablate`, from words to a table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from edgetam_model.commands import ablate, ablating
from edgetam_model.commands.ablating import DOCUMENT, LOG, RUNS, TABLE
from edgetam_model.commands.interrupt import Interrupts
from edgetam_model.errors import EdgeTAMError, InputError
from edgetam_model.training.ablation import calibration, variants
from edgetam_model.training.ablation.plan import PLAN
from edgetam_model.training.ablation.runs import RESULT, read_compute
from edgetam_model.training.trainer import STATE

RECIPE = """
size = 64
[image]
steps = 1
batch = 1
[video]
steps = 1
batch = 1
frames = 2
[validation]
clips = 1
frames = 2
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A minute's thousandth of two variants, without the seconds that the published sizes take."""
    monkeypatch.setattr(calibration, "MEASURED", 2)
    monkeypatch.setattr(ablating, "_published", lambda name: 7.0)
    path = tmp_path / "short.toml"
    path.write_text(RECIPE)
    own = ("--config", "tiny", "--recipe", str(path), "--minutes", "0.001", "--seeds", "1")
    return ("perceiver", *own, "--only", "both,pooled", "--out", str(tmp_path / "out"))


def edgetam_ablate(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    ablate.register(parser.add_subparsers())
    args = parser.parse_args(["ablate", *map(str, words)])
    return int(args.run(args))


def planned(tmp_path: Path) -> Path:
    """The folder of `words`, with its plan and nothing done."""
    out, recipe = tmp_path / "out", str(tmp_path / "short.toml")
    job = ablating.AblateJob("perceiver", out, "tiny", recipe, 0.001, seeds=1, only=("both", "pooled"))
    out.mkdir()
    calibration.make_plan(job.options()).save(out)
    return out


def test_kinds_are_the_engines() -> None:
    assert ablate.KINDS == variants.KINDS


def test_from_nothing_to_a_table_and_nothing_twice(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert edgetam_ablate(*words, "--jobs", "2", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((out / DOCUMENT).read_text())
    assert said["finished"]
    assert [row["variant"] for row in said["rows"]] == ["both", "pooled"]
    assert all(row["published"] == 7 for row in said["rows"])
    assert said["rows"][0]["updates"] == said["rows"][1]["updates"]
    assert (out / TABLE).read_text().count("\n") == 4

    results = [out / RUNS / name / RESULT for name in ("both-0", "pooled-0")]
    before = [path.stat().st_mtime_ns for path in results]
    assert edgetam_ablate(*words) == 0
    assert "| both " in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in results] == before

    with pytest.raises(InputError, match="another ablation"):
        edgetam_ablate(*words, "--seeds", "2")


def test_one_run_at_a_time_can_be_trained_by_hand(words: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="no ablation in"):
        edgetam_ablate(*words, "--run", "both-0")
    planned(tmp_path)
    with pytest.raises(InputError, match="run: expected one of both-0, pooled-0"):
        edgetam_ablate(*words, "--run", "nothing")
    assert edgetam_ablate(*words, "--run", "both-0") == 0
    assert (out / RUNS / "both-0" / RESULT).exists()


def test_a_run_that_fails_says_why(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that is no state; --force takes it away."""
    folder = planned(tmp_path) / RUNS / "both-0"
    folder.mkdir(parents=True)
    (folder / STATE).write_text("broken")
    with pytest.raises(EdgeTAMError, match=r"run both-0: edgetam ablate: .*not a training's state"):
        edgetam_ablate(*words)
    assert (folder / LOG).read_text()
    monkeypatch.setattr(Interrupts, "requested", lambda self: True)
    assert edgetam_ablate(*words, "--force") == 130
    assert not folder.exists()


def test_asked_to_stop_nothing_is_started(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Interrupts, "requested", lambda self: True)
    assert edgetam_ablate(*words) == 130
    assert (tmp_path / "out" / PLAN).exists()
    assert not (tmp_path / "out" / RUNS).exists()
    assert "the same command goes on" in capsys.readouterr().err


def test_a_run_that_is_stopped_is_saved(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute's run is told to end after its first update."""
    folder = tmp_path / "out" / RUNS / "both-0"
    monkeypatch.setattr(Interrupts, "requested", lambda self: bool(read_compute(folder)))
    assert edgetam_ablate(*words, "--minutes", "0.5", "--only", "both") == 130
    assert (folder / STATE).exists()
    assert not (folder / RESULT).exists()
    assert not (tmp_path / "out" / TABLE).exists(), "nothing is finished"


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (("--jobs", "0"), "jobs: expected at least 1"),
        (("--config", "huge"), "config: expected one of"),
        (("--only", "both,x"), "only: expected some of"),
        (("--teacher", "default"), "teacher: expected"),
        (("--textures", "nowhere"), "textures: expected a folder"),
    ],
)
def test_bad_words(more: tuple[str, ...], problem: str, words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=problem):
        edgetam_ablate(*words, *more)
    assert not (tmp_path / "out").exists()
