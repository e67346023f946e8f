"""From a recipe to weights in a folder: what `train` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgetam_model.commands.interrupt import Interrupts
from edgetam_model.commands.launch import launched
from edgetam_model.commands.outputs import check_free, make_folder
from edgetam_model.commands.progress import Meter
from edgetam_model.commands.terminal import complain, print_json, say
from edgetam_model.config import CONFIGS
from edgetam_model.errors import InputError
from edgetam_model.model import EdgeTAM
from edgetam_model.training.clip_sources import (
    annotated_sources,
    synthetic_sources,
    with_photos_held_out,
)
from edgetam_model.training.initial import new_model, resized
from edgetam_model.training.journal import LossRow
from edgetam_model.training.processes import Processes, Seat, check_shares, joined
from edgetam_model.training.recipe import Recipe, read_recipe
from edgetam_model.training.trainer import OUTPUTS, WEIGHTS, Outcome, Sources, Trainer
from edgetam_model.weights import load_model

CANCELLED = 130
SAVING = "finishing the update and saving (Ctrl-C again: at once)"


@dataclass(frozen=True)
class TrainJob:
    """What to train and where to leave it.

    Attributes:
        recipe: name or file.
        out: folder for the results.
        config: sizes of a new model, by name; else `init`.
        init: first weights, as `load_model` takes them.
        teacher: weights of a model to learn from.
        data, held_out: annotated clips; none: made-up ones.
        textures: photographs for made-up clips.
        licence: of the weights; None: what the clips allow to say.
        resume: go on with the training in `out`.
        force: replace it.
        device: as `load_model` takes it.
        processes: that train together; several are on the CPU with a thread each, or on the GPUs in turn.
    """

    recipe: str
    out: Path
    config: str | None = None
    init: str | None = None
    teacher: str | None = None
    data: tuple[Path, ...] = ()
    held_out: tuple[Path, ...] = ()
    textures: Path | None = None
    licence: str | None = None
    resume: bool = False
    force: bool = False
    device: str = "auto"
    processes: int = 1

    def placed(self, rank: int) -> TrainJob:
        """The job of one of several processes: on a device of its own where there are as many.

        Raises:
            InputError: a device that several processes cannot be spread over.
        """
        if self.processes == 1:
            return self
        device = _named_device(self.device)
        if device not in {"cpu", "cuda"}:
            raise InputError("device", f"expected cpu or cuda for several processes, got {device!r}")
        gpus = torch.cuda.device_count() if device == "cuda" else 0
        return replace(self, device=f"cuda:{rank % gpus}" if gpus else device)


@dataclass(frozen=True)
class TrainReport:
    """How a training ended, for people and for machines."""

    outcome: Outcome
    steps: int
    out: Path

    def document(self) -> dict[str, Any]:
        """What --json prints."""
        scores = None
        if self.outcome.scores is not None:
            frames = [float(j) for j in self.outcome.scores.frames.split()]
            scores = asdict(self.outcome.scores) | {"frames": frames}
        weights = str(self.out / WEIGHTS) if self.outcome.finished else None
        return {
            "steps_done": self.outcome.step,
            "steps": self.steps,
            "finished": self.outcome.finished,
            "scores": scores,
            "weights": weights,
            "fingerprint": self.outcome.fingerprint,
            "out": str(self.out),
        }

    def print(self, *, as_json: bool) -> int:
        """Say it all; the exit code of the verb."""
        if not self.outcome.finished:
            complain(
                f"cancelled after update {self.outcome.step} of {self.steps}; --resume goes on from there"
            )
        if as_json:
            print_json(self.document())
        else:
            say(self._summary())
        return 0 if self.outcome.finished else CANCELLED

    def _summary(self) -> str:
        lines = [f"{self.outcome.step} of {self.steps} updates"]
        scores = self.outcome.scores
        if scores is not None:
            lines.append(
                f"held out, after update {scores.step}: J {scores.track:.3f} tracked ({scores.last:.3f} on "
                f"the last frame), IoU {scores.box:.3f} from a box, {scores.click:.3f} from a click"
            )
        lines += [f"{name:<20} {self.out / name}" for name in OUTPUTS if (self.out / name).exists()]
        return "\n".join(lines)


def run_job(job: TrainJob, meter: Meter) -> TrainReport:
    """Train to the end, or to the first Ctrl-C, after which --resume goes on.

    Raises:
        InputError: a recipe, config, data or folder that cannot be used.
        WeightsError: no such weights, or nothing to resume.
        EdgeTAMError: a loss that is not finite, or another process of the training that ended.
    """
    recipe = read_recipe(job.recipe)
    check_shares(recipe, job.processes)
    if not job.resume:
        check_free(job.out, OUTPUTS, force=job.force)
    meter.stage("preparing")
    prepared = _prepare(job.placed(0), recipe)
    make_folder(job.out)
    if job.force:
        for name in OUTPUTS:
            (job.out / name).unlink(missing_ok=True)
    with launched(job, job.processes, job.out) as processes, _threads(prepared, processes.count):
        trainer = prepared.trainer(processes)
        meter.note(_plan(trainer))
        meter.stage("training", recipe.steps, "updates", begun=trainer.step)
        return TrainReport(_train(trainer, meter), recipe.steps, job.out)


def follow_job(job: TrainJob, seat: Seat, ready: Callable[[], None]) -> None:
    """Train with the process that runs the same job and leads; nothing is written or shown.

    Args:
        ready: called when everything is prepared, and the others are met next.

    Raises:
        EdgeTAMError: see `run_job`.
    """
    prepared = _prepare(job.placed(seat.rank), read_recipe(job.recipe))
    with _threads(prepared, seat.count):
        ready()
        with joined(seat) as processes:
            prepared.trainer(processes).run()


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What a process trains with."""

    job: TrainJob
    recipe: Recipe
    model: EdgeTAM
    teacher: EdgeTAM | None
    sources: Sources

    def trainer(self, processes: Processes) -> Trainer:
        return Trainer(
            self.model,
            self.recipe,
            self.sources,
            self.job.out,
            teacher=self.teacher,
            resume=self.job.resume,
            processes=processes,
        )


def _prepare(job: TrainJob, recipe: Recipe) -> _Prepared:
    model = _first_model(job, recipe)
    if recipe.input_size and recipe.input_size != model.config.image_size:
        model = resized(model, recipe.input_size)
    teacher = None if job.teacher is None else load_model(job.teacher, str(model.device))
    return _Prepared(job, recipe, model, teacher, _sources(job, recipe, model))


def _train(trainer: Trainer, meter: Meter) -> Outcome:
    """To the end or to the first Ctrl-C, with the meter."""
    with Interrupts(lambda: meter.retitle(SAVING)) as interrupts:

        def show(row: LossRow) -> None:
            meter.reach(row.step)
            if not interrupts.requested():
                meter.retitle(f"{row.stage} stage, loss {row.total:.3f}")

        return trainer.run(show, interrupts.requested)


@contextmanager
def _threads(prepared: _Prepared, processes: int) -> Iterator[None]:
    """One thread for each of several processes on the CPU, within the block: more get in each other's way."""
    before = torch.get_num_threads()
    if processes > 1 and prepared.model.device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _first_model(job: TrainJob, recipe: Recipe) -> EdgeTAM:
    if job.init is not None:
        return load_model(job.init, job.device)
    if job.config is None or job.config not in CONFIGS:
        raise InputError("config", f"expected one of {', '.join(CONFIGS)}, got {job.config!r}")
    device = _named_device(job.device)
    try:
        return new_model(CONFIGS[job.config], recipe.seed).to(device)
    except (RuntimeError, AssertionError) as error:  # torch's for a device that is not there
        raise InputError("device", f"this machine has no {device!r} that torch can use") from error


def _named_device(device: str) -> str:
    """What "auto" stands for; other names as they are."""
    name = device if device != "auto" else os.environ.get("EDGETAM_DEVICE") or "auto"
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def _sources(job: TrainJob, recipe: Recipe, model: EdgeTAM) -> Sources:
    size = model.config.image_size
    if job.data:
        sources = annotated_sources(recipe, size, job.data, job.held_out)
    else:
        sources = synthetic_sources(recipe, size, model.device, job.textures)
    if recipe.validation.source == "photos":
        if job.held_out:
            raise InputError("validation.source", 'expected "same", since other clips are held out already')
        sources = with_photos_held_out(sources, recipe, size, model.device)
    return sources if job.licence is None else replace(sources, licence=job.licence)


def _plan(trainer: Trainer) -> str:
    numbers = sum(p.numel() for p in trainer.model.parameters())
    taught = "" if trainer.teacher is None else ", with a teacher"
    resumed = f", from update {trainer.step}" if trainer.step else ""
    return (
        f"{numbers / 1e6:.2f} million weights on {trainer.model.device}, {trainer.recipe.steps} updates"
        f"{resumed}, from {trainer.sources.origin}{taught}"
    )
