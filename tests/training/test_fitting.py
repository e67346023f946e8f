"""A fit from annotations to a version: whole, cancelled, killed at every step, damaged, and refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.errors import InputError, MediaError, WeightsError
from edgetam_model.model import EdgeTAM
from edgetam_model.sources import FrameSource
from edgetam_model.training import fit_sources, fit_verdict, forgetting
from edgetam_model.training.annotations import AnnotatedTask, AnnotationSet, MaskShape
from edgetam_model.training.fit_clips import DEV_FROM, dev_groups, unreadable
from edgetam_model.training.fit_folder import FitFolder, alone
from edgetam_model.training.fit_making import UNOPENED
from edgetam_model.training.fit_options import FitBusyError, FitJob, FitOptions, FitOutcome, TooFewError
from edgetam_model.training.fit_plan import plan_fit
from edgetam_model.training.fit_training import _seconds
from edgetam_model.training.fitting import run_fit
from edgetam_model.training.forgetting import ForgettingSet
from edgetam_model.training.judging import Judgement, judge
from edgetam_model.training.manifest import Manifest
from edgetam_model.training.textures import load_textures
from edgetam_model.training.trainer import STATE
from edgetam_model.training.version_files import check_all, read_manifest
from edgetam_model.training.versions import NewVersion, Retention
from edgetam_model.weights import load_model
from tests.training.annotation_tasks import sighting, thing
from tests.training.fit_jobs import SHORT, Killed, Listener, disc, fit_job, found, media, small_weights, still


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """One thread, a forgetting set of two short clips, and textures that are made once."""

    def small(cls: type[ForgettingSet], config: EdgeTAMConfig) -> ForgettingSet:
        return cls(clips=2, frames=2, size=64)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    bank = load_textures(None, procedural=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ForgettingSet, "affordable", classmethod(small))
        for user in (fit_sources, forgetting):
            patch.setattr(user, "load_textures", lambda *_, **__: bank)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(tmp_path_factory.mktemp("first") / "first.safetensors")


@pytest.fixture
def better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of three updates are never better: so it is said of them that they are."""

    def kind(*scores: Any, exchanged: Any) -> Judgement:
        return replace(
            judge(*scores, exchanged=exchanged), promoted=True, reasons=("promoted: so that a test sees it",)
        )

    monkeypatch.setattr(fit_verdict, "judge", kind)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> str:
    """The fingerprint of the weights that the job ends in when nothing happens to it."""
    job = fit_job(tmp_path_factory.mktemp("undisturbed"), weights)
    return fingerprint(job, run_fit(job, Listener()))


def begins(with_: str, note: str) -> bool:
    return note.startswith(with_)


def fingerprint(job: FitJob, outcome: FitOutcome) -> str:
    assert outcome.version is not None
    return job.store.get(outcome.version).record.fingerprint


def leftovers(job: FitJob) -> list[str]:
    return sorted(path.name for path in (job.work / job.project).iterdir() if path.is_dir())


@pytest.mark.usefixtures("better")
def test_a_fit_ends_in_a_version_that_serves(tmp_path: Path, weights: Path) -> None:
    job, listener = fit_job(tmp_path, weights), Listener()
    outcome = run_fit(job, listener)
    assert outcome.finished
    assert outcome.promoted
    assert str(outcome.version) == "project-7/v0001"
    assert job.store.current_of("project-7") == outcome.version
    assert outcome.version is not None
    version = job.store.get(outcome.version)
    check_all(version)
    assert version.record.parent == "first"
    assert version.record.config["mode"] == "adapter"
    metrics = version.record.metrics
    assert dict(outcome.metrics) == metrics
    assert isinstance(metrics["before"], float)
    assert 0 <= metrics["before"] <= 1
    assert metrics["updates"] == 3
    assert isinstance(metrics["peak_memory_mb"], int)
    assert metrics["peak_memory_mb"] > 100
    manifest = Manifest.model_validate(read_manifest(version))
    assert len(manifest.tasks) == 12
    page = (version.folder / "report" / "index.html").read_text()
    assert "so that a test sees it" in page.lower()
    assert leftovers(job) == []
    load_model(job.store.weights_file(outcome.version), "cpu")


@pytest.mark.usefixtures("better")
def test_progress_rises_to_the_end_and_speaks_plainly(tmp_path: Path, weights: Path) -> None:
    listener = Listener()
    run_fit(fit_job(tmp_path, weights), listener)
    shares = [share for share, _ in listener.told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert any(
        note.startswith("training, update 2 of 3, loss ") and "left" in note for note in listener.notes
    )
    last = next(note for note in listener.notes if note.startswith("training, update 3 of 3"))
    assert last.endswith(" left"), "measuring comes after it"
    assert "measuring the old version, object 1 of 4" in listener.notes


def test_what_is_not_better_stays_a_candidate_with_its_report(tmp_path: Path, weights: Path) -> None:
    """Three updates of random weights help nobody."""
    job = fit_job(tmp_path, weights)
    outcome = run_fit(job, Listener())
    assert outcome.finished
    assert outcome.version is not None
    assert not outcome.promoted
    assert outcome.reasons[0].startswith("kept as a candidate: ")
    assert job.store.current_of("project-7") is None
    page = (job.store.get(outcome.version).folder / "report" / "index.html").read_text()
    assert "kept as a candidate" in page.lower()
    again = run_fit(job, Listener())
    assert again == FitOutcome(True, reasons=("nothing has changed since project-7/v0001",))
    assert len(job.store.names("project-7")) == 1


@pytest.mark.usefixtures("better")
def test_the_next_fit_goes_on_from_what_serves(tmp_path: Path, weights: Path) -> None:
    job = fit_job(tmp_path, weights)
    first = run_fit(job, Listener())
    assert run_fit(job, Listener()).reasons == ("nothing has changed since project-7/v0001",)
    second = run_fit(replace(job, found=found(stills=11)), Listener())
    assert second.version is not None
    assert job.store.get(second.version).record.parent == str(first.version)
    assert job.store.rollback("project-7").after == "v0001"


@pytest.mark.usefixtures("better")
def test_what_is_forgotten_counts_from_the_first_weights(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version after version could lose a little otherwise."""

    def told_by_weights(_: ForgettingSet, model: EdgeTAM, tick: object = None) -> tuple[float, ...]:
        return (int(model.fingerprint()[:6], 16) / 2**24,)

    monkeypatch.setattr(ForgettingSet, "score", told_by_weights)
    job = fit_job(tmp_path, weights)
    runs = [run_fit(replace(job, found=found(stills=count)), Listener()) for count in (10, 11, 12)]
    kept: list[Any] = [run.metrics["forgetting"] for run in runs]
    assert [each["before"] for each in kept] == [kept[0]["before"]] * 3
    assert len({each["after"] for each in kept}) == 3


@pytest.mark.usefixtures("better")
def test_killed_anywhere_the_same_job_ends_in_one_version(
    tmp_path: Path, weights: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run after the other dies a step later."""
    job = fit_job(tmp_path, weights)
    for place in (
        "loading the model",
        "reading image or video 5",
        "training, update 2",
        "training, update 3",
        "measuring",
        "measuring the old version, object 2",
        "measuring what the old version forgot, clip 2",
        "measuring the new version, object 1",
        "drawing the report",
        "storing the version",
        "choosing what serves",
    ):
        with pytest.raises(Killed):
            run_fit(job, Listener(kill=partial(begins, place)))
    assert len(job.store.names("project-7")) == 1, "it was stored before it was told"
    assert job.store.current_of("project-7") is None
    with monkeypatch.context() as patch:
        patch.setattr(FitFolder, "clear", _die)
        with pytest.raises(Killed):
            run_fit(job, Listener())
    assert job.store.current_of("project-7") is not None, "all is done but the folder"
    outcome = run_fit(job, Listener())
    assert (outcome.finished, outcome.promoted, str(outcome.version)) == (True, True, "project-7/v0001")
    assert outcome.metrics["updates"] == 3
    assert fingerprint(job, outcome) == undisturbed
    assert leftovers(job) == []
    assert run_fit(job, Listener()).version is None


def _die(*_args: object) -> None:
    raise Killed


@pytest.mark.usefixtures("better")
def test_killed_before_it_was_stored_nothing_is_trained_or_measured_again(
    tmp_path: Path, weights: Path, undisturbed: str
) -> None:
    job = fit_job(tmp_path, weights)
    with pytest.raises(Killed):
        run_fit(job, Listener(kill=lambda note: note == "storing the version"))
    listener = Listener()
    outcome = run_fit(job, listener)
    assert fingerprint(job, outcome) == undisturbed
    assert not [note for note in listener.notes if note.startswith(("reading", "training, ", "measuring "))]


@pytest.mark.parametrize("place", ["reading image or video 3", "training, update 2", "measuring the old"])
def test_cancelled_it_says_so_and_goes_on_later(
    place: str, tmp_path: Path, weights: Path, undisturbed: str
) -> None:
    job = fit_job(tmp_path, weights)
    outcome = run_fit(job, Listener(cancel=lambda note: note.startswith(place)))
    assert (outcome.finished, outcome.version) == (False, None)
    assert "cancelled" in outcome.reasons[0]
    listener = Listener()
    assert fingerprint(job, run_fit(job, listener)) == undisturbed
    if "update 2" in place:
        assert not [note for note in listener.notes if note.startswith("training, update 2")], "it was saved"


def test_a_damaged_state_begins_again(
    tmp_path: Path, weights: Path, undisturbed: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = fit_job(tmp_path, weights)
    run_fit(job, Listener(cancel=lambda note: note.startswith("training, update 2")))
    (state,) = (job.work / "project-7").glob(f"*/{STATE}")
    state.write_bytes(state.read_bytes()[:1000])
    listener = Listener()
    assert fingerprint(job, run_fit(job, listener)) == undisturbed
    assert "the training begins again" in caplog.text
    assert [note for note in listener.notes if note.startswith("training, update 1 of 3")]


def test_a_fit_of_other_data_removes_what_an_earlier_one_left(tmp_path: Path, weights: Path) -> None:
    job = fit_job(tmp_path, weights)
    run_fit(job, Listener(cancel=lambda note: note.startswith("training, update 2")))
    before = leftovers(job)
    run_fit(
        replace(job, found=found(stills=12)),
        Listener(cancel=lambda note: note.startswith("training, update 1")),
    )
    after = leftovers(job)
    assert len(before) == len(after) == 1
    assert before != after


@pytest.mark.usefixtures("better")
def test_who_rolled_back_meanwhile_is_not_overruled(tmp_path: Path, weights: Path) -> None:
    """The new version was compared with what serves no more."""
    job = fit_job(tmp_path, weights)
    run_fit(job, Listener())
    grown = replace(job, found=found(stills=11))

    def roll_back(note: str) -> bool:
        if note == "measuring":
            job.store.rollback("project-7", "base")
        return False

    outcome = run_fit(grown, Listener(cancel=roll_back))
    assert (outcome.finished, outcome.promoted) == (True, False)
    assert "it was compared with v0001" in outcome.reasons[0]
    assert job.store.current_of("project-7") is None
    assert str(outcome.version) == "project-7/v0002"


@pytest.mark.usefixtures("better")
def test_a_better_one_may_be_asked_to_wait(tmp_path: Path, weights: Path) -> None:
    job = fit_job(tmp_path, weights, replace(SHORT, promote=False))
    outcome = run_fit(job, Listener())
    assert not outcome.promoted
    assert outcome.reasons[0].startswith("kept as a candidate, as was asked")
    assert job.store.current_of("project-7") is None


def test_what_the_rules_give_up_is_deleted(tmp_path: Path, weights: Path) -> None:
    options = FitOptions(updates=1, retention=Retention(candidates=1))
    for stills in (8, 9):
        run_fit(fit_job(tmp_path, weights, options, stills), Listener())
    names = fit_job(tmp_path, weights).store.names("project-7")
    assert [name.label for name in names] == ["v0002"]


def test_two_at_a_time_are_refused(tmp_path: Path, weights: Path) -> None:
    job = fit_job(tmp_path, weights)
    told: list[str] = []

    def second() -> None:
        try:
            run_fit(job, Listener())
        except FitBusyError as error:
            told.append(str(error))

    with alone(job.work, "project-7"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert told == ["a training of project-7 is under way"]
    assert job.store.names("project-7") == ()


def test_media_that_cannot_be_opened_are_left_out_and_counted(tmp_path: Path, weights: Path) -> None:
    job = fit_job(tmp_path, weights, replace(SHORT, updates=1))
    lost = plan_fit(job).split.train[0].id

    def some(task: AnnotatedTask) -> FrameSource:
        if task.id == lost:
            raise MediaError("media", "404")
        return media(task)

    outcome = run_fit(replace(job, media=some), Listener())
    assert outcome.version is not None
    manifest = Manifest.model_validate(read_manifest(job.store.get(outcome.version)))
    assert manifest.ignored == {UNOPENED: 1}
    assert lost not in {task.id for task in manifest.tasks}
    assert plan_fit(job).unchanged is None, "with that one it would be another version"


def test_too_few_media_are_refused_and_looked_at_again(tmp_path: Path, weights: Path) -> None:
    def none(task: AnnotatedTask) -> FrameSource:
        raise MediaError("media", f"{task.media} cannot be found")

    job = fit_job(tmp_path, weights, replace(SHORT, updates=1))
    with pytest.raises(
        TooFewError, match=f"found none; left out: 12 {UNOPENED}; the first, task .*cannot be found"
    ):
        run_fit(replace(job, media=none), Listener())
    assert leftovers(job) == []
    assert run_fit(job, Listener()).version is not None


def test_a_source_that_may_answer_later_ends_the_fit(tmp_path: Path, weights: Path) -> None:
    """Whoever runs it tries again; nothing is left out for it."""

    class LaterError(Exception):
        pass

    def busy(task: AnnotatedTask) -> FrameSource:
        raise LaterError

    with pytest.raises(LaterError):
        run_fit(replace(fit_job(tmp_path, weights), media=busy), Listener())


def test_masks_outside_the_picture_are_found_before_the_training() -> None:
    shape = MaskShape.of(np.eye(4, dtype=np.bool_))
    fine = still(1)
    lost = replace(still(2), objects=(thing(sighting(frame=3, shape=shape)),))
    problems = unreadable([fine, lost], media, lambda: None)
    assert list(problems) == ["2"]
    assert "nothing that was drawn lies inside the picture" in problems["2"]


def test_untrained_weights_are_nothing_to_go_on_from(tmp_path: Path) -> None:
    small_weights(tmp_path / "none.safetensors", trained=False)
    with pytest.raises(InputError, match="weights: expected trained ones"):
        run_fit(fit_job(tmp_path, tmp_path / "none.safetensors"), Listener())


def test_no_such_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MODEL_DIR", raising=False)
    with pytest.raises(WeightsError, match="no such version, file or import"):
        run_fit(fit_job(tmp_path, "nowhere"), Listener())


def test_a_damaged_current_version_is_said(tmp_path: Path, weights: Path) -> None:
    job = fit_job(tmp_path, weights)
    name = job.store.add("project-7", NewVersion(weights, "first"))
    job.store.promote(name)
    with job.store.weights_file(name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match="damaged"):
        run_fit(job, Listener())


def test_some_of_many_groups_say_when_to_stop() -> None:
    tasks = [still(number) for number in range(DEV_FROM)]
    assert dev_groups(tasks[1:]) == frozenset()
    assert len(dev_groups(tasks)) == 3


def test_a_fit_with_clips_to_choose_by(tmp_path: Path, weights: Path) -> None:
    job = fit_job(tmp_path, weights, FitOptions(updates=2), stills=40)
    outcome = run_fit(job, Listener())
    assert outcome.version is not None
    recipe = job.store.get(outcome.version).record.config["recipe"]
    assert isinstance(recipe, dict)
    assert recipe["validation"]["patience"] > 0  # type: ignore[index, call-overload, operator]


def test_seconds_of_several_runs_add_up() -> None:
    assert _seconds([]) == 0
    assert _seconds([1.0, 2.5, 1.0, 3.0]) == 5.5


def test_tasks_of_another_project_are_never_seen(tmp_path: Path, weights: Path) -> None:
    """Two projects in the same folders."""
    options = replace(SHORT, updates=1)
    one = fit_job(tmp_path, weights, options)
    tasks = tuple(replace(still(number), id=f"other-{number}") for number in range(8))

    def other_media(task: AnnotatedTask) -> FrameSource:
        return media(replace(task, id=task.id.removeprefix("other-")))

    other = replace(one, project="project-8", found=AnnotationSet(tasks, {}), media=other_media)
    first, second = run_fit(one, Listener()), run_fit(other, Listener())
    assert (str(first.version), str(second.version)) == ("project-7/v0001", "project-8/v0001")
    assert second.version is not None
    text = json.dumps(read_manifest(one.store.get(second.version)))
    assert {task["id"] for task in json.loads(text)["tasks"]} == {task.id for task in tasks}


def test_discs_are_where_their_masks_are() -> None:
    frame, shape = disc(3)
    assert frame[shape.mask(frame.shape[:2])].min() >= 180
