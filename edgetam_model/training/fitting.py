"""From a team's annotations to a version that serves, if it is better. Importing this loads no torch."""

from __future__ import annotations

from edgetam_model.training.fit_folder import alone, folders
from edgetam_model.training.fit_options import FitJob, FitListener, FitOutcome
from edgetam_model.training.fit_plan import FitPlan, plan_fit
from edgetam_model.training.fit_progress import FitCancelledError, FitProgress
from edgetam_model.training.fit_storing import finish, store, take_up


def run_fit(job: FitJob, listener: FitListener) -> FitOutcome:
    """Train a new version of a project's model on what its team drew, and let it serve if it is better.

    It may end at any point, by `kill -9` too: the same job run again goes on from there, and in the end
    there is one version, with the same weights as if nothing had happened.

    Args:
        job: which annotations, and how.
        listener: told how far it is; asked after every update and every clip whether to stop.

    Raises:
        TooFewError: too few masks, or too few media that can be opened; the message says what is needed.
        InputError: weights that cannot be gone on from, or a device that this machine does not have.
        WeightsError: weights or a version that are damaged, or a folder that cannot be written.
        FitBusyError: another process is fitting this project.
        EdgeTAMError: a loss that is not finite.
    """
    progress = FitProgress(listener)
    with alone(job.work, job.project):
        try:
            return _fit(job, plan_fit(job), progress)
        except FitCancelledError:
            return FitOutcome(finished=False, reasons=("cancelled; the same fit goes on from here",))


def _fit(job: FitJob, plan: FitPlan, progress: FitProgress) -> FitOutcome:
    earlier = take_up(job, plan.facts())
    if earlier is not None:
        return earlier
    plan.check()
    if plan.unchanged is not None:
        for folder in folders(job.work, job.project):
            folder.clear()
        return FitOutcome(finished=True, reasons=(f"nothing has changed since {plan.unchanged}",))
    from edgetam_model.training.fit_making import make  # loads torch

    made = make(job, plan, progress)
    progress.reach("storing", 0.5, "storing the version")
    name = store(job, made.folder, made.new)
    progress.tell("storing", 0.9, "choosing what serves")
    outcome = finish(job, made.folder, made.decision, name)
    progress.tell("storing", 1.0, "done")
    return outcome
