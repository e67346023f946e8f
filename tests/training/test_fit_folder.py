"""The folder of a fit: notes, digests, and one fit of a project at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.errors import InputError, WeightsError
from edgetam_model.training.fit_folder import FitFolder, alone, digest, folder_of, folders
from edgetam_model.training.fit_options import FitBusyError

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(value=plain)
def test_a_note_comes_back(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = FitFolder(tmp_path_factory.mktemp("fit") / "run")
    folder.make()
    folder.note("facts", value)  # type: ignore[arg-type]
    assert folder.noted("facts") == value


def test_what_is_not_there_or_damaged_is_found_anew(tmp_path: Path) -> None:
    folder = FitFolder(tmp_path / "run")
    assert folder.noted("facts") is None
    folder.make()
    folder.note("facts", [1, 2])
    (folder.path / "facts.json").write_bytes(b"[1, ")
    assert folder.noted("facts") is None


def test_digests_depend_on_what_is_said_and_not_on_its_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_folders_are_told_apart_and_cleared(tmp_path: Path) -> None:
    one, other = (folder_of(tmp_path, "p", [number]) for number in range(2))
    assert folders(tmp_path, "p") == ()
    for folder in (one, other):
        folder.make()
    assert set(folders(tmp_path, "p")) == {one, other}
    one.clear()
    one.clear()
    assert folders(tmp_path, "p") == (other,)
    assert one.run != other.run


def test_one_fit_of_a_project_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path, "p"):
        with pytest.raises(FitBusyError, match="a training of p is under way"), alone(tmp_path, "p"):
            pass
        with alone(tmp_path, "q"):
            pass
    with alone(tmp_path, "p"):
        pass


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="work: cannot write"), alone(tmp_path / "file", "p"):
        pass
    with pytest.raises(WeightsError, match="cannot be written"):
        FitFolder(tmp_path / "file" / "run").make()
