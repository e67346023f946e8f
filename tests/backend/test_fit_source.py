from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.fit_source import CONFIG as CONFIG_NAME
from backend.fit_source import read_export
from edgetam_model import InputError
from edgetam_model.training.annotations import ReadOptions
from tests.backend.fit_json import CONFIG, annotation, polygon, task
from tests.backend.video_json import keyframe, region

EXPORT = [task(annotation(polygon())), task(number=2)]


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "export.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_an_export_is_read(tmp_path: Path) -> None:
    found = read_export(write(tmp_path, json.dumps(EXPORT)), ReadOptions())
    assert found is not None
    assert [made.id for made in found.tasks] == ["1"]


def test_the_config_beside_it_is_used(tmp_path: Path) -> None:
    video = {"id": 1, "data": {"clip": "b.mp4", "fps": 30}, "annotations": [annotation(region(keyframe(1)))]}
    path = write(tmp_path, json.dumps([video]))
    (tmp_path / CONFIG_NAME).write_text(CONFIG)
    found = read_export(path, ReadOptions())
    assert found is not None
    assert found.tasks[0].numbers.rate == 30
    (tmp_path / CONFIG_NAME).write_bytes(b"\xff\xfe<")
    with pytest.raises(InputError, match=CONFIG_NAME):
        read_export(path, ReadOptions())


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "[1]", '[{"id": 1}]', "<annotations/>", "hello", "PK\x03\x04"]
)
def test_other_files_are_none_of_its_own(text: str, tmp_path: Path) -> None:
    assert read_export(write(tmp_path, text), ReadOptions()) is None
    assert read_export(tmp_path, ReadOptions()) is None


@pytest.mark.parametrize("text", ["[{", "[" * 200_000, "[" + "9" * 5000 + "]", b"[\xff]"])
def test_damage_is_an_input_error(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"export\.json"):
        read_export(write(tmp_path, text), ReadOptions())


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400), st.binary(max_size=6))
def test_damaged_bytes_end_in_nothing_else(tmp_path: Path, at: int, noise: bytes) -> None:
    text = json.dumps(EXPORT).encode()
    path = write(tmp_path, text[:at] + noise + text[at + len(noise) :])
    try:
        found = read_export(path, ReadOptions())
    except InputError:
        return
    assert found is None or isinstance(found.tasks, tuple)
