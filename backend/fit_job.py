"""The job that trains: a project's annotations from Label Studio, and a version that learned them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from backend.fit_listing import Listing, ask_again_later, configured_site
from backend.fit_media import FitMedia
from backend.jobs import (
    JSON,
    JobFunction,
    JobHandle,
    JobLost,
    QueueUnavailable,
    StopReason,
    TryAgain,
)
from backend.label_studio import LabelStudio
from backend.media import MediaIntake
from backend.settings import Settings
from edgetam_model import EdgeTAMError, InputError
from edgetam_model.training.annotations import AnnotationSet, OpenProject, ReadOptions

if TYPE_CHECKING:
    from edgetam_model import FitJob, FitOutcome

TRIES = 3  # of the job, after which media that cannot be fetched are left out
KEPT_DAYS = 7.0  # of what a training left that never ended
GOES_ON: frozenset[StopReason] = frozenset({"shutdown", "yield", "lost"})  # here or at another worker
RunFit = Callable[["FitJob", JobHandle], "FitOutcome"]


def fit_job(settings: Settings, intake: MediaIntake | None = None, run: RunFit | None = None) -> JobFunction:
    """The function of "fit" jobs. torch is loaded with the first one.

    Args:
        settings: Label Studio, media, where versions live, how they are trained.
        intake: made from the settings when left out.
        run: trains; `edgetam_model.run_fit` when left out.
    """
    return Fitting(settings, intake, run).run


@dataclass(frozen=True)
class Fitting:
    """What every training of a worker shares; see `fit_job`."""

    settings: Settings
    intake: MediaIntake | None = None
    trainer: RunFit | None = None

    def run(self, job: JobHandle) -> JSON:
        """Train the project of the payload, or go on with it.

        Returns:
            What `FitOutcome` holds, and of how many `tasks`. Where there is too little to learn from,
            `version` is None and the reasons say so.

        Raises:
            InputError: no Label Studio is configured, or the payload names no project.
            LabelStudioError: it refuses.
            TryAgain: it does not answer now, or another training of the project is under way.
            EdgeTAMError: as `run_fit`, but for too few annotations.
        """
        project = _project(job.payload)
        site = configured_site(self.settings)
        listing, media = self._places(job.id)
        try:
            found = self._listing(job, site, project, listing).read()
            intake = self.intake or MediaIntake(self.settings, site)
            opener = FitMedia(intake, self.settings, media, patient=job.attempt < TRIES)
            outcome = self._fit(job, fit_of(self.settings, f"project-{project}", found, opener))
        except (TryAgain, QueueUnavailable, JobLost):
            raise
        except EdgeTAMError:
            _remove(listing, media)
            raise
        if outcome.finished or job.stop_reason not in GOES_ON:
            _remove(listing, media)
        return _told(job, outcome, len(found.tasks))

    def _listing(self, job: JobHandle, site: LabelStudio, project: int, path: Path) -> Listing:
        """What an earlier attempt of this job has read, else what there is now."""
        known = Listing.kept_at(path) if job.last_checkpoint() else None
        if known is None:
            job.progress(0, 0, "reading the annotations")
            known = ask_again_later(site, project)
            known.keep(path)
        job.checkpoint(b"listed")  # from here on it can make room for more urgent jobs
        return known

    def _fit(self, job: JobHandle, fit: FitJob) -> FitOutcome:
        from edgetam_model import FitBusyError, FitOutcome, TooFewError, run_fit

        try:
            return (self.trainer or run_fit)(fit, job)
        except TooFewError as refusal:  # no failure, and no use in trying again
            return FitOutcome(finished=True, reasons=(str(refusal),))
        except FitBusyError as error:  # the command line, or a worker that was taken for dead
            raise TryAgain(str(error)) from error

    def _places(self, job_id: str) -> tuple[Path, Path]:
        """Where a job keeps its listing, and its media; what others left long ago goes."""
        listings = self.settings.state_dir / "fit-listings"
        media = media_folder(self.settings)
        own = listings / f"{job_id}.json", media / job_id
        for path in own:
            with suppress(FileNotFoundError):
                os.utime(path)
            _forget_old(path.parent)
        return own


def fit_of(settings: Settings, project: str, found: AnnotationSet, media: FitMedia) -> FitJob:
    """The training that the settings ask for."""
    from edgetam_model import FitJob, FitOptions, VersionStore

    return FitJob(
        project=project,
        found=found,
        media=media.open,
        work=settings.state_dir / "fits",
        store=VersionStore(settings.state_dir / "versions"),
        options=FitOptions(
            mode=settings.fit_mode, minimum=settings.fit_minimum, promote=settings.fit_promote
        ),
        weights=settings.weights,
        device=settings.device,
    )


def open_project(text: str, options: ReadOptions) -> OpenProject:
    """A project for the command line, `label-studio:7`: the entry point of `edgetam.projects`.

    Settings come from the environment, as for a server. Fetched media are let go when the process ends.

    Raises:
        InputError: no number of a project, or no Label Studio is configured.
        LabelStudioError: no such project, or Label Studio refuses or is not there.
    """
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
    if number < 1:
        raise InputError("from", f"expected label-studio:NUMBER, the number of a project, got {text!r:.80}")
    settings = Settings.from_env(os.environ)
    site = configured_site(settings)
    listing = Listing.ask(site, number)
    root = media_folder(settings)
    _forget_old(root)
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"project-{number}-", dir=root))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    media = FitMedia(MediaIntake(settings, site), settings, folder)
    return OpenProject(listing.read(options), media.open, f"project-{number}")


def media_folder(settings: Settings) -> Path:
    """Where trainings hold their media: on the disk of the cache."""
    return settings.cache.expanduser() / "fit-media"


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _forget_old(folder: Path) -> None:
    """Remove what nobody has touched for days: its training was killed, and did not go on here."""
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):  # another process forgets it as well
            if time.time() - path.stat().st_mtime > KEPT_DAYS * 86_400:
                _remove(path)


def _project(payload: Mapping[str, JSON]) -> int:
    number = payload.get("project")
    if not isinstance(number, int) or number < 1:
        raise InputError("project", f"expected the number of a project, got {number!r:.80}")
    return number


def _told(job: JobHandle, outcome: FitOutcome, tasks: int) -> JSON:
    """The result, and its reasons where people look."""
    version = str(outcome.version) if outcome.version else None
    if outcome.finished:
        what = [f"{version} {'serves now' if outcome.promoted else 'is kept'}"] if version else []
        job.progress(1, 1, "; ".join([*what, *outcome.reasons]))
    return {
        "finished": outcome.finished,
        "version": version,
        "promoted": outcome.promoted,
        "reasons": list(outcome.reasons),
        "metrics": cast(JSON, dict(outcome.metrics)),
        "tasks": tasks,
    }
