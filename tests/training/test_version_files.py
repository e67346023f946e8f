"""A version is whole or not there, and one changed byte is noticed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.errors import InputError, WeightsError
from edgetam_model.training.version_files import (
    check_all,
    check_file,
    folder_size,
    read_manifest,
    version_of_weights,
)
from edgetam_model.training.version_store import VersionStore
from edgetam_model.training.versions import NewVersion, VersionName
from tests.training.versions import add, weights_file

FILES = (
    "SHA256SUMS",
    "manifest.json",
    "report/index.html",
    "report/pictures/before and after.png",
    "version.json",
    "weights.safetensors",
)

# Dies at the N-th call of a step of writing: a file that is complete, or the renaming that makes it count.
DYING = """
import os, pathlib, signal, sys
from edgetam_model.training.version_store import VersionStore
from tests.training.versions import add
owner, name, left = (os, "fsync", int(sys.argv[3])) if sys.argv[2] == "fsync" else (pathlib.Path, "rename", 1)
step = getattr(owner, name)
def dying(*words):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*words)
setattr(owner, name, dying)
root = pathlib.Path(sys.argv[1])
add(VersionStore(root / "versions"), root / "new", parent="project-7/v0001")
"""


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "versions")


def test_everything_handed_over_is_kept(store: VersionStore, tmp_path: Path) -> None:
    name = add(store, tmp_path / "new")
    version = store.get(name)
    assert version.name == name == VersionName("project-7", 1)
    assert (version.record.parent, version.record.kind) == ("edgetam", "full")
    assert version.record.fingerprint == "mark-0.0"
    assert version.record.config == {"mode": "full", "steps": 40}
    assert version.record.metrics == {"held_out_iou": 0.8125, "domain": "thermal"}
    assert read_manifest(version) == [{"annotation": 7, "sha256": "ab" * 32}]
    files = sorted(p.relative_to(version.folder).as_posix() for p in version.folder.rglob("*") if p.is_file())
    assert files == sorted(FILES)
    assert folder_size(version.folder) == sum((version.folder / file).stat().st_size for file in FILES)
    check_all(version)
    assert (
        check_file(version, "weights.safetensors").read_bytes() == weights_file(tmp_path / "x").read_bytes()
    )


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_the_sums_are_those_of_sha256sum(store: VersionStore, tmp_path: Path) -> None:
    folder = store.get(add(store, tmp_path / "new")).folder
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


@pytest.mark.parametrize("file", FILES)
def test_one_changed_byte_in_any_file_is_noticed(store: VersionStore, tmp_path: Path, file: str) -> None:
    name = add(store, tmp_path / "new")
    sound = store.get(name).content_hash
    path = store.get(name).folder / file
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match=r"damaged|cannot be read"):
        check_all(store.get(name))
    with pytest.raises(WeightsError):
        store.promote(name)
    assert store.current_of("project-7") is None
    if file == "SHA256SUMS":
        assert path.write_bytes(b"") == 0
        with pytest.raises(WeightsError, match="not the sums of a version"):
            store.get(name)
    elif file != "version.json":
        assert store.get(name).content_hash == sound


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_noticed(store: VersionStore, tmp_path: Path, file: str) -> None:
    name = add(store, tmp_path / "new")
    (store.get(name).folder / file).unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        check_all(store.get(name))


def test_damaged_weights_are_refused_by_their_hash(store: VersionStore, tmp_path: Path) -> None:
    name = add(store, tmp_path / "new")
    other = weights_file(tmp_path / "other", 1.0)
    shutil.copy(other, store.get(name).folder / "weights.safetensors")  # sound weights, but not these
    with pytest.raises(WeightsError, match=r"weights\.safetensors: damaged: SHA-256"):
        store.weights_file(name)


def test_a_version_in_another_ones_place_is_noticed(store: VersionStore, tmp_path: Path) -> None:
    name = add(store, tmp_path / "new")
    shutil.copytree(store.root / "project-7" / "v0001", store.root / "project-8" / "v0001")
    with pytest.raises(WeightsError, match="is the version project-7/v0001, put into the place of project-8"):
        store.get(VersionName("project-8", 1))
    assert store.get(name).name == name


@pytest.mark.parametrize(("what", "count"), [("rename", 1), *(("fsync", n) for n in (1, 3, 5, 7))], ids=str)
def test_a_crash_before_the_renaming_leaves_nothing_that_counts(
    store: VersionStore, tmp_path: Path, what: str, count: int
) -> None:
    first = add(store, tmp_path / "new")
    store.promote(first)
    words = [sys.executable, "-c", DYING, str(tmp_path), what, str(count)]
    died = subprocess.run(words, cwd=Path(__file__).parents[2], check=False)
    assert died.returncode == -signal.SIGKILL
    assert store.names("project-7") == (first,)
    assert store.current_of("project-7") == first
    assert len(list((store.root / "project-7").glob(".draft-*"))) == 1  # it did die on the way
    second = add(store, tmp_path / "new", parent=str(first))  # the dead writer's lock is free
    assert second.number == 2
    check_all(store.get(second))


def test_a_version_survives_a_crash_after_the_renaming(store: VersionStore, tmp_path: Path) -> None:
    add(store, tmp_path / "new")
    words = [sys.executable, "-c", DYING, str(tmp_path), "fsync", "8"]  # of the project's folder
    assert subprocess.run(words, cwd=Path(__file__).parents[2], check=False).returncode == -signal.SIGKILL
    assert [name.number for name in store.names("project-7")] == [1, 2]
    check_all(store.get(VersionName("project-7", 2)))


def test_values_that_json_cannot_hold_leave_nothing(store: VersionStore, tmp_path: Path) -> None:
    weights = weights_file(tmp_path)
    wrong = {
        "manifest": NewVersion(weights, "edgetam", manifest={"a": object()}),  # type: ignore[dict-item]
        "config": NewVersion(weights, "edgetam", config={"a": {1, 2}}),  # type: ignore[dict-item]
        "metrics": NewVersion(weights, "edgetam", metrics={"iou": float("nan")}),
    }
    for field, new in wrong.items():
        with pytest.raises(InputError, match=f"^{field}: expected plain JSON values"):
            store.add("project-7", new)
    assert store.projects() == ()
    assert not list((store.root / "project-7").glob(".draft-*"))


def test_other_weights_and_missing_files_are_refused(store: VersionStore, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(InputError, match="weights: expected a safetensors file"):
        store.add("project-7", NewVersion(tmp_path / "text", "edgetam"))
    with pytest.raises(InputError, match="weights: expected a file, found none"):
        store.add("project-7", NewVersion(tmp_path / "nothing", "edgetam"))
    with pytest.raises(InputError, match="report: expected a folder, found none"):
        store.add("project-7", NewVersion(weights_file(tmp_path), "edgetam", report=tmp_path / "nothing"))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "two\nlines").touch()
    with pytest.raises(InputError, match="report: expected plain file names"):
        store.add("project-7", NewVersion(weights_file(tmp_path), "edgetam", report=tmp_path / "report"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=3), JSON)
def test_plain_values_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object], manifest: object
) -> None:
    folder = tmp_path_factory.mktemp("values")
    store = VersionStore(folder / "versions")
    new = NewVersion(
        weights_file(folder),
        "edgetam",
        config=values,  # type: ignore[arg-type]
        manifest=manifest,  # type: ignore[arg-type]
        metrics=values,  # type: ignore[arg-type]
    )
    version = store.get(store.add("p", new))
    assert (version.record.config, version.record.metrics) == (values, values)
    assert read_manifest(version) == manifest


def test_a_weights_file_knows_its_version(
    store: VersionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = add(store, tmp_path / "new")
    path = store.weights_file(name)
    assert version_of_weights(path) == name
    monkeypatch.chdir(path.parent)
    assert version_of_weights(Path(path.name)) == name
    assert version_of_weights(weights_file(tmp_path)) is None
    assert version_of_weights(Path(shutil.copy(path, tmp_path / "weights.safetensors"))) is None
