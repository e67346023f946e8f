"""From a plan to weights, a judgement and a report: the part of a fit that takes its time."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from edgetam_model.errors import InputError, WeightsError
from edgetam_model.model import EdgeTAM
from edgetam_model.training.fit_clips import FitClips, dev_groups, fit_clips, unreadable, without
from edgetam_model.training.fit_folder import FitFolder, folder_of, folders
from edgetam_model.training.fit_needs import peak_memory_mb
from edgetam_model.training.fit_options import FitJob, TooFewError
from edgetam_model.training.fit_pictures import draw_examples
from edgetam_model.training.fit_plan import FitPlan, facts_of, split_options, too_few
from edgetam_model.training.fit_progress import FitProgress
from edgetam_model.training.fit_recipe import fit_recipe
from edgetam_model.training.fit_report import FitReport, write_report
from edgetam_model.training.fit_storing import RUN, Decision, decide
from edgetam_model.training.fit_training import Trained, train
from edgetam_model.training.fit_verdict import Verdict, compare
from edgetam_model.training.journal import CURVES, LOSSES, SCORES
from edgetam_model.training.manifest import Manifest
from edgetam_model.training.recipe import Recipe
from edgetam_model.training.versions import NewVersion
from edgetam_model.weights import WeightsInfo, load_model

CHECKPOINT_EVERY = 10  # updates: kill -9 loses seconds of a small model's, some minutes of a large one's
PATIENCE = 4  # validations, of ten, without a better one
UNOPENED = "images and videos that cannot be opened"

_LEFT_OUT = "left-out"  # the note

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """What is ready to be stored."""

    folder: FitFolder
    decision: Decision
    new: NewVersion


def make(job: FitJob, plan: FitPlan, progress: FitProgress) -> Made:
    """Train, measure and report; what an earlier run has done of it is not done again.

    Raises:
        TooFewError: too few media can be opened.
        InputError: weights that cannot be gone on from, or a device that is not there.
        WeightsError: the weights are missing or damaged, or something cannot be written.
        EdgeTAMError: a loss that is not finite.
        FitCancelledError: the listener wants no more.
    """
    progress.reach("reading", 0.0, "loading the model")
    fit = _begin(job, plan, progress)
    data = _read(fit)
    progress.reach("training", 0.0, "training")
    trained = train(fit.parent, fit.recipe, data.clips, fit.folder, progress, plan.needs.updates)
    progress.reach("judging", 0.0, "measuring")
    first = _first(job, plan)
    verdict = compare(fit.parent, trained.weights, first, data.clips.held_out, fit.folder, progress)
    progress.reach("storing", 0.0, "drawing the report")
    metrics = _metrics(data, verdict, trained)
    _report(fit, data, verdict, trained)
    decision = Decision(
        facts=plan.facts(),
        over=plan.start.label,
        promoted=verdict.judgement.promoted,
        reasons=verdict.judgement.reasons,
        metrics=metrics,
    )
    decide(fit.folder, decision)
    return Made(fit.folder, decision, _new_version(fit, data, verdict.weighed.weights, metrics))


@dataclass(frozen=True, eq=False)
class _Fit:
    """What every step needs.

    Attributes:
        job, plan, progress: as given.
        parent: the model that training begins with.
        info: which weights those are.
        dev: groups to choose the best weights by.
        recipe: how it is trained.
        folder: what is done is kept there.
    """

    job: FitJob
    plan: FitPlan
    progress: FitProgress
    parent: EdgeTAM
    info: WeightsInfo
    dev: frozenset[str]
    recipe: Recipe
    folder: FitFolder


@dataclass(frozen=True)
class _Data:
    """What the annotations and their media came to: clips, and what of the manifest is in them."""

    manifest: Manifest
    clips: FitClips


def _begin(job: FitJob, plan: FitPlan, progress: FitProgress) -> _Fit:
    """The model and the folder; what fits of other data have left is removed."""
    parent, info = _parent(job, plan)
    dev = dev_groups(plan.split.train)
    patience = PATIENCE if dev else 0
    recipe = fit_recipe(job.options.mode, parent.config, plan.updates, patience=patience)
    recipe = replace(recipe, checkpoint_every=CHECKPOINT_EVERY)
    facts: JsonValue = [parent.fingerprint(), plan.facts(), recipe.to_dict()]
    folder = folder_of(job.work, job.project, facts)
    for other in folders(job.work, job.project):
        if other != folder:
            other.clear()
    folder.make()
    return _Fit(job, plan, progress, parent, info, dev, recipe, folder)


def _parent(job: FitJob, plan: FitPlan) -> tuple[EdgeTAM, WeightsInfo]:
    model = load_model(plan.start.file(job.store), job.device)
    info = model.weights_info
    assert isinstance(info, WeightsInfo)  # load_model sets it
    if not info.trained:
        raise InputError("weights", f"expected trained ones to go on from: {info}")
    return model, info


def _first(job: FitJob, plan: FitPlan) -> EdgeTAM | None:
    """The weights that the project's first version began with; None where training begins there, or they are
    gone."""
    begun, weights = plan.start.serving, ""
    try:
        while begun is not None:
            record = job.store.get(begun).record
            begun, weights = record.parent_version, str(record.config.get("weights", record.parent))
        return load_model(weights, job.device).fuse() if weights else None
    except (InputError, WeightsError) as error:
        _log.warning("what is forgotten is counted from the version that serves: %s", error)
        return None


def _read(fit: _Fit) -> _Data:
    """Look at all media once; what cannot be used stays left out in later runs, which see the same data."""
    job, plan = fit.job, fit.plan
    left_out = fit.folder.noted(_LEFT_OUT)
    if not isinstance(left_out, list):
        left_out = _unusable(fit)
        fit.folder.note(_LEFT_OUT, left_out)
    split = without(plan.split, {str(name) for name in left_out})
    ignored = dict(plan.ignored) | ({UNOPENED: len(left_out)} if left_out else {})
    manifest = Manifest.of(split, split_options(job.project), ignored)
    return _Data(manifest, fit_clips(split, fit.dev, job.media))


def _unusable(fit: _Fit) -> list[JsonValue]:
    """Ids of tasks whose media cannot be used.

    Raises:
        TooFewError: too few others are there.
    """
    plan = fit.plan
    tick = fit.progress.counter("reading", (0.0, 1.0), len(plan.tasks), "reading image or video")
    problems = unreadable(plan.tasks, fit.job.media, tick)
    for name, problem in problems.items():
        _log.warning("task %s is left out: %s", name, problem)
    ignored = {**plan.ignored, UNOPENED: len(problems)}
    too_few_left = too_few(without(plan.split, problems), plan.options.minimum, ignored) if problems else ""
    if too_few_left:
        fit.folder.clear()  # the next run looks at them again
        name, first = next(iter(problems.items()))
        raise TooFewError("annotations", f"{too_few_left}; the first, task {name}: {first}")
    return list(problems)


def _metrics(data: _Data, verdict: Verdict, trained: Trained) -> dict[str, JsonValue]:
    """For the version's record; the memory is the most that this process ever had."""
    return {
        **verdict.judgement.to_dict(),
        "strength": verdict.weighed.strength,
        "tasks_learned": sum(task.part == "train" for task in data.manifest.tasks),
        "updates": trained.updates,
        "training_seconds": trained.seconds,
        "peak_memory_mb": peak_memory_mb(),
    }


def _report(fit: _Fit, data: _Data, verdict: Verdict, trained: Trained) -> None:
    """The page that is kept with the version."""
    before, after = verdict.before.objects, verdict.after.objects
    clips, left = data.clips, fit.folder.path
    memory = peak_memory_mb()
    report = FitReport(
        project=fit.job.project,
        parent=str(fit.plan.start.serving or fit.info.name),
        judgement=verdict.judgement,
        before=before,
        after=after,
        examples=draw_examples(clips.held_out, before, after),
        data=_counts(data.manifest),
        ignored=data.manifest.ignored,
        training={
            "mode": fit.job.options.mode,
            "updates": f"{trained.updates} of {fit.plan.updates}",
            "taken of the change": f"{verdict.weighed.strength:.0%}",
            "time": f"{trained.seconds:.0f} s, without measuring",
            "memory at most": f"{memory / 1000:.1f} GB" if memory else "unknown",
        },
        curves=left / CURVES,
        tables=[left / name for name in (LOSSES, SCORES)],
    )
    write_report(fit.folder.report, report)


def _counts(manifest: Manifest) -> dict[str, object]:
    """What was learned from and measured on."""
    parts = {part: [task for task in manifest.tasks if task.part == part] for part in ("train", "held_out")}
    return {
        "images and videos to learn from": len(parts["train"]),
        "kept to measure on": len(parts["held_out"]),
        "objects": sum(task.objects for task in manifest.tasks),
    }


def _new_version(fit: _Fit, data: _Data, weights: Path, metrics: dict[str, JsonValue]) -> NewVersion:
    plan, recipe = fit.plan, fit.recipe.to_dict()
    facts = facts_of(data.manifest, plan.options, plan.updates, plan.start.weights)
    return NewVersion(
        weights=weights,
        parent=str(plan.start.serving or fit.info.name.replace("/", "-")),
        config={**facts, RUN: fit.folder.run, "recipe": recipe, "device": str(fit.parent.device)},
        manifest=json.loads(data.manifest.to_json()),
        metrics=metrics,
        report=fit.folder.report,
    )
