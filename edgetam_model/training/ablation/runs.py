"""One run of an ablation in a folder of its own: trained, resumed where it was stopped, and scored."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from edgetam_model.errors import EdgeTAMError
from edgetam_model.training.ablation.calibration import clip_sources, load_teacher, one_thread
from edgetam_model.training.ablation.plan import AblationOptions, Plan, Run, write_text
from edgetam_model.training.ablation.scores import RunScores, score
from edgetam_model.training.initial import new_model
from edgetam_model.training.journal import LossRow
from edgetam_model.training.trainer import STATE, WEIGHTS, Trainer
from edgetam_model.weights_file import save_weights

RESULT, COMPUTE = "result.json", "compute.csv"


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes:
        updates: done; fewer than planned where the budget of compute ended first.
        planned: by the plan.
        seconds: of the processor that went into the weights: clips, teacher and updates.
        scores: on held-out clips.
    """

    updates: int
    planned: int
    seconds: float
    scores: RunScores


class Compute:
    """Seconds of the processor that went into a run, kept per update, so that a resumed run goes on counting.

    Args:
        folder: of the run.
        step: updates that the run goes on from; what came after them is lost and not counted.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / COMPUTE
        rows = [row for row in read_compute(folder) if row[0] <= step]
        self._before = rows[-1][1] if rows else 0.0
        self._start = time.process_time()
        write_text(self._path, "".join(f"{update},{seconds}\n" for update, seconds in rows))

    @property
    def seconds(self) -> float:
        """So far."""
        return self._before + time.process_time() - self._start

    def add(self, row: LossRow) -> None:
        """Note an update. Raises EdgeTAMError where that is not possible."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{row.step},{self.seconds:.3f}\n")
        except OSError as error:
            raise EdgeTAMError(f"{self._path}: cannot be written: {error.strerror}") from error


def read_compute(folder: Path) -> list[tuple[int, float]]:
    """(updates, seconds) after each update of a run, a line that is being written left out."""
    path = folder / COMPUTE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in file if line.endswith("\n")]
    return [(int(step), float(seconds)) for step, seconds in csv.reader(lines)]


def read_result(folder: Path) -> RunResult | None:
    """What came of the run in a folder; None while it is not finished.

    Raises:
        EdgeTAMError: a file that is not such a result.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text("utf-8"))
        return RunResult(**{**values, "scores": RunScores(**values["scores"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgeTAMError(f"{path}: not a run's result: {error!r}") from error


def train_run(plan: Plan, name: str, folder: Path, stop: Callable[[], bool]) -> RunResult | None:
    """Train a run of the plan, or go on with it, and score it; a finished one is only read.

    Args:
        plan: has the run.
        name: of the run.
        folder: of the run; it exists.
        stop: asked after each update; the run can then be gone on with.

    Returns:
        What came of it; None where it was stopped.

    Raises:
        EdgeTAMError: it cannot be trained, read or written.
    """
    finished = read_result(folder)
    if finished is not None:
        return finished
    options, run = plan.options, plan.run(name)
    with one_thread():
        trainer = _trainer(options, run, folder)
        compute = Compute(folder, trainer.step)

        def spent() -> bool:
            return options.equal_compute and trainer.step > 0 and compute.seconds >= options.budget

        outcome = None if spent() else trainer.run(compute.add, lambda: stop() or spent())
        if outcome is not None and not outcome.finished and not spent():
            return None
        return _finish(options, run, folder, trainer)


def _trainer(options: AblationOptions, run: Run, folder: Path) -> Trainer:
    return Trainer(
        new_model(run.variant.config, run.recipe.seed),
        run.recipe,
        clip_sources(options, run.variant),
        folder,
        teacher=load_teacher(options, run.variant),
        resume=(folder / STATE).exists(),
    )


def _finish(options: AblationOptions, run: Run, folder: Path, trainer: Trainer) -> RunResult:
    """Score the averaged weights and keep both; runs that the budget ended have no weights file yet."""
    sources = clip_sources(options, run.variant)
    save_weights(
        folder / WEIGHTS,
        trainer.averaged,
        run.variant.config,
        licence=sources.licence,
        source=sources.origin,
    )
    result = RunResult(
        updates=trainer.step,
        planned=run.recipe.steps,
        seconds=read_compute(folder)[-1][1],
        scores=score(trainer.averaged, sources.held_out, run.recipe.validation),
    )
    write_text(folder / RESULT, json.dumps(asdict(result), indent=1))
    return result
