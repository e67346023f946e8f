"""Receipts: what was sent is found again by its content, and what people changed is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvat_function.video.receipt import (
    JobUpload,
    Receipt,
    check_free,
    load_receipt,
    newest_receipt,
    standing_of,
)
from cvat_function.video.records import Annotations, Attribute, LabeledShape, Track, TrackedShape
from edgetam_model import InputError

SPEED = Attribute(spec_id=2, value="fast")


def track(number: int | None, frames: range = range(4), shift: float = 0.0, source: str = "auto") -> Track:
    shapes = tuple(
        TrackedShape(type="rectangle", frame=f, points=(f + shift, 1.0, f + 9.0, 8.0), attributes=(SPEED,))
        for f in frames
    )
    return Track(id=number, label_id=3, frame=frames[0], source=source, shapes=shapes)


def mask(number: int | None, frame: int, source: str = "auto") -> LabeledShape:
    points = (0.0, 12.0, 3.0, 4.0, 6.0, 6.0)
    return LabeledShape(id=number, label_id=3, type="mask", frame=frame, points=points, source=source)


def receipt(*uploads: JobUpload, created: str = "2026-01-01", task: int = 7) -> Receipt:
    return Receipt(
        server="http://cvat", task=task, created=created, weights="nano", first=0, last=3, jobs=uploads
    )


SENT = JobUpload(
    job=5,
    annotations=Annotations(tracks=(track(None),), shapes=(mask(None, 1), mask(None, 2))),
    newest_track=20,
    newest_shape=20,
)


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    receipt(SENT).save(path)
    assert load_receipt(path) == receipt(SENT)
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version":1}', "\x00\xff"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="receipt"):
        load_receipt(path)


def test_missing_files_folders_and_later_versions_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match="receipt"):
            load_receipt(path)
    receipt().model_copy(update={"version": 2}).save(tmp_path / "r.json")
    with pytest.raises(InputError, match="expected version 1"):
        load_receipt(tmp_path / "r.json")


def test_a_receipt_that_counts_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    check_free(path)
    receipt().save(path)
    with pytest.raises(InputError, match="edgetam cvat undo"):
        check_free(path)
    receipt().model_copy(update={"taken_back": True}).save(path)
    check_free(path)
    with pytest.raises(InputError, match="cannot write into the folder"):
        check_free(tmp_path / "nowhere" / "r.json")


def test_the_newest_receipt_of_a_task(tmp_path: Path) -> None:
    receipt(created="2026-01-01").save(tmp_path / "a.json")
    receipt(created="2026-01-03").save(tmp_path / "b.json")
    receipt(created="2026-01-05").model_copy(update={"taken_back": True}).save(tmp_path / "c.json")
    receipt(created="2026-01-06", task=8).save(tmp_path / "d.json")
    (tmp_path / "package.json").write_text("{}")
    assert newest_receipt(tmp_path, "http://cvat", 7).name == "b.json"
    with pytest.raises(InputError, match="no receipt"):
        newest_receipt(tmp_path, "http://other", 7)


def test_what_is_untouched_is_found_under_any_id() -> None:
    now = Annotations(tracks=(track(30), track(2)), shapes=(mask(41, 2), mask(40, 1), mask(3, 1)))
    standing = standing_of(SENT, now)
    assert [item.id for item in standing.untouched.tracks] == [30]
    assert [item.id for item in standing.untouched.shapes] == [40, 41]
    assert not standing.edited
    assert not standing.missing.count


def test_an_upload_knows_what_was_there_before_it() -> None:
    now = Annotations(tracks=(track(4), track(9)), shapes=(mask(7, 1),))
    begun = JobUpload(job=5, annotations=SENT.annotations).beginning(now)
    assert (begun.newest_track, begun.newest_shape, begun.begun) == (9, 7, True)
    assert standing_of(begun, now).missing == SENT.annotations
    assert receipt(SENT).with_job(begun).jobs == (begun,)


def test_nothing_older_than_the_upload_is_touched() -> None:
    """A person's own copy from before is equal in every number."""
    now = Annotations(tracks=(track(20),), shapes=(mask(20, 1), mask(19, 2)))
    standing = standing_of(SENT, now)
    assert not standing.untouched.count
    assert standing.missing == SENT.annotations
    assert not standing.edited


@pytest.mark.parametrize(
    "changed",
    [
        track(33, shift=0.02, source="semi-auto"),
        track(33, range(5), source="semi-auto"),
        track(33, range(1, 4), source="auto"),
        track(33).model_copy(update={"label_id": 4, "source": "semi-auto"}),
        track(33).model_copy(update={"attributes": (), "source": "semi-auto"}),
    ],
    ids=["moved a little everywhere", "longer", "shorter", "another label", "source alone"],
)
def test_an_edit_is_seen(changed: Track) -> None:
    standing = standing_of(SENT, Annotations(tracks=(changed,), shapes=(mask(40, 1), mask(41, 2))))
    assert not standing.untouched.tracks
    if changed.shapes[0].points[0] != 0.02:
        assert standing.edited == (f"track:33 from frame {changed.frame} on",)


def test_an_edited_mask_is_seen() -> None:
    changed = mask(50, 2, "semi-auto").model_copy(update={"points": (0.0, 9.0, 3.0, 4.0, 5.0, 6.0)})
    standing = standing_of(SENT, Annotations(tracks=(track(30),), shapes=(mask(40, 1), changed)))
    assert [item.id for item in standing.untouched.shapes] == [40]
    assert standing.edited == ("shape:50 on frame 2",)


def test_what_a_person_drew_meanwhile_is_no_edit() -> None:
    own = track(40, range(1), source="manual")
    standing = standing_of(SENT, Annotations(tracks=(own,), shapes=(mask(41, 1, "manual"),)))
    assert not standing.edited
    assert standing.missing.count == 3


@given(st.permutations(range(6)), st.sets(st.integers(0, 5)), st.integers(1, 50))
def test_any_order_and_any_gaps(order: list[int], removed: set[int], offset: int) -> None:
    """What is there is found exactly once, what is not is missing, whatever order and ids it has."""
    sent = JobUpload(job=1, annotations=Annotations(shapes=tuple(mask(None, f // 2) for f in range(6))))
    there = [f for f in order if f not in removed]
    now = Annotations(shapes=tuple(mask(offset + place, f // 2) for place, f in enumerate(there)))
    standing = standing_of(sent, now)
    assert sorted(item.id or 0 for item in standing.untouched.shapes) == [
        offset + n for n in range(len(there))
    ]
    assert standing.missing.count == len(removed)
