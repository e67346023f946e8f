"""The benchmark runs its cases on a small model; what it says is put together rightly."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from edgetam_model.bench.machine import peak_memory, this_machine
from edgetam_model.bench.scenes import Tracking
from edgetam_model.bench.suite import BenchOptions, Row, run
from edgetam_model.commands.bench_plot import plot_growth
from edgetam_model.model import EdgeTAM
from edgetam_model.runtime.choosing import RuntimeOptions
from tests.models import tiny_at, tiny_model, windowed_model


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    options = BenchOptions({"torch": RuntimeOptions("torch")}, (1, 2), 1, published=False, frames=3, turn=0)
    return list(run(options, copy.deepcopy(tiny_model()), lambda what: None))


def test_every_case_is_there(rows: list[Row]) -> None:
    cases = [row.case for row in rows]
    assert cases == [
        *("image encoder", "memory attention", "mask decoder", "memory encoder"),
        *("a frame, 1 object", "first click", "second click", "3 frames, 640 x 360"),
        "a frame, 2 objects",  # after all else, which it might change
    ]
    by_case = {row.case: row for row in rows}
    # Two objects share the encoder and nothing else.
    one, two = (by_case[f"a frame, {count}"].gflop for count in ("1 object", "2 objects"))
    encoder = by_case["image encoder"].gflop
    assert two == pytest.approx(2 * one - encoder, rel=0.02)
    assert "frames/s" in by_case["3 frames, 640 x 360"].note
    assert json.loads(json.dumps([row.to_dict() for row in rows]))


@pytest.mark.parametrize("make", [tiny_model, windowed_model])
def test_a_step_is_the_tracker_s(make: Callable[[], EdgeTAM]) -> None:
    model = make()
    logits = Tracking(model, 3).step()
    side = model.config.mask_size
    assert logits.shape == (3, side, side)
    assert np.isfinite(logits).all()


def test_the_picture_has_a_line_for_each_runtime(rows: list[Row]) -> None:
    picture = plot_growth(rows)
    assert picture.shape == (420, 1520, 3)
    objects, frames = (
        {tuple(colour) for colour in half.reshape(-1, 3).tolist()} for half in np.split(picture, 2, axis=1)
    )
    assert {(200, 30, 60), (40, 120, 190)} <= objects
    assert (200, 30, 60) in frames


def test_a_video_s_frames_have_their_cost(rows: list[Row]) -> None:
    (growth,) = (row.growth for row in rows if row.growth)
    assert [frame for frame, _ in growth] == [1, 2]
    assert all(0 < cost < 1e5 for _, cost in growth)


def test_the_fast_mode_counts_its_own_work() -> None:
    options = BenchOptions({"torch": RuntimeOptions("torch")}, (1,), 1, published=False, frames=2, turn=0)
    cases = {row.case: row for row in run(options, tiny_at(1024), lambda what: None)}
    whole, fast = cases["a frame, 1 object"].gflop, cases["a frame, 1 object, fast"].gflop
    assert fast < whole / 3


def test_the_machine_is_named() -> None:
    machine = this_machine()
    assert machine.processor
    assert machine.cores >= 1
    assert machine.peak_fp32 > 1
    assert machine.torch == torch.__version__
    assert 50 < peak_memory() < 1e6
