"""The loop: clips in, updates of the weights, and everything on disk to go on from or to read."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgetam_model.errors import EdgeTAMError, InputError, WeightsError
from edgetam_model.model import EdgeTAM, fingerprint
from edgetam_model.training.best import Best
from edgetam_model.training.distill import Adapters, align, teach
from edgetam_model.training.feed import ClipSource, choose_objects, to_rows
from edgetam_model.training.feeder import Feeder
from edgetam_model.training.initial import resized
from edgetam_model.training.interpolation import interpolated
from edgetam_model.training.journal import CURVES, LOSSES, SCORES, Journal, LossRow, ScoreRow
from edgetam_model.training.losses import step_losses
from edgetam_model.training.optimise import average, forcing_at, make_optimizer, rate_at, update
from edgetam_model.training.processes import Processes, SharedNorms, check_shares, mean_losses
from edgetam_model.training.prompting import random_for
from edgetam_model.training.recipe import Recipe, Stage
from edgetam_model.training.rollout import Recorded, Simulated, draw_plan, roll_out
from edgetam_model.training.state import (
    TrainingState,
    named,
    optimizer_tensors,
    read_state,
    restore_optimizer,
    save_state,
)
from edgetam_model.training.synthetic.clips import ClipBatch
from edgetam_model.training.tuning import merged, tune
from edgetam_model.training.validation import Scores, validate
from edgetam_model.weights_file import check_entries, save_weights

STATE, WEIGHTS = "state.safetensors", "weights.safetensors"
OUTPUTS = (STATE, WEIGHTS, LOSSES, SCORES, CURVES)
STAGES = ("image", "video")

OpenClips = Callable[[int], ClipSource]  # frames of a clip → where such clips come from
Progress = Callable[[LossRow], None]


@dataclass(frozen=True)
class Outcome:
    """How a call of `Trainer.run` ended.

    Attributes:
        step: updates done.
        finished: whether the weights are written: after all of them, or when nothing got better for long;
            else the training was asked to stop.
        scores: the last validation, if there was one.
        fingerprint: of the weights that were written, "" unless finished.
    """

    step: int
    finished: bool
    scores: ScoreRow | None
    fingerprint: str = ""


@dataclass(frozen=True)
class Sources:
    """Where clips come from.

    Attributes:
        training: opens clips of so many frames to learn from.
        held_out: opens clips of so many frames to validate on.
        licence, origin: of the weights that come out, as `save_weights` takes them.
    """

    training: OpenClips
    held_out: OpenClips
    licence: str = "unknown"
    origin: str = ""


class Trainer:
    """Trains a model by a recipe, in a folder of its own.

    The same recipe, first weights and clips give the same weights bit for bit on one kind of CPU, whether
    the training was stopped and resumed or not. On a GPU that takes `deterministic` in the recipe.

    Args:
        model: trained in place, on its device; afterwards it may have adapters.
        recipe: how.
        sources: where clips come from.
        folder: for state, weights, tables and curves; it exists.
        teacher: distil from it: in eval mode, on the same device.
        resume: go on from the state in the folder.
        processes: who train together, each with a model and a trainer of its own; all but the one that
            leads leave nothing in the folder. Their number changes weights by rounding only.

    Raises:
        InputError: the processes cannot share the recipe's updates; there is a state to resume, but of
            another recipe, model or teacher.
        WeightsError: there is no state to resume, or it cannot be read.
    """

    def __init__(
        self,
        model: EdgeTAM,
        recipe: Recipe,
        sources: Sources,
        folder: Path,
        *,
        teacher: EdgeTAM | None = None,
        resume: bool = False,
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes or Processes()
        check_shares(recipe, self.processes.count)
        self._first = _copied(model.state_dict()) if recipe.share < 1 else {}
        self.model = tune(model, recipe.tuning, recipe.seed)
        self.recipe = recipe
        self.sources = sources
        self.folder = folder
        self.teacher = teacher
        self.averaged = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.best = Best(recipe.validation.patience)
        self.adapters = self._make_adapters()
        self.step = 0
        self._stage = -1
        self._optimizer: torch.optim.AdamW | None = None
        self._feeder: Feeder | None = None
        if resume:
            self._restore(read_state(folder / STATE))
        self.journal = Journal(folder, self.step) if self.processes.leads else None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name."""
        own = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if self.adapters is not None:
            own |= {f"adapters.{name}": p for name, p in self.adapters.named_parameters()}
        return own

    def run(self, progress: Progress | None = None, stop: Callable[[], bool] | None = None) -> Outcome:
        """Train to the end of the recipe, or until `stop` says so after an update; either way all is saved.

        Args:
            progress: called after each update; what it raises ends the training without saving.
            stop: asked after each update.

        Raises:
            EdgeTAMError: a loss that is not finite, a file that cannot be written, or a process that is lost.
        """
        start = time.monotonic()
        with _determinism(self.recipe.deterministic), _without_denormals(), self._feeding():
            while self.step < self.recipe.steps and not self.best.is_stale:
                row = replace(self._update(), seconds=round(time.monotonic() - start, 3))
                self._note(row)
                if progress is not None:
                    progress(row)
                if self.processes.leads:
                    self._validate_if_due()
                asked = stop is not None and stop()
                ends = self.processes.agree(asked or self.best.is_stale)
                if self.processes.leads:
                    self._save_if_due(stopping=ends)
                if ends and self.step < self.recipe.steps and not self.best.is_stale:
                    return Outcome(self.step, False, self._last_scores())
            return self._finish()

    @contextmanager
    def _feeding(self) -> Iterator[None]:
        """No thread outlives the block."""
        try:
            yield
        finally:
            self._stop_feeding()

    def _stop_feeding(self) -> None:
        if self._feeder is not None:
            self._feeder.close()
            self._feeder = None

    def _note(self, row: LossRow | ScoreRow) -> None:
        if self.journal is not None:
            self.journal.add(row)

    def _finish(self) -> Outcome:
        if not self.processes.leads:
            return Outcome(self.step, True, None)
        if self.best.weights:
            self.averaged.load_state_dict(self.best.weights)
        written = merged(self.averaged)
        if self._first:
            written.load_state_dict(interpolated(self._first, written.state_dict(), self.recipe.share))
        if self.recipe.output_size:
            written = resized(written, self.recipe.output_size)
        name = save_weights(
            self.folder / WEIGHTS,
            written,
            written.config,
            licence=self.sources.licence,
            source=self.sources.origin,
        )
        return Outcome(self.step, True, self._last_scores(), name)

    def _last_scores(self) -> ScoreRow | None:
        return self.journal.scores[-1] if self.journal is not None and self.journal.scores else None

    def _validate_if_due(self) -> None:
        every = self.recipe.validation.every
        if self.step >= self.recipe.steps or (every and self.step % every == 0):
            self._validate()

    def _save_if_due(self, *, stopping: bool) -> None:
        every = self.recipe.checkpoint_every
        ends = (self.recipe.image.steps, self.recipe.steps)
        if stopping or self.step in ends or (every and self.step % every == 0):
            self._save()
            if self.journal is not None:
                self.journal.draw()

    def _validate(self) -> None:
        options = self.recipe.validation
        clips = self.sources.held_out(options.frames)
        scores: Scores = validate(self.averaged, clips, options, self.recipe.video.batch)
        last = scores.track[-1] if scores.track else 0.0
        frames = " ".join(f"{j:.4f}" for j in scores.track)
        row = ScoreRow(self.step, scores.box, scores.click, scores.mean_track, last, frames)
        self._note(row)
        self.best.see(scores.mean, self.averaged)

    def _update(self) -> LossRow:
        """One update: all its batches forward and backward, one step of the optimiser, the average."""
        number, stage, done = self._enter()
        assert self._optimizer is not None
        self.model.train()
        if stage.frozen_norms:
            _freeze_norms(self.model)
        means = self._learn_share(stage, done)
        if not math.isfinite(means["total"]):
            raise EdgeTAMError(
                f"update {self.step + 1}: the loss is {means['total']}; try a lower learning rate"
            )
        self.processes.add_gradients(self.parameters.values())
        rate = rate_at(stage, done)
        norm = update(self._optimizer, rate, stage.clip_norm)
        self.step += 1
        average(self.averaged, self.model, stage.ema, self.step)
        return LossRow(step=self.step, stage=STAGES[number], rate=rate, norm=norm, seconds=0.0, **means)

    def _enter(self) -> tuple[int, Stage, int]:
        """The stage of the next update, with an optimiser of its own, and its updates done."""
        number = 0 if self.step < self.recipe.image.steps else 1
        stage = self.recipe.stages[number]
        if number != self._stage:
            self._stage = number
            self._optimizer = make_optimizer(self.parameters, stage)
            self._stop_feeding()
        if self._feeder is None:
            source = self.sources.training(stage.frames)
            self._feeder = Feeder(source, self.recipe.seed, stage.batch, stage.reuse, self.processes.count)
        return number, stage, self.step - number * self.recipe.image.steps

    def _learn_share(self, stage: Stage, done: int) -> dict[str, float]:
        """This process's batches of an update; the mean losses of all."""
        parts = self.processes.share(stage.accumulation)
        norms = SharedNorms(self.model, stage.accumulation, self.processes)
        losses = []
        for part in parts:
            norms.begin()
            losses.append(self._learn(stage, done, part))
            norms.end(part)
        norms.put_together()
        return mean_losses(self.processes, parts, losses, stage.accumulation)

    def _learn(self, stage: Stage, done: int, part: int) -> dict[str, float]:
        """Forward and backward of one batch; its losses, the weighted total among them."""
        assert self._feeder is not None
        turn = done * stage.accumulation + part
        random = random_for(self.recipe.seed, self._stage, turn)
        batch = self._feeder.batch(turn, random)
        losses = self._forward(batch, stage, forcing_at(stage, done), random)
        (losses["total"] / stage.accumulation).backward()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _forward(
        self, batch: ClipBatch, stage: Stage, forcing: float, random: torch.Generator
    ) -> dict[str, Tensor]:
        """The roll-out of a batch against the truth, and against the teacher's where there is one."""
        batch = _on(batch, self.model.device)
        objects = choose_objects(batch, stage.objects, random)
        rows = to_rows(batch, objects, self.model.config.image_size)
        plan = draw_plan(stage.prompts, rows.frames, len(rows.clip), forcing, random)
        prompter = Recorded(Simulated(stage.prompts, random))
        weights = self.recipe.loss
        with self._autocast(), _adapted_once(stage):
            rollout = roll_out(self.model, rows, plan, prompter, checkpointing=stage.checkpointing)
            terms = [
                step_losses(step, rows.masks[:, step.frame], rows.weight, weights) for step in rollout.steps
            ]
            zero = rollout.features.new_zeros((), dtype=torch.float32)
            image, memory = zero, zero
            if self.teacher is not None and self.adapters is not None:
                size = self.teacher.config.image_size
                factor = size / self.model.config.image_size
                taught = teach(self.teacher, to_rows(batch, objects, size), plan, prompter.given, factor)
                alignment = align(self.adapters, rollout, taught)
                image, memory = alignment.image, alignment.memory
        task = torch.stack([term.total(weights) for term in terms]).mean()
        total = task + weights.image_alignment * image + weights.memory_alignment * memory
        parts = {
            name: torch.stack([getattr(term, name) for term in terms]).mean()
            for name in ("focal", "dice", "iou", "presence")
        }
        return {"total": total, **parts, "image_alignment": image, "memory_alignment": memory}

    def _autocast(self) -> torch.autocast:
        low = self.recipe.precision == "bfloat16"
        return torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=low)

    def _make_adapters(self) -> Adapters | None:
        """Adapters with first weights from the recipe's seed, the caller's random numbers untouched."""
        if self.teacher is None:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.recipe.seed)
            return Adapters(self.model.config, self.teacher.config).to(self.model.device)

    def _facts(self) -> dict[str, Any]:
        """What must be the same for a training to go on."""
        return {
            "recipe": self.recipe.to_dict(),
            "config": self.model.config.to_dict(),
            "teacher": None if self.teacher is None else self.teacher.fingerprint(),
            "origin": self.sources.origin,
            "first": fingerprint(self.model.config, self._first) if self._first else None,
        }

    def _save(self) -> None:
        assert self._optimizer is not None
        tensors = named("model", self.model.state_dict()) | named("average", self.averaged.state_dict())
        tensors |= named("optimizer", optimizer_tensors(self._optimizer, self.parameters))
        tensors |= named("best", self.best.tensors())
        if self.adapters is not None:
            tensors |= named("adapters", self.adapters.state_dict())
        save_state(self.folder / STATE, TrainingState(self.step, self._facts(), tensors))

    def _restore(self, state: TrainingState) -> None:
        own = TrainingState(0, self._facts(), {}).plain_facts()
        for name, value in own.items():
            if state.facts.get(name) != value:
                raise InputError("resume", f"the training in {self.folder} has another {name}")
        where = str(self.folder / STATE)
        check_entries(state.part("model"), self.model.state_dict(), where)
        check_entries(state.part("average"), self.averaged.state_dict(), where)
        self.model.load_state_dict(state.part("model"))
        self.averaged.load_state_dict(state.part("average"))
        self.best.restore(state.part("best"))
        if self.adapters is not None:
            check_entries(state.part("adapters"), self.adapters.state_dict(), where)
            self.adapters.load_state_dict(state.part("adapters"))
        self.step = state.step
        if not 0 < self.step <= self.recipe.steps:
            raise WeightsError(f"{where}: damaged: {self.step} updates of {self.recipe.steps}")
        self._stage = 0 if self.step <= self.recipe.image.steps else 1  # the optimiser's that was saved
        self._optimizer = make_optimizer(self.parameters, self.recipe.stages[self._stage])
        restore_optimizer(self._optimizer, self.parameters, state.part("optimizer"))


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _on(batch: ClipBatch, device: torch.device) -> ClipBatch:
    return ClipBatch(
        batch.frames.to(device),
        batch.masks.to(device),
        batch.present.to(device),
        batch.objects.to(device),
        batch.indices.to(device),
    )


def _adapted_once(stage: Stage) -> AbstractContextManager[None]:
    """Put an adapted weight together once a batch; not where it is computed again for the gradients."""
    return nullcontext() if stage.checkpointing else parametrize.cached()


def _freeze_norms(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """Refuse operations that are not deterministic, within the block."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Numbers below 1e-38 count as 0 within the block, on this thread: on a CPU each costs a hundred times a
    normal one, and the softmax over remembered places makes many."""
    before = _flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _flushes_denormals() -> bool:
    return float(torch.tensor(1e-39) * 1) == 0
