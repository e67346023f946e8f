from __future__ import annotations

import copy
from statistics import fmean

import pytest
import torch

from edgetam_model import load_model
from edgetam_model.config import CONFIGS
from edgetam_model.errors import InputError
from edgetam_model.training.forgetting import FORGETTING_SEED, ForgettingSet
from edgetam_model.training.held_out_clips import HELD_OUT_SEED
from edgetam_model.training.recipe import Validation
from tests.models import tiny_model

SMALL = ForgettingSet(clips=3, frames=3, size=64)


def test_the_set_is_the_same_whoever_asks() -> None:
    ticks: list[int] = []
    scores = SMALL.score(tiny_model(), lambda: ticks.append(1))
    assert len(scores) == len(ticks) == 3
    assert all(0 <= score <= 1 for score in scores)
    assert scores == SMALL.score(tiny_model())
    assert scores == ForgettingSet(clips=3, frames=3, size=64).score(tiny_model())
    assert scores != SMALL.score(tiny_model(seed=1))


def test_fewer_clips_are_the_first_ones() -> None:
    assert ForgettingSet(clips=2, frames=3, size=64).score(tiny_model()) == SMALL.score(tiny_model())[:2]


def test_what_it_calls_may_end_it() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        SMALL.score(tiny_model(), stop)


def test_nothing_else_begins_with_its_seed() -> None:
    seeds = {0, HELD_OUT_SEED, HELD_OUT_SEED + 1, HELD_OUT_SEED + 2, Validation().seed}
    assert FORGETTING_SEED not in seeds


def test_large_inputs_get_fewer_frames() -> None:
    large, small = (ForgettingSet.affordable(CONFIGS[name]) for name in ("edgetam", "nano"))
    assert small == ForgettingSet()
    assert large.clips * large.frames <= small.clips * small.frames / 4


def test_impossible_sets_are_refused() -> None:
    with pytest.raises(InputError, match="clips: expected 1 to"):
        ForgettingSet(clips=0).score(tiny_model())


def test_a_model_that_forgets_falls() -> None:
    model = load_model("default", "cpu")
    some = ForgettingSet(clips=2, frames=3)
    before = fmean(some.score(model))
    assert before > 0.85
    worse = copy.deepcopy(model)
    assert worse.refiner is not None
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for value in worse.refiner.parameters():
            value.add_(torch.randn_like(value) * 0.2)
    assert fmean(some.score(worse)) < before - 0.05
