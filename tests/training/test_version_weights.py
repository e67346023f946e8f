"""`load_model` takes versions: the same numbers after a rollback, and clear words for what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgetam_model import weights
from edgetam_model.config import CONFIGS
from edgetam_model.errors import WeightsError
from edgetam_model.model import EdgeTAM
from edgetam_model.training.version_store import VersionStore
from edgetam_model.training.versions import NewVersion
from edgetam_model.weights import WeightsInfo, load_model, save_weights, verify

TINY = CONFIGS["tiny"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VersionStore:
    """Two versions of project-7, the second one serving."""
    monkeypatch.setenv("EDGETAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGETAM_OFFLINE", "1")
    monkeypatch.delenv("MODEL_DIR", raising=False)
    monkeypatch.delenv("EDGETAM_WEIGHTS", raising=False)
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "nano.safetensors")
    made = VersionStore()
    parent = "untrained"
    for seed in (1, 2):
        torch.manual_seed(seed)
        save_weights(tmp_path / "w", EdgeTAM(TINY), TINY, licence="MIT", source="project 7's annotations")
        name = made.add("project-7", NewVersion(tmp_path / "w", parent))
        made.promote(name)
        parent = str(name)
    return made


def info_of(model: EdgeTAM) -> WeightsInfo:
    assert isinstance(model.weights_info, WeightsInfo)
    return model.weights_info


def test_a_version_and_a_project_are_names_of_weights(
    store: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = store.get(store.names("project-7")[1])
    for model in (
        load_model("project-7/v0002"),
        load_model("project-7"),
        load_model(second.folder / "weights.safetensors"),
    ):
        info = info_of(model)
        assert (info.name, info.licence, info.source) == ("project-7/v0002", "MIT", "project 7's annotations")
        assert info.fingerprint == second.record.fingerprint == model.fingerprint()
        assert not model.training
    assert verify("project-7/v0001").name == "project-7/v0001"
    monkeypatch.setenv("EDGETAM_WEIGHTS", "project-7")
    assert info_of(load_model()).name == "project-7/v0002"


def test_a_rollback_brings_back_every_number(store: VersionStore) -> None:
    before = load_model("project-7/v0001").state_dict()
    assert any(not torch.equal(t, before[n]) for n, t in load_model("project-7").state_dict().items())
    store.rollback("project-7")
    assert all(torch.equal(t, before[n]) for n, t in load_model("project-7").state_dict().items())


def test_what_is_not_there_is_told_with_what_is(store: VersionStore) -> None:
    has = r"project-7 has v0001 \(promoted\), v0002 \(current\)"
    for call in (load_model, verify):
        with pytest.raises(WeightsError, match=f"project-7/v0009: no such version; {has}"):
            call("project-7/v0009")
        with pytest.raises(WeightsError, match=r"project-9/v0001: no such version.* has some \(project-7\)"):
            call("project-9/v0001")
    store.rollback("project-7", "base")
    with pytest.raises(WeightsError, match="project-7: has no current version; project-7 has v0001"):
        load_model("project-7")


def test_one_flipped_bit_is_refused(store: VersionStore) -> None:
    path = store.root / "project-7" / "v0002" / "weights.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-100] ^= 1
    path.write_bytes(raw)
    for name in ("project-7/v0002", "project-7"):
        with pytest.raises(WeightsError, match="damaged: SHA-256"):
            load_model(name)
    store.rollback("project-7")
    assert info_of(load_model("project-7")).name == "project-7/v0001"


def test_sound_weights_of_another_version_are_refused(store: VersionStore) -> None:
    first, second = (store.root / "project-7" / name / "weights.safetensors" for name in ("v0001", "v0002"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(WeightsError, match="damaged: SHA-256"):
        load_model("project-7")
