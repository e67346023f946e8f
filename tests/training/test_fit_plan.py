"""What a fit says beforehand: what it counts, how it parts, and when it refuses or has nothing to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgetam_model.errors import InputError
from edgetam_model.sources import FrameSource
from edgetam_model.training.annotations import AnnotatedTask, AnnotationSet
from edgetam_model.training.fit_options import FITS, FitJob, FitOptions, TooFewError
from edgetam_model.training.fit_plan import BOXES_ALONE, LEAST_HELD_OUT, UPDATES, FitPlan, plan_fit
from edgetam_model.training.manifest import Manifest
from edgetam_model.training.version_store import VersionStore
from edgetam_model.training.versions import NewVersion, VersionName
from tests.training.annotation_tasks import box, image_task, sighting, square, thing, video_task
from tests.training.versions import weights_file


def no_media(task: AnnotatedTask) -> FrameSource:
    raise AssertionError("a plan reads no media")


def images(count: int) -> tuple[AnnotatedTask, ...]:
    return tuple(image_task(str(number)) for number in range(count))


def job(folder: Path, *tasks: AnnotatedTask, ignored: dict[str, int] | None = None, **more: object) -> FitJob:
    return FitJob(
        "project-7",
        AnnotationSet(tasks, ignored or {}),
        no_media,
        folder / FITS,
        VersionStore(folder / "versions"),
        weights="default",
        **more,  # type: ignore[arg-type]
    )


def add_version(asked: FitJob, plan: FitPlan, folder: Path, parent: str = "default") -> VersionName:
    """What a fit of this plan would have stored."""
    manifest = plan.manifest.model_dump(mode="json")
    new = NewVersion(weights_file(folder), parent, config=plan.facts(), manifest=manifest)
    return asked.store.add(asked.project, new)


def test_tasks_are_counted_and_parted(tmp_path: Path) -> None:
    track = thing(sighting(2), sighting(4))
    plan = plan_fit(job(tmp_path, *images(12), video_task(track), ignored={"skipped annotations": 2}))
    assert plan.problem == ""
    assert len(plan.tasks) == 13
    assert LEAST_HELD_OUT <= len(plan.split.held_out) < len(plan.split.train)
    assert "12 images and 1 video with 14 masks" in plan.sentences()[0]
    assert "left out: 2 skipped annotations" in plan.sentences()
    assert "training: from default, adapter mode, 60 updates" in plan.sentences()
    document = plan.to_dict()
    assert (document["tasks"], document["masks"]) == (13, 14)
    assert int(document["train"]) + int(document["held_out"]) == 13  # type: ignore[arg-type]


def test_the_order_of_the_source_changes_nothing(tmp_path: Path) -> None:
    """Else a training that is resumed would go on with other clips."""
    tasks = images(20)
    one, other = plan_fit(job(tmp_path, *tasks)), plan_fit(job(tmp_path, *reversed(tasks)))
    assert one.split == other.split
    assert one.facts() == other.facts()


def test_boxes_alone_teach_nothing(tmp_path: Path) -> None:
    boxed = image_task("b", thing(sighting(shape=box())))
    plan = plan_fit(job(tmp_path, *images(9), boxed))
    assert "b" not in {task.id for task in plan.tasks}
    assert plan.ignored == {BOXES_ALONE: 1}
    few = plan_fit(job(tmp_path, *images(2), boxed))
    with pytest.raises(TooFewError, match=f"at least 8 .* found 2; left out: 1 {BOXES_ALONE}"):
        few.check()


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ((), "expected at least 8 images or videos with masks, found none"),
        (images(7), "expected at least 8 images or videos with masks, found 7"),
        (tuple(image_task(str(n), group="one") for n in range(9)), "all 9 belong together"),
    ],
)
def test_too_few_are_refused_with_what_is_needed(
    tasks: tuple[AnnotatedTask, ...], told: str, tmp_path: Path
) -> None:
    plan = plan_fit(job(tmp_path, *tasks))
    assert plan.problem.startswith(told)
    assert plan.sentences()[-1].startswith("too few: ")
    with pytest.raises(TooFewError, match=told) as refused:
        plan.check()
    assert refused.value.field == "annotations"


def test_a_lower_minimum_may_be_asked_for(tmp_path: Path) -> None:
    assert plan_fit(job(tmp_path, *images(4), options=FitOptions(minimum=4))).problem == ""


def test_updates_follow_the_masks_unless_asked_for(tmp_path: Path) -> None:
    some, many = (
        tuple(image_task(str(n), thing(), thing(number=2), thing(number=3)) for n in range(count))
        for count in (40, 120)
    )
    plan = plan_fit(job(tmp_path, *some))
    assert UPDATES[0] < plan.updates == 3 * len(plan.split.train) < UPDATES[1]
    assert plan_fit(job(tmp_path, *images(8))).updates == UPDATES[0]
    assert plan_fit(job(tmp_path, *many)).updates == UPDATES[1]
    assert plan_fit(job(tmp_path, *many, options=FitOptions(updates=7))).updates == 7


def test_nothing_has_changed_since_a_version_of_the_same_data(tmp_path: Path) -> None:
    asked = job(tmp_path, *images(9))
    name = add_version(asked, plan_fit(asked), tmp_path)
    plan = plan_fit(asked)
    assert plan.unchanged == name
    assert plan.sentences()[-1] == "nothing has changed since project-7/v0001"
    assert plan.changes is not None
    assert plan.changes.count == 0
    asked.store.promote(name)
    assert plan_fit(asked).unchanged == name, "what serves was made of this"


@pytest.mark.parametrize(
    "other",
    [
        {"options": FitOptions(mode="decoder")},
        {"options": FitOptions(updates=33)},
        {"weights": "edgetam"},
        {"found": AnnotationSet(images(10), {})},
        {
            "found": AnnotationSet(
                (*images(8), image_task("8", thing(sighting(shape=box(3)), sighting(1)))), {}
            )
        },
    ],
)
def test_another_way_start_or_data_is_something_new(other: dict[str, object], tmp_path: Path) -> None:
    asked = job(tmp_path, *images(9))
    add_version(asked, plan_fit(asked), tmp_path)
    assert plan_fit(replace(asked, **other)).unchanged is None  # type: ignore[arg-type]


def test_another_current_version_is_something_new(tmp_path: Path) -> None:
    asked = job(tmp_path, *images(9))
    add_version(asked, plan_fit(asked), tmp_path)
    grown = replace(asked, found=AnnotationSet(images(11), {}))
    second = add_version(grown, plan_fit(grown), tmp_path)
    asked.store.promote(second)
    plan = plan_fit(asked)
    assert plan.unchanged is None
    assert (plan.start.label, str(plan.start)) == ("v0002", "project-7/v0002")
    assert plan.changes is not None
    assert sorted(plan.changes.removed) == ["10", "9"]
    assert "since the last version: 0 new, 0 drawn anew, 2 gone" in plan.sentences()


def test_a_task_must_not_come_twice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="annotations: expected each task once, got '3' twice"):
        plan_fit(job(tmp_path, *images(9), image_task("3", thing(sighting(shape=None)))))


def test_the_manifest_is_of_the_split(tmp_path: Path) -> None:
    plan = plan_fit(job(tmp_path, *images(15)))
    parts = {task.id: task.part for task in Manifest.from_json(plan.manifest.to_json()).tasks}
    assert {name for name, part in parts.items() if part == "held_out"} == {
        task.id for task in plan.split.held_out
    }
    assert len(parts) == 15


@pytest.mark.parametrize(
    ("options", "field"),
    [({"mode": "half"}, "mode"), ({"updates": 0}, "updates"), ({"minimum": 1}, "minimum")],
)
def test_bad_options(options: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as error:
        FitOptions(**options)  # type: ignore[arg-type]
    assert error.value.field == field


def test_a_project_needs_a_projects_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="project: expected up to 64"):
        replace(job(tmp_path), project="../x")


def test_a_mask_that_was_redrawn_changes_the_facts(tmp_path: Path) -> None:
    from edgetam_model.training.annotations import MaskShape

    before = job(tmp_path, *images(9))
    redrawn = image_task("0", thing(sighting(shape=MaskShape.of(square(5)))))
    after = replace(before, found=AnnotationSet((redrawn, *images(9)[1:]), {}))
    assert plan_fit(before).facts() != plan_fit(after).facts()
