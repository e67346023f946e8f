"""The end of a fit: what was trained becomes a version, once, and serves where it is better. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from edgetam_model.errors import InputError, WeightsError
from edgetam_model.training.fit_folder import FitFolder, folders
from edgetam_model.training.fit_options import FitJob, FitOutcome
from edgetam_model.training.versions import NewVersion, VersionName

RUN = "run"  # in a version's config: which training it is, so that none is stored twice
_DECISION = "decision"  # the note


class Decision(BaseModel):
    """What was found out about the new weights; a note in the fit's folder.

    Attributes:
        facts: of the job, see `fit_plan.facts_of`.
        over: what they were compared with, such as "v0002" or "base".
        promoted: whether they are better.
        reasons: why, or why not.
        metrics: numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    facts: dict[str, JsonValue]
    over: str
    promoted: bool
    reasons: tuple[str, ...]
    metrics: dict[str, JsonValue]


def decide(folder: FitFolder, decision: Decision) -> None:
    """Write it down before anything is stored.

    Raises:
        WeightsError: it cannot be written.
    """
    folder.note(_DECISION, json.loads(decision.model_dump_json()))


def take_up(job: FitJob, facts: Mapping[str, JsonValue]) -> FitOutcome | None:
    """Finish what an earlier run of the same job has stored, whose folder is still there; None: nothing.

    Raises:
        WeightsError: as `finish`.
    """
    for folder in folders(job.work, job.project):
        decision, name = _decision(folder), stored(job, folder)
        if name is not None and decision is not None and decision.facts == facts:
            return finish(job, folder, decision, name)
    return None


def stored(job: FitJob, folder: FitFolder) -> VersionName | None:
    """The version that this training has become, if it has."""
    for name in reversed(job.store.names(job.project)):
        try:
            config = job.store.get(name).record.config
        except (WeightsError, InputError):  # damaged, or deleted meanwhile
            continue
        if config.get(RUN) == folder.run:
            return name
    return None


def store(job: FitJob, folder: FitFolder, new: NewVersion) -> VersionName:
    """The version of this training; written where it is not there yet.

    Raises:
        InputError: what is handed over cannot be used.
        WeightsError: it cannot be written.
    """
    return stored(job, folder) or job.store.add(job.project, new)


def finish(job: FitJob, folder: FitFolder, decision: Decision, name: VersionName) -> FitOutcome:
    """Promote what is better, delete what the rules give up, and the training's folder.

    Raises:
        WeightsError: the version is damaged, or something cannot be written.
    """
    reasons = _switch(job, decision, name)
    promoted = job.store.current_of(job.project) == name
    job.store.prune(job.project, job.options.retention)
    folder.clear()
    return FitOutcome(True, name, promoted, reasons, decision.metrics)


def _switch(job: FitJob, decision: Decision, name: VersionName) -> tuple[str, ...]:
    """Let a better version serve, unless it did already; why it does, or why not."""
    if not decision.promoted or job.store.state(job.project).status(name) != "candidate":
        return decision.reasons
    if not job.options.promote:
        return ("kept as a candidate, as was asked; else it would have been promoted", *decision.reasons)
    try:
        job.store.promote(name, why=decision.reasons[0], over=decision.over)
    except InputError as error:
        if error.field != "over":
            raise
        found = f"it was compared with {decision.over}, and something else has begun to serve meanwhile"
        return (f"kept as a candidate: {found}", *decision.reasons)
    return decision.reasons


def _decision(folder: FitFolder) -> Decision | None:
    try:
        return Decision.model_validate(folder.noted(_DECISION), strict=False)
    except ValidationError:
        return None
