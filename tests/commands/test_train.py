"""`edgetam train`, from words to weights."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgetam_model.commands import train
from edgetam_model.errors import InputError, WeightsError
from edgetam_model.training.recipe import packaged_recipes, read_recipe
from edgetam_model.training.trainer import OUTPUTS, STATE, WEIGHTS
from edgetam_model.weights import load_model, read_weights

RECIPE = """
checkpoint_every = 0
[image]
steps = 2
batch = 2
warmup = 1
[video]
steps = 2
batch = 1
frames = 2
warmup = 1
[validation]
clips = 1
frames = 2
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    torch.set_num_threads(1)
    path = tmp_path / "short.toml"
    path.write_text(RECIPE)
    return str(path)


def edgetam_train(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    train.register(parser.add_subparsers())
    args = parser.parse_args(["train", *map(str, words), "--device", "cpu"])
    return int(args.run(args))


def test_from_nothing_to_weights(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert edgetam_train("--recipe", recipe, "--config", "tiny", "--out", out, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["steps_done"], said["finished"]) == (4, True)
    assert said["scores"]["frames"] == [pytest.approx(said["scores"]["track"], abs=1e-4)]
    assert {path.name for path in out.iterdir()} == set(OUTPUTS)
    weights = read_weights(out / WEIGHTS)
    assert weights.fingerprint == said["fingerprint"]
    assert (weights.licence, weights.source) == ("Apache-2.0", "synthetic clips")
    assert bool(weights.state["maskmem_tpos_enc"].any()), "ages differ from the start"


def test_nothing_is_replaced_unless_asked(recipe: str, tmp_path: Path) -> None:
    words = ("--recipe", recipe, "--config", "tiny", "--out", tmp_path)
    (tmp_path / STATE).write_text("precious")
    with pytest.raises(InputError, match="--force"):
        edgetam_train(*words)
    assert edgetam_train(*words, "--force") == 0
    assert edgetam_train(*words, "--resume") == 0, "nothing is left to do"


def test_going_on_from_weights_with_a_teacher(recipe: str, tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "out"
    words = ("--recipe", recipe, "--init", weights, "--teacher", weights, "--out", out)
    assert edgetam_train(*words, "--licence", "CC0-1.0") == 0
    assert read_weights(out / WEIGHTS).licence == "CC0-1.0"
    assert load_model(out / WEIGHTS, "cpu").config == load_model(weights, "cpu").config


def test_the_first_interrupt_saves_and_resuming_ends_the_same(recipe: str, tmp_path: Path) -> None:
    words = ["--recipe", recipe, "--config", "tiny", "--device", "cpu"]
    script = (
        "import sys; from tests.commands.test_train import interrupted; sys.exit(interrupted(sys.argv[1:]))"
    )
    stopped = subprocess.run(
        [sys.executable, "-c", script, *words, "--out", str(tmp_path / "two")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert stopped.returncode == 130, stopped.stderr
    assert "cancelled after update 3 of 4" in stopped.stderr
    assert not (tmp_path / "two" / WEIGHTS).exists()
    assert edgetam_train(*words, "--out", tmp_path / "two", "--resume") == 0
    assert edgetam_train(*words, "--out", tmp_path / "one") == 0
    one, two = (read_weights(tmp_path / name / WEIGHTS).fingerprint for name in ("one", "two"))
    assert one == two


def interrupted(words: list[str]) -> int:
    """Train, with Ctrl-C during the third update; run in a process of its own."""
    from edgetam_model.training import trainer

    learn = trainer.Trainer._learn

    def press(self: trainer.Trainer, *args: object) -> object:
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return learn(self, *args)  # type: ignore[arg-type]

    trainer.Trainer._learn = press  # type: ignore[method-assign, assignment]
    return edgetam_train(*words)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--config", "huge"), "config: expected one of"),
        (("--config", "tiny", "--held-out", "x"), "held-out: needs --data"),
        (("--config", "tiny", "--data", "x", "synthetic"), "data: expected paths"),
        (("--config", "tiny", "--data", "x", "--textures", "y"), "textures: only made-up"),
        (("--config", "tiny", "--data", "nowhere"), "data: expected a folder"),
        (("--config", "tiny", "--resume", "--force"), "resume: excludes"),
    ],
)
def test_bad_words(words: tuple[str, ...], problem: str, recipe: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=problem):
        edgetam_train("--recipe", recipe, "--out", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_an_unknown_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe: expected .*smoke"):
        edgetam_train("--recipe", "nowhere", "--config", "tiny", "--out", tmp_path / "out")


def test_nothing_to_resume(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not a training's state"):
        edgetam_train("--recipe", recipe, "--config", "tiny", "--out", tmp_path, "--resume")


def test_every_packaged_recipe_can_be_read() -> None:
    assert "smoke" in packaged_recipes()
    assert all(read_recipe(name).steps for name in packaged_recipes())
