from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.field.events import (
    Begun,
    Confirmed,
    Deleted,
    Done,
    Ended,
    Event,
    Found,
    Pass,
    Pointed,
    Relabelled,
    Tracked,
    Undone,
)
from backend.field.journal import Journal
from backend.field.work import Standing, Work, neighbours
from edgetam_model import InputError
from edgetam_model.field_objects import FieldObject, Row, Spec

NAMES = st.sampled_from(["a", "b", "given"])
FRAMES = st.integers(0, 9)
ROWS = st.builds(
    Row,
    box=st.none() | st.just((1.0, 2.0, 3.0, 4.0)),
    score=st.sampled_from([0.1, 0.9]),
    state=st.sampled_from(["visible", "absent", "lost"]),
)
SPECS = st.just(Spec(points=((1.0, 2.0, 1),)))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Pointed, object=NAMES, labels=st.just(("Ball",)), frame=FRAMES, spec=SPECS, row=ROWS),
    st.builds(Tracked, objects=st.just(("given",))),
    st.builds(Begun, passes=st.just((Pass(first=1),))),
    st.builds(Ended),
    st.builds(Found, rows=st.dictionaries(NAMES, st.lists(st.tuples(FRAMES, ROWS), max_size=3).map(tuple))),
    st.builds(Deleted, object=NAMES),
    st.builds(Relabelled, object=NAMES, labels=st.just(("Post",))),
    st.builds(Confirmed, object=NAMES, first=FRAMES, last=FRAMES),
    st.builds(Done, done=st.booleans()),
    st.builds(Undone),
)


def given_object() -> FieldObject:
    rows = {frame: Row(box=(0, 0, 5, 5), kept=True) for frame in range(4)}
    return FieldObject("given", 1, ("Ball",), given=True, prompts={0: Spec(box=(0, 0, 5, 5))}, rows=rows)


def live(path: Path) -> Work:
    return Work(Journal(path), [given_object()])


@given(st.lists(EVENTS, max_size=12))
def test_the_journal_leads_to_where_the_work_stood(events: list[Event]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        work = live(path)
        for event in events:
            try:
                work.add(event)
            except InputError:
                continue
        again = live(path)
        assert again.now == work.now
        assert (again.revision, again.unfinished) == (work.revision, work.unfinished)
        assert again.given == Standing({"given": given_object()}, used=1)


@given(st.lists(EVENTS, max_size=12))
def test_undo_leads_back_to_the_beginning(events: list[Event]) -> None:
    with TemporaryDirectory() as folder:
        work = live(Path(folder) / "journal.jsonl")
        for event in events:
            if isinstance(event, Found) and not work.can_undo:
                continue  # what is found belongs to an action
            try:
                work.add(event)
            except InputError:
                continue
        while work.can_undo:
            work.add(Undone())
        assert work.now.objects == work.given.objects
        assert not work.changed
        with pytest.raises(InputError, match="nothing to undo"):
            work.add(Undone())


def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    work = live(tmp_path / "journal.jsonl")
    spec = Spec(points=((1, 1, 1),))
    work.add(Pointed(object="a", frame=0, spec=spec, row=Row()))
    work.add(Undone())
    work.add(Pointed(object="b", frame=0, spec=spec, row=Row()))
    assert work.object("b").number == 3


def test_doubts_come_worst_first_and_go_when_confirmed(tmp_path: Path) -> None:
    work = live(tmp_path / "journal.jsonl")
    box = (0.0, 0.0, 1.0, 1.0)
    rows = [Row(box=box, score=score) for score in (0.9, 0.4, 0.3, 0.9, 0.9)]
    rows += [Row(score=0.2, state="absent"), Row(score=0.2, state="absent"), Row(score=0.0, state="lost")]
    work.add(Pointed(object="a", frame=0, spec=Spec(box=box), row=Row(box=box, prompted=True)))
    work.add(Found(rows={"a": tuple(enumerate(rows, start=1))}))
    one = work.object("a")
    assert "".join(one.code(frame) for frame in range(10)) == "pvddvvdad."
    assert one.doubts == ((6, 6, 6), (8, 8, 8), (2, 3, 3))
    work.add(Confirmed(object="a", first=2, last=6))
    assert work.object("a").doubts == ((8, 8, 8),)


def test_a_correction_reaches_to_the_prompts_beside_it() -> None:
    rows = {frame: Row() for frame in range(2, 20)}
    one = FieldObject("a", 1, prompts={5: Spec(), 12: Spec()}, rows=rows)
    assert neighbours(one, 8) == (5, 12)
    assert neighbours(one, 3) == (2, 5)
    assert neighbours(one, 15) == (12, 19)
    assert neighbours(one, 30) == (12, 30)
