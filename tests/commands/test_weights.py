"""The verbs of `edgetam weights`, through the functions that the command line runs."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgetam_model import weights
from edgetam_model.commands.weights import register
from edgetam_model.config import CONFIGS
from edgetam_model.errors import WeightsError
from edgetam_model.model import EdgeTAM
from edgetam_model.weights import save_weights

TINY = CONFIGS["tiny"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGETAM_OFFLINE", "1")
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "nano.safetensors")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    save_weights(tmp_path / "[bold]mine", EdgeTAM(TINY), TINY, licence="MIT")
    return tmp_path / "[bold]mine"


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    args = parser.parse_args(["weights", *words])
    code = args.run(args)
    assert isinstance(code, int)
    return code


def test_list_for_people_and_machines(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", str(file)) == 0
    capsys.readouterr()
    assert run("list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows[:2]] == ["default", "edgetam"]
    assert (rows[2]["present"], rows[2]["licence"]) == (True, "MIT")
    assert run("list") == 0
    shown = capsys.readouterr().out
    assert "default" in shown
    assert "MIT" in shown


def test_import_reports_the_name_to_use(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", str(file), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["name"].startswith("_bold_mine-")
    assert document["trained"] is True
    assert run("verify", document["name"]) == 0
    assert document["fingerprint"] in capsys.readouterr().out


def test_verify_all_fails_if_one_is_damaged(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_weights(weights.SHIPPED, EdgeTAM(TINY), TINY)
    run("import", str(file), "--json")
    path = Path(json.loads(capsys.readouterr().out)["path"])
    assert run("verify") == 0
    assert capsys.readouterr().out.count(": ok\n") == 2
    path.write_bytes(path.read_bytes()[:-1])
    assert run("verify", "--json") == 1
    assert [result["ok"] for result in json.loads(capsys.readouterr().out)] == [True, False]
    assert run("verify") == 1
    shown = capsys.readouterr().out
    assert "default: ok\n" in shown
    assert f"{path.stem}: {path}: neither safetensors" in shown
    with pytest.raises(WeightsError):
        run("verify", path.stem)


def test_fetch_and_import_raise_what_the_command_line_tells(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="EDGETAM_OFFLINE"):
        run("fetch")
    with pytest.raises(WeightsError, match="no published weights named 'sam2'"):
        run("fetch", "sam2")
    with pytest.raises(WeightsError, match="No such file"):
        run("import", str(tmp_path / "nothing.pt"))


def test_an_action_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 2
    assert "ACTION" in capsys.readouterr().err


def test_registering_the_verb_does_not_import_torch() -> None:
    check = "import sys, edgetam_model.commands.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
