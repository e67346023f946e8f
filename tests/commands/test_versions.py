"""The verbs of `edgetam versions`, through the command line itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgetam_model import cli
from edgetam_model.training.version_store import VersionStore
from tests.training.versions import add


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VersionStore:
    """v0001 and v0002 of project-7 served in turn; v0003 is a candidate."""
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    made = VersionStore()
    first = add(made, tmp_path / "new")
    made.promote(first)
    second = add(made, tmp_path / "new", parent=str(first))
    made.promote(second, why="IoU [bold]0.81[/bold]")
    add(made, tmp_path / "new", parent=str(second))
    return made


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert cli.main(["versions", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_list_for_people_and_machines(store: VersionStore, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_json(capsys, "list")
    assert rows == run_json(capsys, "list", "project-7")
    assert [(row["name"], row["status"], row["parent"]) for row in rows] == [
        ("project-7/v0001", "promoted", "edgetam"),
        ("project-7/v0002", "current", "project-7/v0001"),
        ("project-7/v0003", "candidate", "project-7/v0002"),
    ]
    assert rows[0]["metrics"] == {"held_out_iou": 0.8125, "domain": "thermal"}
    assert cli.main(["versions", "list"]) == 0
    shown = capsys.readouterr().out
    for word in ("project-7/v0002", "current", "candidate", "held_out_iou 0.8125"):
        assert word in shown


def test_a_damaged_version_is_listed_with_its_problem(
    store: VersionStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.root / "project-7" / "v0001" / "version.json").write_text("{}")
    rows = run_json(capsys, "list")
    assert "damaged" in rows[0]["problem"]
    assert (rows[0]["parent"], rows[1]["problem"]) == (None, "")
    assert cli.main(["versions", "list"]) == 0
    assert "damaged" in capsys.readouterr().out


def test_an_empty_store_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    assert run_json(capsys, "list") == []
    assert cli.main(["versions", "list"]) == 0
    assert capsys.readouterr().out == f"no versions in {tmp_path / 'versions'}\n"


def test_show_for_people_and_machines(store: VersionStore, capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(capsys, "show", "project-7/v0002")
    assert (document["name"], document["status"]) == ("project-7/v0002", "current")
    assert document["manifest"] == [{"annotation": 7, "sha256": "ab" * 32}]
    assert document["content_hash"] == store.get(store.names("project-7")[1]).content_hash
    assert [(s["before"], s["after"]) for s in document["switches"]] == [("v0001", "v0002")]
    assert cli.main(["versions", "show", "project-7/v0002"]) == 0
    shown = capsys.readouterr().out
    assert "  metrics   domain" in shown
    assert "\n            held_out_iou 0.8125\n" in shown
    assert "promote v0001 → v0002 (IoU [bold]0.81[/bold])" in shown
    assert cli.main(["versions", "show", "project-7/v0003"]) == 0
    assert "never served" in capsys.readouterr().out


def test_promote_and_roll_back(store: VersionStore, capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(capsys, "promote", "project-7/v0003", "--over", "project-7/v0002", "--why", "better")
    assert (document["project"], document["before"], document["after"]) == ("project-7", "v0002", "v0003")
    assert document["why"] == "better"
    assert cli.main(["versions", "rollback", "project-7"]) == 0
    assert capsys.readouterr().out == "project-7: v0002 serves (before: v0003)\n"
    for target, expected in (("project-7/v0003", "v0003"), ("v0001", "v0001"), ("base", "base")):
        assert run_json(capsys, "rollback", "project-7", "--to", target)["after"] == expected
    assert store.current_of("project-7") is None


def test_delete(store: VersionStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(capsys, "delete", "project-7/v0003") == {"deleted": "project-7/v0003"}
    assert [name.number for name in store.names("project-7")] == [1, 2]
    assert cli.main(["versions", "delete", "project-7/v0001"]) == 2  # the parent of what serves


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("list project-9", "those that have: project-7"),
        ("list ../project-7", "expected up to 64 of a-z"),
        ("show project-7", "expected PROJECT/vNNNN, such as project-7/v0003, got 'project-7'"),
        (
            "show project-7/v0009",
            "project-7/v0009: no such version; project-7 has v0001 (promoted), v0002 (current)",
        ),
        ("promote project-7/v3", "expected PROJECT/vNNNN"),
        ("promote project-9/v0001", "no such project has versions"),
        ("promote project-7/v0003 --over v0001", "expected v0001 to serve project-7, found v0002"),
        ("rollback project-7 --to v0003", "expected base or a version that served before, got 'v0003'"),
        ("rollback edgetam", "'edgetam' is the name of weights"),
        ("delete project-7/v0002", "serves project-7, or is the parent of what does"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    store: VersionStore, capsys: pytest.CaptureFixture[str], words: str, told: str
) -> None:
    assert cli.main(["versions", *words.split(), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert told in err
    assert len(store.state("project-7").switches) == 2


def test_damage_is_a_failure(store: VersionStore, capsys: pytest.CaptureFixture[str]) -> None:
    (store.root / "project-7" / "v0003" / "report" / "index.html").write_text("changed")
    for action in ("show", "promote"):
        assert cli.main(["versions", action, "project-7/v0003"]) == 1
        assert "index.html: damaged: SHA-256" in capsys.readouterr().err


def test_the_servers_folder_can_be_named(
    store: VersionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "elsewhere"))
    assert run_json(capsys, "list") == []
    assert len(run_json(capsys, "list", "--model-dir", str(tmp_path / "state"))) == 3


def test_an_action_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["versions"])
    assert stopped.value.code == 2
    assert "ACTION" in capsys.readouterr().err


def test_weights_list_mentions_versions(
    store: VersionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGETAM_CACHE", str(tmp_path / "cache"))
    assert cli.main(["weights", "list"]) == 0
    assert "and fine-tuned versions of project-7: see edgetam versions list" in capsys.readouterr().out


def test_registering_the_verb_imports_neither_torch_nor_pydantic() -> None:
    check = (
        "import sys, edgetam_model.commands.versions; "
        "sys.exit(bool({'torch', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
