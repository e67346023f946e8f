from __future__ import annotations

import json
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edgetam_model.errors import InputError
from edgetam_model.training import annotation_sources
from edgetam_model.training.annotation_sources import GROUP, read_annotations, readers

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry points that the project declares, installed or not, and one that cannot be imported."""
    declared = tomllib.loads(PROJECT.read_text())["project"]["entry-points"][GROUP]
    found = [EntryPoint(name, value, GROUP) for name, value in declared.items()]
    found.append(EntryPoint("missing", "no_such_adapter:read", GROUP))
    monkeypatch.setattr(annotation_sources, "entry_points", lambda group: found if group == GROUP else [])


def test_a_broken_adapter_costs_its_own_kinds_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert len(readers()) == 2
    assert "missing (no_such_adapter:read) is left out" in caplog.text


def test_each_kind_finds_its_reader(tmp_path: Path) -> None:
    points = {"points": [[0, 0], [50, 0], [50, 50]]}
    region = {"id": "r", "type": "polygonlabels", "to_name": "image", "value": points}
    task = {"id": 7, "data": {"image": "a.png"}, "annotations": [{"id": 1, "result": [region]}]}
    export = tmp_path / "export.json"
    export.write_text(json.dumps([task]))
    xml = tmp_path / "annotations.xml"
    shape = '<polygon label="cat" points="0,0;9,0;9,9"/>'
    xml.write_text(
        f'<annotations><image id="0" name="b.png" width="20" height="10">{shape}</image></annotations>'
    )
    found = [read_annotations(path) for path in (export, xml)]
    assert [one.tasks[0].media for one in found if one] == ["a.png", "b.png"]


def test_other_files_are_left_to_others(tmp_path: Path) -> None:
    coco = tmp_path / "coco.json"
    coco.write_text('{"images": [], "annotations": []}')
    assert read_annotations(coco) is None
    assert read_annotations(tmp_path) is None
    with pytest.raises(InputError, match="no such file"):
        read_annotations(tmp_path / "nowhere")
