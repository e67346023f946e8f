"""Names that can be read back, and rules that never give up what serves."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgetam_model.errors import InputError
from edgetam_model.training.versions import (
    ProjectState,
    Retention,
    Switch,
    VersionName,
    VersionRecord,
    VersionRow,
    check_project,
    surplus,
)

PROJECTS = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", fullmatch=True)
NUMBERS = st.integers(1, 10**9 - 1)


@given(PROJECTS.filter(lambda name: name not in {"auto", "default", "edgetam", "untrained"}), NUMBERS)
def test_a_name_reads_back_and_sorts_by_number(project: str, number: int) -> None:
    name = VersionName(project, number)
    assert VersionName.parse(str(name)) == name
    assert str(name) == f"{project}/{name.label}"
    assert name < VersionName(project, number + 1) if number < 10**9 - 1 else True


@given(st.text() | st.from_regex(r"[a-zA-Z0-9._/-]*/v?[0-9]*", fullmatch=True))
def test_whatever_is_read_is_written_the_same(text: str) -> None:
    try:
        name = VersionName.parse(text)
    except InputError:
        return
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "project-7",
            "project-7/",
            "project-7/v3",
            "project-7/3",
            "project-7/v00003",
            "project-7/v0000",
        ),
        *(
            "project-7/V0003",
            "project-7/v0003/",
            "project-7/v0003\n",
            "project-7/v٣٣٣٣",
            "/v0003",
            "a/b/v0003",
        ),
        *("../v0003", "./v0003", "Project/v0003", "-a/v0003", "edgetam/v0001", f"{'a' * 65}/v0001"),
    ],
)
def test_other_ways_to_write_a_version_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        VersionName.parse(text)


@pytest.mark.parametrize("name", ["auto", "default", "edgetam", "untrained"])
def test_a_project_does_not_hide_weights(name: str) -> None:
    with pytest.raises(InputError, match="is the name of weights"):
        check_project(name)


def test_a_version_has_four_digits_or_more() -> None:
    assert [VersionName("p", n).label for n in (3, 9999, 10000)] == ["v0003", "v9999", "v10000"]
    with pytest.raises(InputError, match="expected a number from 1"):
        VersionName("p", 0)


def switch(before: str, after: str) -> Switch:
    return Switch(time=datetime.now(UTC), before=before, after=after, how="promote")


def test_a_version_that_served_once_is_no_candidate_any_more() -> None:
    state = ProjectState(
        switches=(switch("base", "v0001"), switch("v0001", "v0002"), switch("v0002", "v0001"))
    )
    assert state.current == "v0001"
    assert [state.status(VersionName("p", n)) for n in (1, 2, 3)] == ["current", "promoted", "candidate"]
    assert ProjectState().current == "base"


def test_a_record_of_a_kind_that_this_release_does_not_know_is_refused() -> None:
    facts = {"name": "p/v0001", "parent": "edgetam", "created": datetime.now(UTC), "fingerprint": "ab"}
    assert VersionRecord.model_validate(facts | {"config": {}, "metrics": {}}).kind == "full"
    with pytest.raises(ValidationError, match="kind"):
        VersionRecord.model_validate(facts | {"config": {}, "metrics": {}, "kind": "adapter"})


ROWS = st.lists(
    st.tuples(st.sampled_from(["promoted", "candidate"]), st.integers(0, 1000)), min_size=1, max_size=12
).flatmap(
    lambda facts: st.just(
        [VersionRow(VersionName("p", n), status, size) for n, (status, size) in enumerate(facts, 1)]  # type: ignore[arg-type]
    )
)


@given(ROWS, st.data(), st.integers(0, 5), st.integers(0, 5), st.integers(0, 4000))
def test_retention_bounds_the_rest_and_never_touches_what_is_protected(
    rows: list[VersionRow], data: st.DataObject, candidates: int, promoted: int, total_bytes: int
) -> None:
    names = [row.name for row in rows]
    protected = set(data.draw(st.lists(st.sampled_from(names), max_size=2)))
    retention = Retention(candidates, promoted, total_bytes)
    gone = surplus(rows, protected, retention)
    assert not protected & set(gone)
    assert list(gone) == sorted(set(gone))
    kept = [row for row in rows if row.name not in gone]
    free = [row for row in kept if row.name not in protected]
    assert len([row for row in free if row.status == "candidate"]) <= candidates
    assert len([row for row in free if row.status == "promoted"]) <= promoted
    assert sum(row.size for row in kept) <= total_bytes or not free
    assert surplus(kept, protected, retention) == ()
    for status in ("candidate", "promoted"):  # what stays is newer than what goes
        going = [row.name for row in rows if row.status == status and row.name in gone]
        assert all(row.name > name for row in free if row.status == status for name in going)


def test_bytes_take_old_candidates_before_old_promoted_ones() -> None:
    statuses = ("promoted", "candidate", "candidate", "promoted", "current")
    rows = [VersionRow(VersionName("p", n), status, 10) for n, status in enumerate(statuses, 1)]  # type: ignore[arg-type]
    protected = {VersionName("p", 5), VersionName("p", 4)}
    for limit, expected in ((50, []), (40, [2]), (30, [2, 3]), (29, [1, 2, 3]), (0, [1, 2, 3])):
        gone = surplus(rows, protected, Retention(9, 9, limit))
        assert [name.number for name in gone] == expected
    assert [name.number for name in surplus(rows, protected, Retention(1, 2))] == [1, 2]


def test_retention_takes_no_negative_numbers() -> None:
    with pytest.raises(InputError, match="promoted: expected 0 or more, got -1"):
        Retention(promoted=-1)


def test_the_registry_needs_no_torch() -> None:
    script = "import sys, edgetam_model.training.version_store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
