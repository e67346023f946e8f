"""Recipes come from files as they are written, and what is wrong in them is named."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.errors import InputError
from edgetam_model.training.recipe import LossWeights, PromptMix, Recipe, Stage, Validation, read_recipe


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'seed = 7\nprecision = "bfloat16"\n[video]\nsteps = 5\nlearning_rate = 1\nbetas = [0.8, 0.9]\n'
        "[video.prompts]\nclick = 0.5\n[synthetic]\nclose_size = [0.3, 0.5]\n"
    )
    recipe = read_recipe(path)
    assert (recipe.seed, recipe.precision) == (7, "bfloat16")
    assert (recipe.video.steps, recipe.video.betas) == (5, (0.8, 0.9))
    assert recipe.video.frames == Recipe().video.frames == 6, "the video stage's own default"
    assert isinstance(recipe.video.learning_rate, float)
    assert recipe.video.prompts == PromptMix(click=0.5)
    assert recipe.image == Recipe().image
    assert recipe.synthetic.close_size == (0.3, 0.5)
    assert recipe.loss == LossWeights()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stesp = 1", "recipe.stesp: unknown field"),
        ("[video]\nstesp = 1", "recipe.video.stesp: unknown field"),
        ("[video.prompts]\nclik = 1", "recipe.video.prompts.clik: unknown field"),
        ("[video]\nsteps = 1.5", "recipe.video.steps: expected int"),
        ("[video]\nsteps = true", "recipe.video.steps: expected int"),
        ("video = 3", "recipe.video: expected a table"),
        ("[video]\nbetas = [0.9]", "recipe.video.betas: expected 2 values"),
        ("[video]\nbetas = [0.9, 1.0]", "recipe.video.betas: expected two numbers"),
        ("[video]\nlearning_rate = nan", "recipe.video.learning_rate: expected a finite"),
        ("[video]\nlearning_rate = 0", "recipe.video.learning_rate: expected more than 0"),
        ("[video]\nbatch = 0", "recipe.video.batch: expected at least 1"),
        ("[video]\nforcing_end = 2", "recipe.video.forcing_end: expected at most 1"),
        ("[video]\nema = 1", "recipe.video.ema: expected less than 1"),
        ("[image]\nframes = 2", "recipe.image.frames: expected 1"),
        ("[image.prompts]\nbox = 0\nclick = 0", "recipe.image.prompts: expected boxes or clicks"),
        ("[image]\nsteps = 0\n[video]\nsteps = 0", "recipe.steps: expected a stage"),
        ('precision = "float16"', "recipe.precision: expected float32 or bfloat16"),
        ("seed = 990001", "recipe.validation.seed: expected another"),
        ("[video.prompts]\nmask = 0\nbox = 0\nclick = 0", "recipe.video.prompts.prompts: expected a share"),
        ("[synthetic]\nsize = 100", "recipe.synthetic.size: expected a multiple"),
        ("[windows]\np_flip = 2", "recipe.windows.p_flip: expected 0 to 1"),
        ("[loss]\nfocal = -1", "recipe.loss.focal: expected at least 0"),
        ("share = 1.5", "recipe.share: expected at most 1"),
        ("[loss]\nalpha = 1.5", "recipe.loss.alpha: expected at most 1"),
        ("[video", "recipe: .*not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_recipe(path)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not TOML"):
        read_recipe(path)
    with pytest.raises(InputError, match=r"expected .*smoke.* or a TOML file"):
        read_recipe(tmp_path)


@given(
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 10**6),
    rate=st.floats(1e-9, 1),
    click=st.floats(0, 5),
    every=st.integers(0, 100),
)
def test_a_recipe_survives_json(seed: int, steps: int, rate: float, click: float, every: int) -> None:
    recipe = Recipe(
        seed=seed,
        video=Stage(steps=steps, learning_rate=rate, prompts=PromptMix(click=click)),
        validation=Validation(every=every, seed=2**40),
    )
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@given(st.dictionaries(st.text(max_size=8), st.recursive(st.none() | st.integers() | st.text(), st.lists)))
def test_any_table_is_a_recipe_or_an_input_error(values: dict[str, object]) -> None:
    """Any other exception would fail the test."""
    with suppress(InputError):
        assert isinstance(Recipe.from_dict({"video": values}), Recipe)
