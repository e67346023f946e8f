"""Releases: checksums that the usual tool reads, what is unfit says so, nothing replaced unasked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgetam_model.errors import InputError
from edgetam_model.export import coreml_precision
from edgetam_model.export.coreml import PRECISIONS, CoremlOptions
from edgetam_model.export.coreml_precision import LOST_POINTS, MEASURED, accuracy_of
from edgetam_model.export.manifest import Accuracy, read_manifest
from edgetam_model.export.release import RELEASED, SUMS, checksums, release_coreml
from edgetam_model.weights import load_model
from tests.models import tiny_model


def test_checksums_are_those_that_people_check_with(tmp_path: Path) -> None:
    for precision, part in (("fp16", "b"), ("fp16", "a"), ("int8", "a")):
        path = tmp_path / f"coreml-{precision}" / f"{part}.mlpackage" / "weight.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(f"{precision} {part}".encode())
    (tmp_path / "coreml-fp16" / "manifest.json").write_text("{}")
    text = checksums(tmp_path, ("fp16", "int8"))
    assert [line.split("  ")[1] for line in text.splitlines()] == [
        "coreml-fp16/a.mlpackage/weight.bin",
        "coreml-fp16/b.mlpackage/weight.bin",
        "coreml-fp16/manifest.json",
        "coreml-int8/a.mlpackage/weight.bin",
    ]
    (tmp_path / SUMS).write_text(text)
    check = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "coreml-int8" / "a.mlpackage" / "weight.bin").write_bytes(b"other")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_what_loses_more_than_a_point_is_not_for_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(LOST_POINTS) == set(PRECISIONS)
    assert set(RELEASED) <= set(PRECISIONS)
    monkeypatch.setattr(coreml_precision, "LOST_POINTS", {"fp16": 0.3, "int8": 1.0, "palette4": 1.01})
    judged = {one: accuracy_of(one, MEASURED) for one in ("fp16", "int8", "palette4")}
    assert [one.verdict for one in judged.values()] == ["for use", "for use", "not for use"]
    assert [one.lost_points for one in judged.values()] == [0.3, 1.0, 1.01]
    assert accuracy_of("palette4", "0" * 64) == Accuracy(verdict="not measured", lost_points=None)


def test_what_was_measured_are_the_weights_that_ship() -> None:
    how = "measure them (docs/export.md, Sizes and accuracy), then change LOST_POINTS and MEASURED"
    assert load_model("default", device="cpu").fingerprint() == MEASURED, how


def test_a_release_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / SUMS).write_text("")
    with pytest.raises(InputError, match="holds a release already"):
        release_coreml(tiny_model(), tmp_path)


@pytest.mark.slow
def test_every_precision_is_written_verified_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("coremltools", reason="the extra `export` is not installed")
    monkeypatch.setattr(coreml_precision, "LOST_POINTS", {**LOST_POINTS, "palette4": 1.5})
    # Trained weights: random ones amplify what float16 changes, and their masks part.
    model = load_model("default", device="cpu")
    found = release_coreml(model, tmp_path, CoremlOptions(prompts=4), frames=2)
    verdicts = {}
    for precision in found:
        written = read_manifest(tmp_path / f"coreml-{precision}").accuracy
        assert written is not None
        verdicts[precision] = written.verdict
    assert verdicts == dict.fromkeys(RELEASED, "for use") | {"palette4": "not for use"}
    listed = [line.split("  ")[1] for line in (tmp_path / SUMS).read_text().splitlines()]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != SUMS]
    assert sorted(listed) == sorted(path.relative_to(tmp_path).as_posix() for path in files)
