from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cvat_function.field.deciding import Decision, decide
from cvat_function.video.records import Annotations, LabeledShape
from tests.cvat_function.field.drawn import box, shape

CONTENTS = st.lists(st.integers(0, 4), unique=True, max_size=3)
SERVER = st.lists(st.integers(0, 6), max_size=5)


def drawn(contents: Sequence[int], first: int) -> Annotations:
    """Rectangles that differ, with ids from `first` on."""
    made = [shape("rectangle", 2, box(2, 5.0 * one), first + place) for place, one in enumerate(contents)]
    return Annotations(shapes=tuple(made))


def contents(annotations: Annotations) -> list[float]:
    return sorted(one.points[0] for one in annotations.shapes)


def carried_out(made: Decision, now: Annotations) -> Annotations:
    """As the server does it: new ids."""
    gone = {one.id for one in made.delete.shapes}
    left: list[LabeledShape] = [one for one in now.shapes if one.id not in gone]
    number = 1000 + max((one.id or 0 for one in now.shapes), default=0)
    left += [one.model_copy(update={"id": number + place}) for place, one in enumerate(made.create.shapes)]
    return Annotations(shapes=tuple(left))


@given(CONTENTS, CONTENTS, SERVER)
def test_nothing_of_others_is_lost_and_a_second_merge_does_nothing(
    base: list[int], wanted: list[int], server: list[int]
) -> None:
    known, wish, now = drawn(base, 10), drawn(wanted, 0), drawn(server, 100)
    made = decide(known, wish, now, known)
    assert {one.id for one in made.delete.shapes} <= {one.id for one in now.shapes}
    assert set(contents(made.delete)) <= set(contents(known)) - set(contents(wish))
    if made.what in ("conflict", "nothing"):
        assert not made.delete.count
    if made.what == "nothing":
        assert not made.create.count
        return
    if made.what == "conflict":
        return
    after = carried_out(made, now)
    assert set(contents(wish)) - set(contents(known)) <= set(contents(after))
    if len(set(server)) < len(server):
        return  # of two equal ones the second is not ours to judge
    assert decide(wish, wish, after, known).what == "nothing"
    forgot = decide(known, wish, after, known)  # it cannot tell what it deleted from what others moved
    assert not forgot.delete.count
    assert forgot.what == "nothing" or (made.what == "delete" and forgot.what == "conflict")


@given(CONTENTS)
def test_a_merge_that_ended_in_the_middle_is_put_right(wanted: list[int]) -> None:
    """What was added stands beside what it replaces."""
    known = drawn([5], 10)
    made = decide(known, drawn(wanted, 0), known, known)
    half = carried_out(Decision("create", create=made.create), known)
    again = decide(known, drawn(wanted, 0), half, known)
    assert not again.create.count
    assert contents(carried_out(again, half)) == contents(drawn(wanted, 0))


def test_what_was_deleted_there_is_gone_and_what_was_moved_conflicts() -> None:
    known, none = drawn([1], 10), Annotations()
    assert decide(known, none, none, known).what == "nothing"
    assert decide(known, none, drawn([2], 50), known).what == "conflict"
    assert decide(known, drawn([3], 0), none, known).why == "was changed or deleted since"
    assert decide(known, drawn([3], 0), drawn([3], 50), known).what == "nothing"
