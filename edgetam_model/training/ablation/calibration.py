"""How many updates a budget of compute pays for, from a few that are measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from edgetam_model.model import EdgeTAM
from edgetam_model.training.ablation.plan import AblationOptions, Plan
from edgetam_model.training.ablation.variants import Variant
from edgetam_model.training.clip_sources import synthetic_sources
from edgetam_model.training.initial import new_model
from edgetam_model.training.recipe import Stage, Validation
from edgetam_model.training.trainer import STAGES, Sources, Trainer
from edgetam_model.weights import load_model

MEASURED = 10  # updates of each stage; the first of them, which warms up, is not counted
AIM = 0.97  # of the budget that the schedule is made for, so that few runs end before it does


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes with one thread in the block, so that seconds of the processor mean one core's."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def clip_sources(options: AblationOptions, variant: Variant) -> Sources:
    """Where all runs' clips come from.

    Raises:
        InputError: no such textures.
    """
    textures = Path(options.textures) if options.textures else None
    return synthetic_sources(options.recipe, variant.config.image_size, torch.device("cpu"), textures)


def load_teacher(options: AblationOptions, variant: Variant) -> EdgeTAM | None:
    """The variant's teacher, if it has one. Raises WeightsError or InputError for weights there are not."""
    return load_model(options.teacher, "cpu") if variant.taught else None


def make_plan(options: AblationOptions) -> Plan:
    """Measure, and give out updates: the same to all, or to each what the same compute pays for.

    Raises:
        InputError: no such textures or teacher.
        WeightsError: a teacher that cannot be read.
    """
    updates: dict[str, tuple[int, int]] = {}
    for variant in options.variants:
        if options.equal_compute or not updates:
            updates[variant.name] = _affordable(options, variant)
        else:
            updates[variant.name] = next(iter(updates.values()))
    return Plan(options, updates)


def _affordable(options: AblationOptions, variant: Variant) -> tuple[int, int]:
    """Updates of both stages, at least one of each that the recipe has."""
    seconds = update_seconds(options, variant)
    wanted = [stage.steps for stage in options.recipe.stages]
    share = AIM * options.budget / sum(n * s for n, s in zip(wanted, seconds, strict=True))
    image, video = (max(1, round(share * n)) if n else 0 for n in wanted)
    return image, video


def update_seconds(options: AblationOptions, variant: Variant) -> tuple[float, float]:
    """Seconds of the processor for an update of each stage; 0 for a stage that the recipe leaves out.

    Clips are used again only after a while, so the time to make them is measured by itself.
    """
    sources = clip_sources(options, variant)
    short = [replace(s, steps=MEASURED if s.steps else 0, warmup=0) for s in options.recipe.stages]
    still = Validation(clips=1, frames=1, seed=options.recipe.validation.seed)
    recipe = replace(options.recipe, image=short[0], video=short[1], validation=still, checkpoint_every=0)
    marks: dict[str, list[float]] = {stage: [] for stage in STAGES}
    with one_thread(), TemporaryDirectory() as folder:
        model, teacher = new_model(variant.config, recipe.seed), load_teacher(options, variant)
        trainer = Trainer(model, recipe, sources, Path(folder), teacher=teacher)
        trainer.run(lambda row: marks[row.stage].append(time.process_time()))
        making = [_making_seconds(sources, stage, recipe.seed) for stage in short]
    image, video = (
        max((times[-1] - times[0]) / (len(times) - 1) - saved, 1e-6) if times else 0.0
        for times, saved in zip(marks.values(), making, strict=True)
    )
    return image, video


def _making_seconds(sources: Sources, stage: Stage, seed: int) -> float:
    """What using clips again saves per update."""
    if not stage.steps or stage.reuse == 1:
        return 0.0
    source = sources.training(stage.frames)
    start = time.process_time()
    source.batch(seed, 0, stage.batch)
    seconds = (time.process_time() - start) * stage.accumulation
    return seconds * (1 - 1 / stage.reuse)
