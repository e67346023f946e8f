"""`edgetam export`: what it refuses, and what it writes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from edgetam_model.cli import main
from edgetam_model.commands.export import PRECISIONS, TARGETS
from edgetam_model.export import coreml
from edgetam_model.export.onnx_runtime import OnnxRuntime

pytest.importorskip("onnxscript", reason="the extra `export` is not installed")


def test_choices_are_the_exporters() -> None:
    assert (PRECISIONS, TARGETS) == (coreml.PRECISIONS, coreml.TARGETS)


def test_onnx_is_written_and_told(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "onnx", "--weights", str(weights), "--out", str(tmp_path), "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["target"], len(told["files"])) == ("onnx", "opset 18", 5)
    assert told["bytes"] == sum(path.stat().st_size for path in tmp_path.glob("*.onnx"))
    assert OnnxRuntime(tmp_path).manifest.weights.fingerprint == told["weights"]["fingerprint"]
    assert main(words) == 2
    assert "holds an export already; give --force" in capsys.readouterr().err


def test_a_missing_extra_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for words in (["onnx", "--out"], ["coreml", "--out"], ["verify"]):
        assert main(["export", *words, str(tmp_path / "out")]) == 2
        assert 'pip install "edgetam-labeling[export]"' in capsys.readouterr().err


def test_verifying_needs_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("coremltools")
    assert main(["export", "verify", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("has no manifest.json") == 1
    assert main(["export", "verify", str(tmp_path), "--frames", "1"]) == 2
    assert "frames: expected at least 2" in capsys.readouterr().err
