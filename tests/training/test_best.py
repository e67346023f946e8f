"""The best weights are kept, and a training knows when it gets no better."""

from __future__ import annotations

import torch
from torch import nn

from edgetam_model.training.best import Best


def layer(value: float) -> nn.Linear:
    made = nn.Linear(1, 1, bias=False)
    nn.init.constant_(made.weight, value)
    return made


def test_the_best_are_kept_not_the_last() -> None:
    best = Best(patience=2)
    for score, value in ((0.5, 1), (0.7, 2), (0.6, 3)):
        best.see(score, layer(value))
    assert (best.score, best.stale, best.is_stale) == (0.7, 1, False)
    assert best.weights["weight"].item() == 2
    best.see(0.7, layer(4))
    assert best.is_stale, "equal is not better"


def test_they_do_not_change_with_the_model() -> None:
    best, model = Best(patience=1), layer(1)
    best.see(0.1, model)
    with torch.no_grad():
        model.weight.fill_(9)
    assert best.weights["weight"].item() == 1


def test_without_patience_nothing_is_kept() -> None:
    best = Best(patience=0)
    for _ in range(5):
        best.see(0.1, layer(1))
    assert not best.is_stale
    assert best.tensors() == {}


def test_it_comes_back_from_its_tensors() -> None:
    best, other = Best(patience=2), Best(patience=2)
    best.see(0.1 + 0.2, layer(1))
    best.see(0.2, layer(2))
    other.restore(best.tensors())
    assert (other.score, other.stale) == (best.score, best.stale)
    assert other.weights.keys() == best.weights.keys()
    other.see(0.1, layer(3))
    assert other.is_stale


def test_nothing_seen_yet_comes_back_as_nothing() -> None:
    best = Best(patience=2)
    best.restore(Best(patience=2).tensors())
    assert best.weights == {}
