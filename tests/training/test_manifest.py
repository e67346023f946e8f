from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.errors import InputError
from edgetam_model.training.annotations import AnnotatedTask
from edgetam_model.training.manifest import Manifest
from edgetam_model.training.splits import SplitOptions, split_tasks
from tests.training.annotation_tasks import box, image_task, sighting, thing

OPTIONS = SplitOptions("project-7")


def manifest(*tasks: AnnotatedTask) -> Manifest:
    return Manifest.of(split_tasks(tasks, OPTIONS), OPTIONS, {"skipped annotations": 2})


def tasks(count: int) -> list[AnnotatedTask]:
    return [replace(image_task(str(number)), annotations=(f"a{number}",)) for number in range(count)]


def test_it_says_what_a_version_was_made_of() -> None:
    made = manifest(*tasks(12))
    assert [task.id for task in made.tasks] == sorted(str(n) for n in range(12))
    assert {task.part for task in made.tasks} == {"train", "held_out"}
    assert made.tasks[0].annotations == ("a0",)
    assert made.tasks[0].sha256 == image_task("0").digest
    assert made.ignored == {"skipped annotations": 2}
    assert (made.salt, made.share, made.least) == ("project-7", OPTIONS.share, OPTIONS.least)


def test_equal_data_make_equal_bytes_and_come_back() -> None:
    made = manifest(*tasks(9))
    assert manifest(*reversed(tasks(9))).to_json() == made.to_json()
    assert Manifest.from_json(made.to_json()) == made


def test_changes_name_what_is_new_drawn_anew_and_gone() -> None:
    first = tasks(5)
    redrawn = replace(first[3], objects=(thing(sighting(shape=box())),))
    later = manifest(*first[1:3], redrawn, first[4], image_task("9"))
    changes = later.since(manifest(*first))
    assert (changes.added, changes.changed, changes.removed) == (("9",), ("3",), ("0",))
    assert changes.count == 3
    assert later.since(later).count == 0


@given(st.text(max_size=40) | st.binary(max_size=40))
def test_anything_else_is_refused(text: str | bytes) -> None:
    with pytest.raises(InputError):
        Manifest.from_json(text)


def test_the_field_at_fault_is_named() -> None:
    broken = manifest(*tasks(2)).to_json().replace('"held_out"', '"elsewhere"')
    with pytest.raises(InputError, match=r"tasks\.\d\.part"):
        Manifest.from_json(broken)
