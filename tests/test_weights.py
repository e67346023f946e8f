"""Which weights a name means, what an import leaves behind, and that damage is found."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch

from edgetam_model import weights
from edgetam_model.config import CONFIGS
from edgetam_model.errors import InputError, WeightsError
from edgetam_model.model import EdgeTAM
from edgetam_model.weights import (
    WeightsInfo,
    import_checkpoint,
    list_weights,
    load_model,
    read_weights,
    save_weights,
    verify,
)

TINY = CONFIGS["tiny"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, nothing shipped, no network."""
    for name in ("EDGETAM_WEIGHTS", "EDGETAM_WEIGHTS_URL", "EDGETAM_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGETAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGETAM_OFFLINE", "1")
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "package" / "nano.safetensors")
    return tmp_path / "cache"


@pytest.fixture
def trained() -> EdgeTAM:
    torch.manual_seed(11)
    return EdgeTAM(TINY)


def info_of(model: EdgeTAM) -> WeightsInfo:
    assert isinstance(model.weights_info, WeightsInfo)
    return model.weights_info


def same(left: EdgeTAM, right: EdgeTAM) -> bool:
    theirs = right.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in left.state_dict().items())


def test_untrained_weights_are_the_same_everywhere_and_said_loudly(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = load_model("default")
    assert torch.equal(torch.rand(1), expected)  # the caller's random numbers are untouched
    second = load_model("default")
    assert same(first, second)
    assert not first.training
    info = info_of(first)
    assert (info.name, info.path, info.trained) == ("untrained", None, False)
    assert info.fingerprint == info_of(second).fingerprint
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "UNTRAINED" in caplog.text


def test_auto_without_network_takes_what_ships_and_says_so(
    trained: EdgeTAM, caplog: pytest.LogCaptureFixture
) -> None:
    save_weights(weights.SHIPPED, trained, TINY, licence="Apache-2.0", source="trained from scratch")
    with caplog.at_level(logging.INFO):
        model = load_model()
    info = info_of(model)
    assert (info.name, info.path, info.trained, info.licence) == (
        "default",
        weights.SHIPPED,
        True,
        "Apache-2.0",
    )
    assert "edgetam weights fetch" in info.note
    reason, line = caplog.messages
    assert "EDGETAM_OFFLINE" in reason
    assert line == str(info)
    assert len(line) < 150
    assert "\n" not in line
    assert same(model, trained)
    assert info_of(load_model("default")).note == ""


def test_a_path_or_the_environment_names_the_file(
    trained: EdgeTAM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    mark = save_weights(path, trained.state_dict(), TINY, trained=False)
    monkeypatch.setenv("EDGETAM_WEIGHTS", str(path))
    for model in (load_model(path), load_model(str(path)), load_model()):
        assert same(model, trained)
        info = info_of(model)
        assert (info.name, info.path, info.fingerprint, info.trained) == ("mine", path, mark, False)


@pytest.mark.parametrize("name", ["project-7/v0003", "nosuch", "../edgetam", "nosuch.pt", ""])
def test_a_name_that_means_nothing_is_told_what_is_expected(name: str, own_cache: Path) -> None:
    (own_cache / "weights").mkdir(parents=True)
    (own_cache / "edgetam.safetensors").touch()  # a name never leads out of the folder of weights
    with pytest.raises(WeightsError, match="no such version, file or import; expected default"):
        verify(name)
    if name:
        with pytest.raises(WeightsError, match=re.escape(name)):
            load_model(name)


def test_published_weights_that_are_not_here_are_told() -> None:
    for call in (load_model, verify):
        with pytest.raises(WeightsError, match=r"edgetam.*not"):
            call("edgetam")
    with pytest.raises(WeightsError, match="no published weights named 'sam2'"):
        weights.fetch("sam2")


@pytest.mark.parametrize("device", ["cuda:99", "toaster", "meta", "cpu:x"])
def test_a_device_that_is_not_there_is_an_input_error(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="device"):
        load_model("default", device)
    monkeypatch.setenv("EDGETAM_DEVICE", device)
    with pytest.raises(InputError, match="device"):
        load_model("default")
    assert load_model("default", "cpu").device == torch.device("cpu")


def test_an_import_converts_once_and_is_found_by_its_name(
    trained: EdgeTAM, tmp_path: Path, own_cache: Path
) -> None:
    torch.save({"model": trained.state_dict()}, tmp_path / "my model.pt")
    path = import_checkpoint(tmp_path / "my model.pt", TINY)
    assert path.parent == own_cache / "weights"
    assert re.fullmatch(r"my_model-[0-9a-f]{8}", path.stem)
    written = path.stat().st_mtime_ns
    assert import_checkpoint(str(tmp_path / "my model.pt"), TINY) == path
    assert path.stat().st_mtime_ns == written
    (tmp_path / "my model.pt").unlink()
    assert same(load_model(path.stem), trained)
    path.write_bytes(b"damaged")
    torch.save({"model": trained.state_dict()}, tmp_path / "my model.pt")
    assert same(load_model(import_checkpoint(tmp_path / "my model.pt", TINY)), trained)


def test_a_file_of_ours_keeps_its_facts_when_imported(trained: EdgeTAM, tmp_path: Path) -> None:
    mark = save_weights(tmp_path / "w", trained, TINY, licence="MIT", source="elsewhere", trained=False)
    imported = read_weights(import_checkpoint(tmp_path / "w"))
    assert (imported.licence, imported.source, imported.trained) == ("MIT", "elsewhere", False)
    assert (imported.config, imported.fingerprint) == (TINY, mark)


def test_a_checkpoint_of_another_model_leaves_nothing(
    trained: EdgeTAM, tmp_path: Path, own_cache: Path
) -> None:
    state = trained.state_dict()
    torch.save({"model": {name: state[name] for name in list(state)[2:]}}, tmp_path / "short.pt")
    with pytest.raises(WeightsError, match="2 entries missing"):
        import_checkpoint(tmp_path / "short.pt", TINY)
    torch.save({"model": state}, tmp_path / "small.pt")
    with pytest.raises(WeightsError, match=r"of another shape: \S+ \[.*\] instead of"):
        import_checkpoint(tmp_path / "small.pt")
    assert not own_cache.exists()


def test_the_published_layout_at_full_size_loads_strictly(tmp_path: Path) -> None:
    config = CONFIGS["edgetam"]
    torch.manual_seed(2)
    model = EdgeTAM(config)
    assert len(model.state_dict()) == 982
    torch.save({"model": model.state_dict()}, tmp_path / "edgetam.pt")
    loaded = load_model(import_checkpoint(tmp_path / "edgetam.pt"))
    assert loaded.config == config
    assert same(loaded, model)


def test_the_list_shows_what_is_here_and_what_is_damaged(trained: EdgeTAM, tmp_path: Path) -> None:
    names = [(row.name, row.present, row.trained, row.licence) for row in list_weights()]
    assert names == [("default", False, False, "Apache-2.0"), ("edgetam", False, True, "Apache-2.0")]
    save_weights(tmp_path / "w", trained, TINY)
    path = import_checkpoint(tmp_path / "w")
    row = list_weights()[2]
    assert (row.name, row.present, row.problem) == (path.stem, True, "")
    assert (row.size, row.where) == (path.stat().st_size, str(path))
    assert len(row.sha256) == 64
    path.write_bytes(path.read_bytes()[:-4])
    damaged = list_weights()[2]
    assert str(path) in damaged.problem
    assert damaged.sha256 != row.sha256


def test_verify_finds_one_flipped_bit(trained: EdgeTAM, tmp_path: Path) -> None:
    save_weights(weights.SHIPPED, trained, TINY)
    mark = save_weights(tmp_path / "w", trained, TINY)
    path = import_checkpoint(tmp_path / "w")
    assert {verify(name).fingerprint for name in (path, path.stem, tmp_path / "w", "default")} == {mark}
    raw = bytearray(path.read_bytes())
    raw[-100] ^= 1
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match="damaged"):
        verify(path.stem)
    with pytest.raises(WeightsError, match="damaged"):
        load_model(path.stem)
