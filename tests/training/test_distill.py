"""A student of any size is drawn towards its teacher."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgetam_model.config import CONFIGS
from edgetam_model.errors import InputError
from edgetam_model.model import EdgeTAM
from edgetam_model.training.distill import Adapters, align, teach
from edgetam_model.training.feed import to_rows
from edgetam_model.training.prompting import random_for
from edgetam_model.training.recipe import LossWeights, PromptMix, Recipe, Stage, Validation
from edgetam_model.training.rollout import Plan, Recorded, Rollout, Simulated, roll_out
from edgetam_model.training.state import read_state
from edgetam_model.training.trainer import STATE, Sources, Trainer
from tests.models import tiny_model
from tests.training.clips import Discs

WIDE = replace(CONFIGS["tiny"], image_size=192, width=64, patch_latents=16)  # a grid of 12 to the tiny's 8
NONE = PromptMix(corrections=0)


def teacher() -> EdgeTAM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return EdgeTAM(WIDE).eval().requires_grad_(False)


def rollouts(student: EdgeTAM, taught_by: EdgeTAM) -> tuple[Rollout, Rollout]:
    batch, objects = Discs(3).batch(0, 0, 2), torch.tensor([[0, 1], [0, 1]])
    plan = Plan("click", 1, 2, torch.zeros(3, 4, dtype=torch.bool))
    prompter = Recorded(Simulated(PromptMix(), random_for(0)))
    own = roll_out(student, to_rows(batch, objects, student.config.image_size), plan, prompter)
    size = taught_by.config.image_size
    factor = size / student.config.image_size
    return own, teach(taught_by, to_rows(batch, objects, size), plan, prompter.given, factor)


def test_the_teacher_gets_the_same_clicks_in_its_own_pixels() -> None:
    own, taught = rollouts(tiny_model(), teacher())
    assert len(own.steps) == len(taught.steps)
    for one, other in zip(own.steps, taught.steps, strict=True):
        if one.clicks is not None and other.clicks is not None:
            assert torch.equal(one.clicks.points * 1.5, other.clicks.points)
    assert not taught.features.requires_grad


def test_a_copy_with_unchanged_widths_is_aligned_already() -> None:
    own, taught = rollouts(tiny_model(), tiny_model())
    adapters = Adapters(CONFIGS["tiny"], CONFIGS["tiny"])
    with torch.no_grad():
        for adapter in (adapters.image, adapters.memory):
            adapter.weight.copy_(torch.eye(32)[:, :, None, None])
            adapter.bias.zero_()  # type: ignore[union-attr]
        alignment = align(adapters, own, taught)
    assert float(alignment.image) == pytest.approx(0, abs=1e-9)
    assert float(alignment.memory) == pytest.approx(0, abs=1e-9)


def test_the_distance_is_a_mean_of_squares() -> None:
    own, taught = rollouts(tiny_model(), tiny_model())
    adapters = Adapters(CONFIGS["tiny"], CONFIGS["tiny"])
    with torch.no_grad():
        for value in adapters.parameters():
            value.zero_()
        alignment = align(adapters, own, taught)
    assert float(alignment.image) == pytest.approx(float(taught.features.square().mean()), rel=1e-5)
    wanted = torch.stack(taught.attended).square().mean()
    assert float(alignment.memory) == pytest.approx(float(wanted), rel=1e-5)


def test_gradients_reach_student_and_adapters_but_not_the_teacher() -> None:
    student, expert = copy.deepcopy(tiny_model()).train(), teacher()
    adapters = Adapters(student.config, expert.config)
    alignment = align(adapters, *rollouts(student, expert))
    (alignment.image + alignment.memory).backward()
    assert all(p.grad is not None and p.grad.any() for p in adapters.parameters())
    for part in ("image_encoder", "memory_attention", "memory_encoder", "spatial_perceiver"):
        gradients = [p.grad for n, p in student.named_parameters() if n.startswith(part)]
        assert any(g is not None and bool(g.any()) for g in gradients), part
    assert all(p.grad is None for p in expert.parameters())


RECIPE = Recipe(
    checkpoint_every=0,
    loss=LossWeights(focal=0, dice=0, iou=0, presence=0),
    image=Stage(steps=6, batch=2, warmup=1, learning_rate=3e-3, prompts=NONE),
    video=Stage(steps=6, batch=2, frames=2, warmup=1, learning_rate=3e-3, prompts=NONE),
    validation=Validation(clips=1, frames=2),
)
SOURCES = Sources(Discs, Discs)


def test_training_brings_the_student_nearer_and_resumes(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    folders = [tmp_path / name for name in ("whole", "parts")]
    for folder in folders:
        folder.mkdir()
    whole = Trainer(copy.deepcopy(tiny_model()), RECIPE, SOURCES, folders[0], teacher=teacher())
    whole.run()
    assert whole.journal is not None
    rows = whole.journal.losses
    assert rows[-1].image_alignment < 0.9 * rows[0].image_alignment
    assert rows[-1].memory_alignment < 0.9 * rows[6].memory_alignment
    assert rows[0].memory_alignment == 0, "stills have no memories"

    part = Trainer(copy.deepcopy(tiny_model()), RECIPE, SOURCES, folders[1], teacher=teacher())
    part.run(stop=lambda: part.step == 8)
    with pytest.raises(InputError, match="another teacher"):
        Trainer(copy.deepcopy(tiny_model()), RECIPE, SOURCES, folders[1], resume=True)
    Trainer(copy.deepcopy(tiny_model()), RECIPE, SOURCES, folders[1], teacher=teacher(), resume=True).run()
    one, two = (read_state(folder / STATE).tensors for folder in folders)
    assert any(name.startswith("adapters/") for name in one)
    assert all(torch.equal(one[name], two[name]) for name in one)
