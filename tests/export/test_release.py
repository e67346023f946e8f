"""Releases: checksums that the usual tool reads, nothing unfit, nothing replaced unasked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgetam_model.errors import InputError
from edgetam_model.export.coreml import PRECISIONS, CoremlOptions
from edgetam_model.export.coreml_precision import LOST_POINTS, TOO_MANY_POINTS, fit_for_use
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


def test_what_loses_too_much_is_not_fit() -> None:
    assert set(LOST_POINTS) == set(PRECISIONS)
    assert set(RELEASED) <= set(PRECISIONS)
    assert fit_for_use("fp16")
    for precision, lost in LOST_POINTS.items():
        assert fit_for_use(precision) == (lost <= TOO_MANY_POINTS)


def test_a_release_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / SUMS).write_text("")
    with pytest.raises(InputError, match="holds a release already"):
        release_coreml(tiny_model(), tmp_path)


@pytest.mark.slow
def test_every_precision_fit_for_use_is_written_and_verified(tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="the extra `export` is not installed")
    # Trained weights: random ones amplify what float16 changes, and their masks part.
    found = release_coreml(load_model("default", device="cpu"), tmp_path, CoremlOptions(prompts=4), frames=2)
    assert list(found) == [one for one in RELEASED if fit_for_use(one)]
    listed = [line.split("  ")[1] for line in (tmp_path / SUMS).read_text().splitlines()]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != SUMS]
    assert sorted(listed) == sorted(path.relative_to(tmp_path).as_posix() for path in files)
