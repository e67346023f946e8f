"""`edgetam bench` prints a table, and one line of JSON last."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetam_model.cli import main
from edgetam_model.config import CONFIGS
from edgetam_model.weights import save_weights
from tests.models import tiny_model


def test_a_table_and_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetam_model.runtime.choosing.has_openvino", lambda: False)
    weights = tmp_path / "tiny.safetensors"
    save_weights(weights, tiny_model(), CONFIGS["tiny"], licence="MIT", source="a test")
    words = ["--weights", weights, "--no-published", "--objects", 1, 2, "--rounds", 1, "--frames", 3]
    code = main(["bench", *map(str, words), "--threads", "1", "--plot", str(tmp_path / "cost.png")])
    out = capsys.readouterr().out
    said = json.loads(out.splitlines()[-1])
    assert code == 0
    assert {row["case"] for row in said["rows"]} >= {"image encoder", "a frame, 2 objects", "second click"}
    assert said["machine"]["threads"] == 1
    assert (tmp_path / "cost.png").is_file()
    assert "matrix peak" in out


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--objects", "1", "0"], ["--threads", "-1"]])
def test_numbers_out_of_range_are_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert f"{words[0].removeprefix('--')}: expected at least 1" in capsys.readouterr().err
