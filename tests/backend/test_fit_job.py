"""Trainings as jobs: what they are given, what is told of them, and what becomes of interrupted ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from backend.fit_job import fit_job, open_project
from backend.fit_schedule import KIND, FitSchedule
from backend.jobs import JobHandle, JobStatus, JSONDict, MemoryJob, TryAgain
from backend.label_studio import LabelStudioError
from backend.queue import JobQueue
from backend.settings import Settings
from edgetam_model import (
    FitBusyError,
    FitJob,
    FitOutcome,
    InputError,
    TooFewError,
    VersionName,
    VersionStore,
    WeightsError,
)
from edgetam_model.training.annotations import ReadOptions
from tests.backend.fit_studio import KEY, SIDE, Studio, disc, studio
from tests.backend.queue_fixtures import ROOT, until
from tests.backend.web_fixtures import Answer

V3 = VersionName("project-7", 3)


@pytest.fixture
def site() -> Iterator[Studio]:
    with studio() as made:
        made.paint(7, *range(1, 7))
        yield made


class Trainer:
    """Keeps what it is given and ends as it is told; in the place of `run_fit`."""

    def __init__(self, end: FitOutcome | Exception | None = None) -> None:
        self.end = end or FitOutcome(finished=True, version=V3, promoted=True, reasons=("it is better",))
        self.jobs: list[FitJob] = []

    def __call__(self, fit: FitJob, job: JobHandle) -> FitOutcome:
        self.jobs.append(fit)
        job.progress(50, 100, "training")
        if isinstance(self.end, Exception):
            raise self.end
        return self.end

    @property
    def tasks(self) -> list[list[str]]:
        """Ids of the tasks that each training was given."""
        return [[task.id for task in fit.found.tasks] for fit in self.jobs]


def reads_all(fit: FitJob, job: JobHandle) -> FitOutcome:
    """Looks at every picture."""
    for task in fit.found.tasks:
        with fit.media(task) as source:
            source.read(0)
    return FitOutcome(finished=True)


def run(
    site: Studio,
    folder: Path,
    trainer: Callable[[FitJob, JobHandle], FitOutcome],
    job: MemoryJob | None = None,
    **more: str,
) -> JSONDict:
    settings = Settings.from_env(site.settings(folder, **more))
    return cast(JSONDict, fit_job(settings, run=trainer)(job or MemoryJob({"project": 7})))


def left(folder: Path) -> list[str]:
    """Files that trainings keep while they may go on."""
    roots = (folder / "models" / "fit-listings", folder / "cache" / "fit-media")
    return sorted(path.name for root in roots if root.is_dir() for path in root.iterdir())


def last_note(job: MemoryJob) -> str:
    return job.reports[-1][2]


def test_a_training_gets_the_annotations_the_pictures_and_the_settings(site: Studio, tmp_path: Path) -> None:
    trainer = Trainer()
    run(site, tmp_path, trainer, EDGETAM_FIT_MODE="decoder", EDGETAM_FIT_MINIMUM="3", EDGETAM_FIT_PROMOTE="0")
    (fit,) = trainer.jobs
    assert fit.project == "project-7"
    assert (fit.options.mode, fit.options.minimum, fit.options.promote) == ("decoder", 3, False)
    assert (fit.weights, fit.device) == (str(tmp_path / "tiny.safetensors"), "cpu")
    assert fit.store.root == tmp_path / "models" / "versions"
    assert fit.work == tmp_path / "models" / "fits"
    assert [task.id for task in fit.found.tasks] == ["1", "2", "3", "4", "5", "6"]
    for number, task in enumerate(fit.found.tasks, start=1):
        _, mask = disc(7000 + number)
        assert (task.objects[0].sightings[0].shape.mask((SIDE, SIDE)) == mask).all()


def test_pictures_are_what_the_project_shows(site: Studio, tmp_path: Path) -> None:
    seen = {}

    def look(fit: FitJob, job: JobHandle) -> FitOutcome:
        for task in fit.found.tasks:
            with fit.media(task) as source:
                seen[task.id] = source.read(0)
        return FitOutcome(finished=True)

    run(site, tmp_path, look)
    assert all((rgb == disc(7000 + int(number))[0]).all() for number, rgb in seen.items())
    assert len(seen) == 6


def test_two_projects_train_in_turn_and_neither_sees_the_others_data(site: Studio, tmp_path: Path) -> None:
    """Their tasks even have the same paths of media, in two folders of Label Studio."""
    site.paint(8, *range(1, 5))
    seen: dict[str, list[bytes]] = {}

    def look(fit: FitJob, job: JobHandle) -> FitOutcome:
        pictures = seen.setdefault(fit.project, [])
        for task in fit.found.tasks:
            with fit.media(task) as source:
                pictures.append(source.read(0).tobytes())
        return FitOutcome(finished=True)

    settings = Settings.from_env(site.settings(tmp_path))
    train = fit_job(settings, run=look)
    for project in (7, 8, 7):
        train(MemoryJob({"project": project}, id=f"job-{project}"))
    own = {
        project: [disc(1000 * project + number)[0].tobytes() for number in site.projects[project].tasks]
        for project in (7, 8)
    }
    assert seen == {"project-7": own[7] * 2, "project-8": own[8]}


def test_how_it_ended_is_told(site: Studio, tmp_path: Path) -> None:
    job = MemoryJob({"project": 7})
    result = run(site, tmp_path, Trainer(FitOutcome(True, V3, True, ("better by 0.1",), {"gain": 0.1})), job)
    assert result == {
        "finished": True,
        "version": "project-7/v0003",
        "promoted": True,
        "reasons": ["better by 0.1"],
        "metrics": {"gain": 0.1},
        "tasks": 6,
    }
    assert last_note(job) == "project-7/v0003 serves now; better by 0.1"
    run(site, tmp_path, Trainer(FitOutcome(True, V3, False, ("it forgot",))), job)
    assert last_note(job) == "project-7/v0003 is kept; it forgot"
    run(site, tmp_path, Trainer(FitOutcome(True, reasons=("nothing has changed since v0003",))), job)
    assert last_note(job) == "nothing has changed since v0003"
    assert left(tmp_path) == []


def test_too_few_annotations_are_no_failure(site: Studio, tmp_path: Path) -> None:
    job = MemoryJob({"project": 7})
    settings = Settings.from_env(site.settings(tmp_path, EDGETAM_FIT_MINIMUM="50"))
    result = cast(dict[str, Any], fit_job(settings)(job))  # the real one
    assert (result["version"], result["finished"]) == (None, True)
    assert "expected at least 50 images or videos with masks, found 6" in result["reasons"][0]
    assert last_note(job) == result["reasons"][0]
    assert left(tmp_path) == []
    nobody = Trainer(TooFewError("annotations", "none"))
    assert run(site, tmp_path, nobody)["reasons"] == ["annotations: none"]


@pytest.mark.parametrize(
    ("missing", "field"),
    [(("LABEL_STUDIO_API_KEY",), "LABEL_STUDIO_API_KEY"), (("LABEL_STUDIO_URL",), "LABEL_STUDIO_URL")],
)
def test_without_label_studio_it_says_what_to_set(
    site: Studio, tmp_path: Path, missing: tuple[str, ...], field: str
) -> None:
    environ = {name: text for name, text in site.settings(tmp_path).items() if name not in missing}
    with pytest.raises(InputError, match="set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY") as caught:
        fit_job(Settings.from_env(environ), run=Trainer())(MemoryJob({"project": 7}))
    assert caught.value.field == field
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("payload", [{}, {"project": "7"}, {"project": 0}, {"project": None}])
def test_a_payload_without_a_project_is_named(site: Studio, tmp_path: Path, payload: JSONDict) -> None:
    with pytest.raises(InputError, match="project: expected the number of a project"):
        run(site, tmp_path, Trainer(), MemoryJob(payload))


def test_what_passes_is_tried_again_and_what_does_not_fails_in_words(site: Studio, tmp_path: Path) -> None:
    with pytest.raises(LabelStudioError, match="knows no /api/projects/9/"):
        run(site, tmp_path, Trainer(), MemoryJob({"project": 9}))
    site.refusals["/api/tasks/"] = Answer(b"<html>busy</html>", 503)
    with pytest.raises(TryAgain, match="answered 503"):
        run(site, tmp_path, Trainer())
    site.refusals["/api/tasks/"] = Answer(b"{}", 403)
    with pytest.raises(LabelStudioError, match="403"):
        run(site, tmp_path, Trainer())
    site.refusals.clear()
    with pytest.raises(TryAgain, match="under way"):
        run(site, tmp_path, Trainer(FitBusyError("a training of project-7 is under way")))
    assert left(tmp_path) == ["job.json"]  # it goes on later
    with pytest.raises(WeightsError):
        run(site, tmp_path, Trainer(WeightsError("damaged")))
    assert left(tmp_path) == []


def test_media_that_are_gone_are_left_to_the_training_and_what_may_pass_is_tried_again(
    site: Studio, tmp_path: Path
) -> None:
    """`run_fit` leaves out tasks whose media give an InputError, and counts them."""
    site.refusals["/data/upload/7/3.png"] = Answer(status=404)
    with pytest.raises(InputError, match="404"):
        run(site, tmp_path, reads_all)
    site.refusals["/data/upload/7/3.png"] = Answer(status=502)
    with pytest.raises(TryAgain, match="502"):
        run(site, tmp_path, reads_all)
    with pytest.raises(InputError, match="502"):
        run(site, tmp_path, reads_all, MemoryJob({"project": 7}, attempt=3))


class Interrupted:
    """Reads the pictures, then stops for a reason; the second time it reads them again and ends."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.found: list[Any] = []

    def __call__(self, fit: FitJob, job: JobHandle) -> FitOutcome:
        reads_all(fit, job)
        self.found.append(fit.found)
        if len(self.found) == 2:
            return FitOutcome(finished=True)
        cast(MemoryJob, job).stop_reason = cast(Any, self.reason)
        return FitOutcome(finished=False)


@pytest.mark.parametrize("reason", ["yield", "shutdown", "lost"])
def test_it_goes_on_with_what_it_began_with(site: Studio, tmp_path: Path, reason: str) -> None:
    job, trainer = MemoryJob({"project": 7}), Interrupted(reason)
    assert run(site, tmp_path, trainer, job)["finished"] is False
    assert left(tmp_path) == ["job", "job.json"]
    site.paint(7, 1, seed=1)
    site.paint(7, 30)
    site.projects[7].media.clear()
    before = len(site.web.asked)
    again = MemoryJob({"project": 7}, attempt=2, saved=job.saved)
    assert run(site, tmp_path, trainer, again)["finished"] is True
    assert trainer.found[0] == trainer.found[1]
    assert len(site.web.asked) == before  # neither annotations nor media were asked for
    assert left(tmp_path) == []


def test_a_cancelled_one_leaves_nothing_and_the_next_reads_anew(site: Studio, tmp_path: Path) -> None:
    job, trainer = MemoryJob({"project": 7}), Interrupted("cancelled")
    run(site, tmp_path, trainer, job)
    assert left(tmp_path) == []
    site.paint(7, 30)
    run(site, tmp_path, trainer, MemoryJob({"project": 7}, attempt=2, saved=job.saved))
    assert len(trainer.found[1].tasks) == 7


def test_what_was_left_long_ago_goes(site: Studio, tmp_path: Path) -> None:
    old = [tmp_path / "cache" / "fit-media" / "old", tmp_path / "models" / "fit-listings" / "old.json"]
    young = tmp_path / "cache" / "fit-media" / "young"
    for folder in (old[0], young):
        folder.mkdir(parents=True)
    old[1].parent.mkdir(parents=True)
    old[1].write_text("{}")
    for path in old:
        os.utime(path, (time.time() - 8 * 86_400,) * 2)
    run(site, tmp_path, Trainer())
    assert left(tmp_path) == ["young"]


def test_many_tasks_come_in_pages_each_once(site: Studio, tmp_path: Path) -> None:
    site.paint(7, *range(1, 121))
    site.projects[7].tasks[200] = {"id": 200, "data": {"image": "x"}, "annotations": []}
    trainer = Trainer()
    run(site, tmp_path, trainer)
    assert trainer.tasks == [[str(number) for number in range(1, 121)]]
    assert len(site.asked("/api/tasks/")) == 3


def test_the_command_line_opens_a_project(
    site: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in site.settings(tmp_path).items():
        monkeypatch.setenv(name, text)
    opened = open_project("7", ReadOptions())
    assert opened.name == "project-7"
    assert [task.id for task in opened.found.tasks] == ["1", "2", "3", "4", "5", "6"]
    with opened.media(opened.found.tasks[2]) as source:
        assert (source.read(0) == disc(7003)[0]).all()
    for wrong in ("", "x", "7.5", "-1", "0", "9" * 30, "٧"):
        with pytest.raises(InputError, match="label-studio:NUMBER"):
            open_project(wrong, ReadOptions())
    with pytest.raises(LabelStudioError):
        open_project("9", ReadOptions())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"config": ""}', "null"])
def test_a_damaged_listing_is_read_anew(site: Studio, tmp_path: Path, text: str) -> None:
    path = tmp_path / "models" / "fit-listings" / "job.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    trainer = Trainer()
    run(site, tmp_path, trainer, MemoryJob({"project": 7}, attempt=2, saved=b"listed"))
    assert len(trainer.tasks[0]) == 6


def test_nothing_of_it_loads_torch_before_a_training_begins() -> None:
    script = "import sys, backend.fit_job, backend.events; assert not {'torch', 'redis'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_the_entry_point_is_there() -> None:
    from importlib.metadata import entry_points

    (found,) = entry_points(group="edgetam.projects", name="label-studio")
    assert found.load() is open_project


# With the real training, in workers that are processes.


@contextmanager
def worker(queue: JobQueue, url: str, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.backend.fit_studio", url, queue.store.namespace]
    env = {**os.environ, **environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=env)
    try:
        until(lambda: any(worker.pid == process.pid for worker in queue.workers()), 60)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


def status(queue: JobQueue, job_id: str) -> JobStatus:
    found = queue.status(job_id)
    assert found is not None
    return found


def is_training(queue: JobQueue, job_id: str, attempt: int) -> bool:
    found = status(queue, job_id)
    assert not found.is_over, found
    return found.state == "running" and found.attempt == attempt and "update" in found.note


def test_a_training_makes_room_is_killed_and_ends_once(
    queue: JobQueue, url: str, site: Studio, tmp_path: Path
) -> None:
    environ = site.settings(tmp_path)
    site.paint(7, 7, 8)  # eight is the least that can be trained on and measured by
    job_id = FitSchedule().requested(queue, 7)
    with worker(queue, url, environ) as first:
        until(lambda: is_training(queue, job_id, 1), 60)
        urgent = queue.enqueue("quick", {}).id
        until(lambda: status(queue, urgent).is_over, 30)
        assert not status(queue, job_id).is_over
        until(lambda: is_training(queue, job_id, 2), 60)
        site.paint(7, 30)  # what people draw meanwhile is for the next training
        first.kill()
        first.wait()
    with worker(queue, url, environ):
        until(lambda: status(queue, job_id).is_over, 120)
    found = status(queue, job_id)
    assert (found.state, found.attempt, found.failures, found.kind) == ("done", 3, 1, KIND)
    result = cast(dict[str, Any], queue.result(job_id))
    assert (result["version"], result["tasks"]) == ("project-7/v0001", 8)
    store = VersionStore(tmp_path / "models" / "versions")
    assert [str(name) for name in store.names("project-7")] == ["project-7/v0001"]
    assert len(site.asked("/api/tasks/")) == 1
    assert left(tmp_path) == []
