"""A team's stills and tracks take turns with made-up clips, and every recipe makes a training."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from edgetam_model.config import CONFIGS
from edgetam_model.masks import Mask
from edgetam_model.sources import Frame
from edgetam_model.training.annotated import AnnotatedClip
from edgetam_model.training.feed import ClipSource
from edgetam_model.training.fit_recipe import Mode, fit_recipe
from edgetam_model.training.fit_sources import ORIGIN, Turns, fit_sources
from edgetam_model.training.recipe import Recipe
from edgetam_model.training.trainer import WEIGHTS, Outcome, Trainer
from edgetam_model.weights import load_model
from tests.models import windowed_model
from tests.training.clips import Discs

SIZE = 64


class Square(AnnotatedClip):
    """A square of one shade on another."""

    def __init__(self, name: str, frames: int, shade: int) -> None:
        super().__init__(name)
        self._frames, self._shade = frames, shade

    def __len__(self) -> int:
        return self._frames

    def frame(self, index: int) -> Frame:
        rgb = np.full((48, 48, 3), 40, np.uint8)
        rgb[self.masks(index)[1]] = self._shade
        return rgb

    def masks(self, index: int) -> dict[int, Mask]:
        mask = np.zeros((48, 48), np.bool_)
        mask[10 : 30 + index, 12:34] = True
        return {1: mask}


def recipe(mode: Mode = "adapter", updates: int = 2) -> Recipe:
    return replace(fit_recipe(mode, windowed_model().config, updates), precision="float32")


def lengths(source: ClipSource, turns: int) -> list[int]:
    return [source.batch(0, 2 * turn, 2).frames.shape[1] for turn in range(turns)]


def test_turns_give_each_batch_to_one_source() -> None:
    source = Turns([Discs(1), Discs(3)])
    assert lengths(source, 4) == [1, 3, 1, 3]
    again = source.batch(0, 2, 2)
    assert torch.equal(again.frames, Discs(3).batch(0, 2, 2).frames)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [([1, 1], [1, 4, 1, 4]), ([5], [4, 4, 4, 4]), ([1, 5], [1, 4, 4, 4])],
    ids=["stills", "tracks", "both"],
)
def test_every_second_batch_is_made_up(frames: list[int], expected: list[int]) -> None:
    clips = [Square(str(i), length, 200) for i, length in enumerate(frames)]
    sources = fit_sources(recipe(), clips, [], SIZE, torch.device("cpu"))
    assert sources.origin == ORIGIN
    assert lengths(sources.training(4), 4) == expected


def test_what_is_held_back_is_what_is_validated_on() -> None:
    """The two differ by their shade."""
    sources = fit_sources(recipe(), [Square("a", 1, 250)], [Square("b", 1, 90)], SIZE, torch.device("cpu"))
    assert sources.held_out(1).batch(1, 0, 2).frames.max() == 90
    assert sources.training(4).batch(1, 0, 2).frames.max() == 250


def train(folder: Path, mode: Mode, *, patience: int = 0, updates: int = 2) -> Outcome:
    model = copy.deepcopy(windowed_model())
    plan = replace(
        fit_recipe(mode, model.config, updates, patience=patience), precision="float32", checkpoint_every=1
    )
    plan = replace(plan, validation=replace(plan.validation, clips=2))
    clips = [Square("a", 1, 200), Square("b", 5, 220)]
    folder.mkdir(exist_ok=True)
    sources = fit_sources(plan, clips, [Square("c", 1, 180)], SIZE, model.device)
    return Trainer(model, plan, sources, folder).run()


@pytest.mark.parametrize("mode", get_args(Mode))
def test_each_mode_writes_weights_that_load_and_keeps_what_it_should(mode: Mode, tmp_path: Path) -> None:
    assert train(tmp_path, mode).finished
    after = load_model(tmp_path / WEIGHTS, "cpu").state_dict()
    before = windowed_model().state_dict()
    assert after.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("refiner.") for name in moved)
    assert ("memory_encoder.out_proj.weight" in moved) == (mode == "full")
    assert any("trunk" in name for name in moved) == (mode == "full")
    assert not any("running_" in name for name in moved), "batch norms keep their statistics"


def test_a_training_that_gets_no_better_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.6, 0.4, 0.3, 0.2])
    monkeypatch.setattr("edgetam_model.training.validation.Scores.mean", property(lambda _: next(scores)))
    outcome = train(tmp_path, "decoder", patience=2, updates=20)
    assert (outcome.step, outcome.finished) == (8, True), "validated every second update, best after 4"
    assert load_model(tmp_path / WEIGHTS, "cpu")


def test_large_inputs_learn_in_little_memory() -> None:
    large, small = (fit_recipe("adapter", CONFIGS[name], 10).video for name in ("edgetam", "nano"))
    assert large.checkpointing
    assert not small.checkpointing
    assert large.batch * large.frames < small.batch * small.frames
