"""Pairs are timed in turn, and ratios are those of the rounds."""

from __future__ import annotations

import time

import pytest

from edgetam_model.bench.timing import paired, single


def test_the_slower_one_has_the_larger_number() -> None:
    def spin(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    pair = paired(lambda: spin(0.02), lambda: spin(0.005), rounds=5)
    assert pair.core_ratio == pytest.approx(4, rel=0.3)
    assert pair.candidate.core == pytest.approx(5, rel=0.3)
    assert pair.reference.least <= pair.reference.median <= pair.reference.most
    assert pair.to_dict()["rounds"] == 5


def test_the_first_time_does_not_count_and_order_changes() -> None:
    done: list[str] = []
    paired(lambda: done.append("a"), lambda: done.append("b"), rounds=3, turn=0)
    assert done == ["a", "b", "a", "b", "b", "a", "a", "b"]
    done.clear()
    assert single(lambda: done.append("c"), 4).median >= 0
    assert len(done) == 5


def test_a_turn_lasts_and_counts_as_the_mean_of_its_runs() -> None:
    done: list[str] = []

    def rest(name: str, seconds: float) -> None:
        done.append(name)
        time.sleep(seconds)

    pair = paired(lambda: rest("a", 0.05), lambda: rest("b", 0.005), rounds=1, turn=0.03)
    assert done[:3] == ["a", "b", "a"]
    assert done.count("a") == 2
    assert 2 <= done.count("b") <= 7
    assert pair.reference.median >= 50
    assert pair.candidate.median >= 5
