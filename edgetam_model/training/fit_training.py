"""The training of a fit: begun, or gone on with where an earlier run stopped."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from edgetam_model.errors import EdgeTAMError
from edgetam_model.model import EdgeTAM
from edgetam_model.training.fit_clips import FitClips
from edgetam_model.training.fit_folder import FitFolder
from edgetam_model.training.fit_needs import in_words
from edgetam_model.training.fit_progress import FitCancelledError, FitProgress
from edgetam_model.training.fit_sources import fit_sources
from edgetam_model.training.initial import resized
from edgetam_model.training.journal import LossRow
from edgetam_model.training.recipe import Recipe
from edgetam_model.training.trainer import OUTPUTS, STATE, WEIGHTS, Sources, Trainer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """What a training left.

    Attributes:
        weights: file of the new weights.
        updates: done; fewer than planned where nothing got better any more.
        seconds: that all runs of it took, by the journal of its updates.
    """

    weights: Path
    updates: int
    seconds: float


def train(
    parent: EdgeTAM,
    recipe: Recipe,
    clips: FitClips,
    folder: FitFolder,
    progress: FitProgress,
    measuring: float = 0.0,
) -> Trained:
    """Train to the end.

    Args:
        parent: where it begins; left as it is.
        recipe: how.
        clips: to learn from.
        folder: with the state of an earlier run, or without.
        progress: told after every update.
        measuring: what comes after the training, in updates that take as long.

    Raises:
        FitCancelledError: the listener wants no more; the state is saved.
        EdgeTAMError: a loss that is not finite, or a file that cannot be written.
    """
    size = recipe.input_size or parent.config.image_size
    sources = fit_sources(recipe, clips.train, clips.dev, size=size, device=parent.device)
    trainer = _trainer(resized(parent, size), recipe, sources, folder.path, progress)
    outcome = trainer.run(
        _teller(progress, trainer.step, recipe.steps, measuring), progress.listener.cancelled
    )
    if not outcome.finished:
        raise FitCancelledError
    rows = trainer.journal.losses if trainer.journal else []
    return Trained(folder.path / WEIGHTS, outcome.step, _seconds([row.seconds for row in rows]))


def _trainer(
    model: EdgeTAM, recipe: Recipe, sources: Sources, folder: Path, progress: FitProgress
) -> Trainer:
    """At the state in the folder; where there is none, or a damaged one, at the beginning."""
    if (folder / STATE).exists():
        try:
            return Trainer(copy.deepcopy(model), recipe, sources, folder, resume=True)
        except EdgeTAMError as error:  # also of the tables beside it
            _log.warning("the training begins again: %s", error)
            progress.tell("training", 0.0, "what an earlier run left is damaged; the training begins again")
    for name in OUTPUTS:
        (folder / name).unlink(missing_ok=True)
    return Trainer(copy.deepcopy(model), recipe, sources, folder)


def _teller(progress: FitProgress, first: int, steps: int, measuring: float) -> Callable[[LossRow], None]:
    """Says after an update how far it is and how long the fit will take at the speed that was measured."""

    def tell(row: LossRow) -> None:
        left = (steps - row.step + measuring) * row.seconds / max(row.step - first, 1)
        rest = f", {in_words(left)} left" if left else ""
        note = f"training, update {row.step} of {steps}, loss {row.total:.2f}{rest}"
        progress.tell("training", row.step / steps, note)

    return tell


def _seconds(clock: Sequence[float]) -> float:
    """In all, of a clock that every run sets to 0."""
    return round(sum(now - before if now >= before else now for before, now in pairwise((0.0, *clock))), 1)
