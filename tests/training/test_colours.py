"""What colours show of training's objects: as the predictors' earlier results, at the roll-out's size."""

import numpy as np
import pytest
import torch
from torch import Tensor

from edgetam_model.colour_cut import CUT_LOGIT
from edgetam_model.model import normalised
from edgetam_model.training.colours import colour_cuts
from edgetam_model.training.feed import Rows
from edgetam_model.training.prompting import Clicks
from edgetam_model.training.recipe import PromptMix
from edgetam_model.training.rollout import Plan, Simulated, draw_plan, roll_out
from tests.models import tiny_model

SIDE = 64


def scene() -> tuple[Tensor, Tensor]:
    """(1, 3, S, S) network input with a red square on noisy grey, and the square's mask (1, S, S)."""
    random = np.random.default_rng(0)
    picture = random.integers(90, 130, (SIDE, SIDE, 3)).astype(np.float32)
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[20:44, 16:40] = True
    picture[mask] = random.normal((200, 30, 30), 5, (int(mask.sum()), 3))
    pixels = torch.from_numpy(picture.clip(0, 255)).permute(2, 0, 1)[None]
    return normalised(pixels), torch.from_numpy(mask)[None]


@pytest.mark.parametrize("kind", ["box", "click"])
def test_a_square_is_cut_out_by_its_colour(kind: str) -> None:
    images, masks = scene()
    if kind == "box":
        clicks = Clicks(torch.tensor([[[12.0, 16.0], [45.0, 49.0]]]), torch.tensor([[2, 3]]))
    else:
        clicks = Clicks(torch.tensor([[[28.0, 32.0]]]), torch.tensor([[1]]))
    rough = torch.where(masks.roll(4, 2), 2.0, -2.0)
    cut = colour_cuts(images, kind, clicks, rough)  # type: ignore[arg-type]
    assert cut.abs().max() == CUT_LOGIT
    assert ((cut > 0) & masks).sum() / ((cut > 0) | masks).sum() > 0.95


def test_where_colours_say_nothing_the_model_s_own_answer_stays() -> None:
    images, masks = scene()
    nothing = torch.full(masks.shape, -3.0)
    clicks = Clicks(torch.tensor([[[0.0, 0.0], [64.0, 64.0]]]), torch.tensor([[2, 3]]))
    assert torch.equal(colour_cuts(images, "box", clicks, nothing), nothing)  # no background is left


def test_a_roll_out_refines_what_the_colours_show(monkeypatch: pytest.MonkeyPatch) -> None:
    images, masks = scene()
    model = tiny_model()
    size = model.config.image_size
    images = torch.nn.functional.interpolate(images, (size, size))
    big = torch.nn.functional.interpolate(masks[:, None].float(), (size, size))[:, 0] > 0.5
    rows = Rows(images[:, None], torch.zeros(1, dtype=torch.long), big[:, None], torch.ones(1))
    asked: list[Tensor] = []

    def watched(*inputs: Tensor) -> Tensor:
        asked.append(colour_cuts(*inputs))  # type: ignore[arg-type]
        return asked[-1]

    monkeypatch.setattr("edgetam_model.training.rollout.colour_cuts", watched)
    simulated = Simulated(PromptMix(), torch.Generator().manual_seed(0))
    plan = Plan("box", None, 0, torch.zeros(1, 1, dtype=torch.bool), refined=True, coloured=True)
    coloured = roll_out(model, rows, plan, simulated)
    assert len(asked) == 1
    assert len(coloured.steps) == 2
    own = roll_out(model, rows, Plan("box", None, 0, plan.forced, refined=True), simulated)
    assert len(asked) == 1
    assert not torch.equal(own.steps[1].logits, coloured.steps[1].logits)


def test_only_refinements_are_coloured_and_as_often_as_asked() -> None:
    random = torch.Generator().manual_seed(5)
    plans = [draw_plan(PromptMix(refinements=0.5, colours=0.6), 4, 2, 0.0, random) for _ in range(500)]
    assert all(plan.refined for plan in plans if plan.coloured)
    refined = sum(plan.refined for plan in plans)
    assert 0.42 < refined / 500 < 0.58
    assert 0.5 < sum(plan.coloured for plan in plans) / refined < 0.7
