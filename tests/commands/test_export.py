"""`edgetam export`: what it refuses, and what it writes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from edgetam_model.cli import main
from edgetam_model.commands.export import PRECISIONS, TARGETS
from edgetam_model.commands.export_report import show_released, show_verified
from edgetam_model.export import coreml
from edgetam_model.export.manifest import Accuracy
from edgetam_model.export.onnx_runtime import OnnxRuntime
from edgetam_model.export.release import Released
from edgetam_model.export.verify import ClipChecked, PartChecked, Verified
from edgetam_model.export.verify_weights import WeightsChecked
from tests.export.exports import torch_runtime
from tests.models import tiny_model

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


def test_weights_are_named_or_come_from_a_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "coreml", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--config", "tiny", "--weights", "default"])
    assert "not allowed with argument" in capsys.readouterr().err
    assert main([*words, "--config", "huge"]) == 2
    assert "config: expected one of" in capsys.readouterr().err
    assert main([*words, "--seed", "1"]) == 2
    assert "seed: goes with --config only" in capsys.readouterr().err


def judged() -> Released:
    """A release's 4 bits, which lose too much."""
    written = torch_runtime(tiny_model()).manifest
    accuracy = Accuracy(verdict="not for use", lost_points=1.5)
    manifest = written.model_copy(update={"precision": "palette4", "accuracy": accuracy})
    weights = WeightsChecked(tensors=9, numbers=1234, largest=0.1)
    part = PartChecked({"features": 0.25, "keys": 0.125}, {"features": 0.002, "keys": 0.001}, weights)
    parts = {file.name: part for file in manifest.files}
    return Released(manifest, Verified("palette4", parts, ClipChecked((0.75, 0.5), seen=1)))


def test_tables_tell_what_bits_cost_and_what_is_not_for_use(capsys: pytest.CaptureFixture[str]) -> None:
    one = judged()
    assert show_verified(one.manifest, one.verified, as_json=False) == 0, "fewer bits are no fault"
    told = capsys.readouterr().out
    assert told.count("2.5e-01 (features)") == len(one.manifest.files) == told.count("2.0e-03")
    assert "palette4: not for use" in told
    assert show_verified(one.manifest, one.verified, as_json=True) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["accuracy"] == {"verdict": "not for use", "lost_points": 1.5}
    assert facts["parts"]["mask_decoder"]["errors"]["features"] == 0.25
    assert facts["parts"]["mask_decoder"]["errors_with_stored_weights"]["features"] == 0.002
    assert (facts["masks"], facts["mean_iou"]) == (2, 0.625)
    show_released({"palette4": one}, Path("dist"), as_json=False)
    row = next(line for line in capsys.readouterr().out.splitlines() if "palette4" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][2:] == [
        *("2.5e-01", "2.0e-03", "0.6250", "1.50"),
        "not for use",
    ]


def test_verifying_needs_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("coremltools")
    assert main(["export", "verify", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("has no manifest.json") == 1
    assert main(["export", "verify", str(tmp_path), "--frames", "1"]) == 2
    assert "frames: expected 0 (the parts alone) or at least 2" in capsys.readouterr().err
