"""It learns, it repeats itself, and a training that was stopped ends in the same weights."""

from __future__ import annotations

import copy
import csv
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch

from edgetam_model.errors import EdgeTAMError, InputError, WeightsError
from edgetam_model.training.feed import ClipSource
from edgetam_model.training.journal import CURVES, LOSSES, SCORES, LossRow, ScoreRow
from edgetam_model.training.recipe import PromptMix, Recipe, Stage, Validation
from edgetam_model.training.state import read_state
from edgetam_model.training.synthetic.clips import ClipBatch
from edgetam_model.training.trainer import OUTPUTS, STATE, WEIGHTS, Outcome, Sources, Trainer
from edgetam_model.weights import load_model, read_weights
from tests.models import tiny_model
from tests.training.clips import Discs

SHORT = Recipe(
    seed=3,
    checkpoint_every=2,
    image=Stage(steps=3, batch=2, warmup=1, accumulation=2, ema=0.5),
    video=Stage(steps=3, batch=2, frames=3, warmup=1, objects=2, ema=0.5),
    validation=Validation(every=2, clips=2, frames=3),
)


class Once:
    """The same clips whatever is asked for."""

    def __init__(self, source: ClipSource) -> None:
        self._source = source

    def batch(self, seed: int, start: int, count: int) -> ClipBatch:
        return self._source.batch(0, 0, count)


SOURCES = Sources(Discs, Discs, licence="CC0-1.0", origin="discs")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def train(folder: Path, recipe: Recipe = SHORT, *, resume: bool = False, stop_at: int = 0) -> Outcome:
    folder.mkdir(exist_ok=True)
    trainer = Trainer(copy.deepcopy(tiny_model()), recipe, SOURCES, folder, resume=resume)
    return trainer.run(stop=lambda: trainer.step == stop_at)


def losses(folder: Path) -> list[dict[str, str]]:
    with (folder / LOSSES).open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same(one: Path, other: Path) -> None:
    """Equal bits in weights, averages and optimiser."""
    states = [read_state(folder / STATE) for folder in (one, other)]
    assert states[0].tensors.keys() == states[1].tensors.keys()
    for name, tensor in states[0].tensors.items():
        assert torch.equal(tensor, states[1].tensors[name]), name
    assert read_weights(one / WEIGHTS).fingerprint == read_weights(other / WEIGHTS).fingerprint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    outcome = train(folder)
    assert (outcome.step, outcome.finished) == (6, True)
    return folder


def test_everything_is_left_in_the_folder(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == set(OUTPUTS)
    rows = losses(whole)
    assert [row["stage"] for row in rows] == ["image"] * 3 + ["video"] * 3
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 7)]
    with (whole / SCORES).open() as file:
        scores = list(csv.DictReader(file))
    assert [row["step"] for row in scores] == ["2", "4", "6"]
    assert all(len(row["frames"].split()) == 2 for row in scores), "frames 1 and 2 of three"
    picture = cv2.imread(str(whole / CURVES))
    assert picture is not None
    assert picture.std() > 5


def test_the_weights_load_and_are_the_averaged_ones(whole: Path) -> None:
    weights = read_weights(whole / WEIGHTS)
    assert (weights.licence, weights.source, weights.trained) == ("CC0-1.0", "discs", True)
    state = read_state(whole / STATE)
    average, last = state.part("average"), state.part("model")
    assert all(torch.equal(weights.state[name], average[name]) for name in average)
    assert not torch.equal(average["no_mem_embed"], last["no_mem_embed"])
    assert load_model(whole / WEIGHTS, "cpu").fingerprint() == weights.fingerprint


def test_the_same_recipe_gives_the_same_bits(whole: Path, tmp_path: Path) -> None:
    train(tmp_path / "again")
    assert losses(tmp_path / "again") == losses(whole)
    assert_same(tmp_path / "again", whole)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_stopped_and_resumed_it_ends_in_the_same_bits(step: int, whole: Path, tmp_path: Path) -> None:
    """Within the image stage, between the stages, within the video stage."""
    outcome = train(tmp_path, stop_at=step)
    assert (outcome.step, outcome.finished) == (step, False)
    assert not (tmp_path / WEIGHTS).exists()
    assert train(tmp_path, resume=True).finished
    assert losses(tmp_path) == losses(whole)
    assert_same(tmp_path, whole)


def test_a_share_of_the_change_lies_between_the_first_weights_and_the_averaged_ones(tmp_path: Path) -> None:
    """Also of a training that was stopped; other first weights cannot take its place."""
    shared = replace(SHORT, share=0.25)
    train(tmp_path, shared, stop_at=3)
    with pytest.raises(InputError, match="another first"):
        Trainer(copy.deepcopy(tiny_model(seed=8)), shared, SOURCES, tmp_path, resume=True)
    train(tmp_path, shared, resume=True)
    written, first = read_weights(tmp_path / WEIGHTS).state, tiny_model().state_dict()
    last = read_state(tmp_path / STATE).part("average")
    moved = [name for name, tensor in last.items() if tensor.is_floating_point()]
    assert any(not torch.equal(first[name], last[name]) for name in moved)
    for name in moved:
        torch.testing.assert_close(written[name], first[name] + 0.25 * (last[name] - first[name]))


class Killed(BaseException):
    pass


def test_killed_it_goes_on_from_the_last_checkpoint(whole: Path, tmp_path: Path) -> None:
    def kill(row: LossRow) -> None:
        if row.step == 5:
            raise Killed

    trainer = Trainer(copy.deepcopy(tiny_model()), SHORT, SOURCES, tmp_path)
    with pytest.raises(Killed):
        trainer.run(kill)
    assert len(losses(tmp_path)) == 5
    assert read_state(tmp_path / STATE).step == 4, "every second update is kept"
    train(tmp_path, resume=True)
    assert losses(tmp_path) == losses(whole)
    assert_same(tmp_path, whole)


def test_the_loss_falls_on_clips_seen_again_and_again(tmp_path: Path) -> None:
    mix = PromptMix(corrections=0)
    recipe = replace(
        SHORT,
        image=Stage(steps=0),
        video=Stage(steps=20, batch=2, frames=3, warmup=2, learning_rate=3e-3, prompts=mix),
        validation=Validation(clips=2, frames=3),
    )

    def once(frames: int) -> ClipSource:
        return Once(Discs(frames))

    trainer = Trainer(copy.deepcopy(tiny_model()), recipe, Sources(once, once), tmp_path)
    seen: list[LossRow] = []
    outcome = trainer.run(seen.append)
    first, last = (sum(row.total for row in rows) / 5 for rows in (seen[:5], seen[-5:]))
    assert last < 0.5 * first
    assert isinstance(outcome.scores, ScoreRow)
    assert 0 <= outcome.scores.track <= 1


def test_bfloat16_stays_near_float32(tmp_path: Path) -> None:
    """Without corrective clicks, which a mask that differs in a pixel sends elsewhere."""
    image, video = (replace(stage, steps=1, prompts=PromptMix(corrections=0)) for stage in SHORT.stages)
    recipe = replace(SHORT, image=image, video=video)
    train(tmp_path / "full", recipe)
    train(tmp_path / "half", replace(recipe, precision="bfloat16"))
    for full, half in zip(losses(tmp_path / "full"), losses(tmp_path / "half"), strict=True):
        assert float(half["total"]) == pytest.approx(float(full["total"]), rel=0.05)
        assert half["total"] != full["total"]


def test_checkpointing_and_determinism_give_the_same_losses(whole: Path, tmp_path: Path) -> None:
    image, video = (replace(stage, checkpointing=True) for stage in SHORT.stages)
    train(tmp_path, replace(SHORT, image=image, video=video, deterministic=True))
    for one, other in zip(losses(tmp_path), losses(whole), strict=True):
        assert float(one["total"]) == pytest.approx(float(other["total"]), rel=1e-4)


def test_frozen_norms_keep_their_statistics(tmp_path: Path) -> None:
    before = {k: v.clone() for k, v in tiny_model().state_dict().items() if "running_mean" in k}
    video = replace(SHORT.video, steps=1, frozen_norms=True)
    train(tmp_path, replace(SHORT, image=replace(SHORT.image, steps=0), video=video))
    after = read_state(tmp_path / STATE).part("model")
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_another_recipe_cannot_be_resumed(whole: Path) -> None:
    other = replace(SHORT, seed=4)
    with pytest.raises(InputError, match="another recipe"):
        Trainer(copy.deepcopy(tiny_model()), other, SOURCES, whole, resume=True)


def test_a_damaged_or_missing_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not a training's state"):
        train(tmp_path, resume=True)
    (tmp_path / STATE).write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="not a training's state"):
        train(tmp_path, resume=True)


def test_a_loss_that_is_not_finite_ends_it_and_keeps_the_last_state(tmp_path: Path) -> None:
    model = copy.deepcopy(tiny_model())
    trainer = Trainer(model, SHORT, SOURCES, tmp_path)

    def spoil(row: LossRow) -> None:
        if row.step == 3:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))

    with pytest.raises(EdgeTAMError, match="update 4: the loss is nan"):
        trainer.run(spoil)
    assert read_state(tmp_path / STATE).step in {2, 3}
