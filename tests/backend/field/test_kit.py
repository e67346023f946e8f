from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.field.content import TaskContent, content_hash, region_ids
from backend.field.kit import Kit, zip_kit
from backend.field.manifest import NAME, Manifest
from edgetam_model import InputError
from tests.backend.field.kits import make_kit, rectangle


@pytest.fixture
def kit(tmp_path: Path, still: Path, weights: Path) -> Kit:
    return make_kit(tmp_path / "kit", still, weights, result=[rectangle("r1")])


def test_a_zip_is_unpacked_beside_itself_once(kit: Kit, tmp_path: Path) -> None:
    zip_kit(kit.root, tmp_path / "other.zip")
    opened = Kit.open(tmp_path / "other.zip")
    assert opened.root == tmp_path / "other"
    assert opened.manifest == kit.manifest
    (opened.work(1)).mkdir(parents=True)
    again = Kit.open(tmp_path / "other.zip")
    assert again.work(1).is_dir()  # the work stays
    again.verify()
    assert TaskContent.of(again.task(1)).result == [rectangle("r1")]


def test_a_folder_that_is_anothers_is_left_alone(kit: Kit, tmp_path: Path) -> None:
    zip_kit(kit.root, tmp_path / "other.zip")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="holds no manifest"):
        Kit.open(tmp_path / "other.zip")


@pytest.mark.parametrize("name", ["weights.safetensors", "tasks/task-1.json", "media/task-1.png"])
def test_a_changed_byte_is_found(kit: Kit, name: str) -> None:
    path = kit.root / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=name):
        kit.verify()
    path.unlink()
    with pytest.raises(InputError, match="missing"):
        kit.verify()


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "media/../../evil", "a\\b", "C:e", ".hidden", ""])
def test_no_name_leads_out_of_the_kit(kit: Kit, tmp_path: Path, path: str) -> None:
    document = json.loads((kit.root / NAME).read_text())
    document["weights"]["path"] = path
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(NAME, json.dumps(document))
        archive.writestr(path or "x", "evil")
    with pytest.raises(InputError, match=r"weights\.path"):
        Kit.open(tmp_path / "bad.zip")
    assert not (tmp_path / "bad").exists()


def test_a_zip_that_lies_about_a_file_leaves_nothing(kit: Kit, tmp_path: Path) -> None:
    (kit.root / "config.xml").write_text("<View>" + "x" * 100_000 + "</View>")
    zip_kit(kit.root, tmp_path / "bad.zip")
    with pytest.raises(InputError, match=r"config\.xml"):
        Kit.open(tmp_path / "bad.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zip", "kit"]


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"not a zip"])
def test_other_files_are_no_kits(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kit.zip"
    path.write_bytes(content)
    with pytest.raises(InputError, match="kit"):
        Kit.open(path)
    with pytest.raises(InputError, match="kit"):
        Kit.open(tmp_path)


def test_a_manifest_of_another_version_is_refused(kit: Kit) -> None:
    text = (kit.root / NAME).read_text().replace('"format":2', '"format":3')
    with pytest.raises(InputError, match="format"):
        Manifest.read(text)
    with pytest.raises(InputError, match="no task 7"):
        kit.manifest.task(7)


def test_a_kit_of_the_first_format_is_the_same_kit(kit: Kit) -> None:
    """It said in its manifest what the tasks' content says as well."""
    document = json.loads((kit.root / NAME).read_text())
    del document["tasks"][0]["objects"], document["tasks"][0]["media"]["others"]
    del document["tasks"][0]["media"]["numbers"]
    known = {"id": 9, "updated_at": None, "content": "0" * 64, "regions": 1}
    document["tasks"][0] |= {"object": "image", "annotations": [known], "chosen": 9}
    (kit.root / NAME).write_text(json.dumps({**document, "format": 1}))
    old = Kit.open(kit.root)
    assert old.manifest.tasks == kit.manifest.tasks
    assert [one.id for one in old.project().objects(old.task(1))] == ["r1"]
    none = {**document["tasks"][0], "annotations": [], "chosen": None}
    assert Manifest.read(json.dumps({**document, "format": 1, "tasks": [none]})).tasks[0].objects == 0


def test_a_kit_is_worked_on_by_one_process(kit: Kit) -> None:
    with kit.held(), pytest.raises(InputError, match="another process"), Kit.open(kit.root).held():
        pass
    with kit.held():
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=4), st.lists(JSON, max_size=4))
def test_equal_results_have_equal_hashes_and_others_do_not(a: list[object], b: list[object]) -> None:
    assert content_hash(a) == content_hash(json.loads(json.dumps(a)))
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (content_hash(a) == content_hash(b)) == same


def test_region_ids_are_told_once_each() -> None:
    assert region_ids([{"id": "b"}, {"id": "a"}, {"id": "b"}, {"type": "relation"}, 7]) == ("b", "a")
