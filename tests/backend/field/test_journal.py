from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.field.journal import Journal, write_whole
from edgetam_model import InputError

LINES = st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9)), max_size=5)


@given(LINES, st.integers(0, 30), LINES)
def test_what_was_written_comes_back_however_the_process_ended(
    before: list[dict[str, Any]], cut: int, after: list[dict[str, Any]]
) -> None:
    """Whole lines stay, half a line goes, and what comes next stands on a line of its own."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "deep/journal.jsonl"
        for line in before:
            Journal(path).add(line)
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            file.write(json.dumps({"cut": "off" * 10}).encode()[:cut])
        again = Journal(path)
        assert list(again.read()) == before
        for line in after:
            again.add(line)
        assert list(Journal(path).read()) == before + after


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"a":1}\n{"b":\n{"c":3}\n')
    with pytest.raises(InputError, match="line 2"):
        list(Journal(path).read())


def test_a_disk_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Journal(tmp_path / "file/journal.jsonl").add({})
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "file/x", b"")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"1")
    write_whole(tmp_path / "a", b"22")
    assert (tmp_path / "a").read_bytes() == b"22"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
