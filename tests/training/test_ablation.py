"""Variants differ in one thing, runs stop and go on, and the table says what was found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgetam_model.config import CONFIGS
from edgetam_model.errors import EdgeTAMError, InputError
from edgetam_model.training.ablation import calibration
from edgetam_model.training.ablation.plan import PLAN, AblationOptions, Plan, read_plan
from edgetam_model.training.ablation.runs import (
    COMPUTE,
    RESULT,
    Compute,
    RunResult,
    read_compute,
    read_result,
    train_run,
)
from edgetam_model.training.ablation.scores import Cost, RunScores, measure_cost, score
from edgetam_model.training.ablation.table import make_row, to_document, to_markdown
from edgetam_model.training.ablation.variants import plain, variants_of
from edgetam_model.training.journal import LossRow
from edgetam_model.training.recipe import PromptMix, Recipe, Stage, Validation
from edgetam_model.training.trainer import STATE, WEIGHTS
from edgetam_model.weights import load_model, read_weights, save_weights
from tests.models import tiny_model
from tests.training.clips import Discs

TINY = CONFIGS["tiny"]
SHORT = Recipe(
    checkpoint_every=1,
    size=64,
    image=Stage(steps=2, batch=1, prompts=PromptMix(corrections=0)),
    video=Stage(steps=4, batch=1, frames=2, prompts=PromptMix(corrections=0)),
    validation=Validation(clips=2, frames=3),
)
OPTIONS = AblationOptions("perceiver", TINY, SHORT, minutes=0.01, seeds=2, only=("both", "global"))
PLAN_OF_TWO = Plan(OPTIONS, {"both": (1, 2), "global": (1, 2)})


def never() -> bool:
    return False


def test_the_perceivers_variants_remember_what_their_names_say() -> None:
    configs = {v.name: v.config for v in variants_of("perceiver", TINY)}
    latents = {name: (c.global_latents, c.patch_latents) for name, c in configs.items()}
    assert latents == {
        "both": (12, 16),
        "global": (28, 0),
        "patch": (0, 16),
        "pooled": (0, 16),
        "dense": (0, 64),
    }
    assert [name for name, c in configs.items() if c.pooled_memories] == ["pooled", "dense"]
    alike = {replace(c, global_latents=12, patch_latents=16, pooled_memories=False) for c in configs.values()}
    assert alike == {TINY}, "nothing else differs"


def test_a_plain_config_has_the_memory_attention_alone() -> None:
    config = plain(CONFIGS["nano"])
    assert (config.window_scale, config.evidence_width, config.refine_width) == (0, 0, 0)
    assert config.mask_size == config.low_res


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"kind": "weather"}, "kind: expected perceiver or distillation"),
        ({"base": replace(TINY, global_latents=0)}, "config: expected one with global"),
        ({"minutes": 0.0}, "minutes: expected more than 0"),
        ({"minutes": float("nan")}, "minutes: expected more than 0"),
        ({"seeds": 0}, "seeds: expected at least 1"),
        ({"only": ("both", "none")}, "only: expected some of both, global"),
        ({"teacher": "default"}, "teacher: expected"),
        ({"kind": "distillation", "only": ()}, "teacher: expected"),
        ({"recipe": replace(SHORT, seed=990_000)}, "seeds: the validation's seed"),
    ],
)
def test_options_that_cannot_be_are_named(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=f"^{problem}"):
        replace(OPTIONS, **changes)  # type: ignore[arg-type]


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    PLAN_OF_TWO.save(tmp_path)
    assert read_plan(tmp_path) == PLAN_OF_TWO
    names = [run.name for run in PLAN_OF_TWO.runs]
    assert names == ["both-0", "global-0", "both-1", "global-1"], "seed by seed"
    assert [run.recipe.seed for run in PLAN_OF_TWO.runs] == [0, 0, 1, 1]
    recipe = PLAN_OF_TWO.run("global-1").recipe
    assert (recipe.image.steps, recipe.video.steps, recipe.image.warmup) == (1, 2, 0)
    with pytest.raises(InputError, match="run: expected one of both-0"):
        PLAN_OF_TWO.run("both-2")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"options": {}, "updates": {}}', '{"options": 3, "updates": {"both": 1}}', "\0"],
)
def test_a_damaged_plan_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / PLAN).write_text(text)
    with pytest.raises(InputError, match="not a plan of this release"):
        read_plan(tmp_path)


def test_a_plan_without_a_variants_updates_is_refused(tmp_path: Path) -> None:
    Plan(OPTIONS, {"both": (1, 2)}).save(tmp_path)
    with pytest.raises(InputError, match="no updates for global"):
        read_plan(tmp_path)
    with pytest.raises(InputError, match="no ablation in"):
        read_plan(tmp_path / "elsewhere")


def test_budgets_become_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal updates by the first variant's time, or each by its own, in the recipe's ratio of 1 : 2."""
    times = {"both": (1.0, 2.0), "global": (9.0, 9.0), "alone": (1.0, 2.0), "taught": (2.0, 4.0)}
    monkeypatch.setattr(calibration, "update_seconds", lambda _, variant: times[variant.name])
    monkeypatch.setattr(calibration, "AIM", 1.0)
    equal = calibration.make_plan(replace(OPTIONS, minutes=10))
    assert equal.updates == {"both": (120, 240), "global": (120, 240)}
    fair = AblationOptions("distillation", TINY, SHORT, minutes=10, teacher="any")
    assert calibration.make_plan(fair).updates == {"alone": (120, 240), "taught": (60, 120)}


def test_updates_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MEASURED", 2)
    both = OPTIONS.variants[0]
    threads = torch.get_num_threads()
    stills = replace(OPTIONS, recipe=replace(SHORT, video=replace(SHORT.video, steps=0)))
    image, video = calibration.update_seconds(stills, both)
    assert image > 0
    assert video == 0
    assert torch.get_num_threads() == threads


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("whole", "parts")]
    for folder in folders:
        folder.mkdir()
    whole = train_run(PLAN_OF_TWO, "both-0", folders[0], never)
    assert whole is not None
    assert (whole.updates, whole.planned) == (3, 3)
    assert whole.seconds > 0
    assert 0 <= whole.scores.jf <= 1

    assert train_run(PLAN_OF_TWO, "both-0", folders[1], lambda: True) is None
    assert not (folders[1] / RESULT).exists()
    after_one = read_compute(folders[1])
    assert [step for step, _ in after_one] == [1]
    parts = train_run(PLAN_OF_TWO, "both-0", folders[1], never)
    assert parts is not None
    assert parts.scores == whole.scores
    steps, seconds = zip(*read_compute(folders[1]), strict=True)
    assert steps == (1, 2, 3)
    assert list(seconds) == sorted(seconds), "seconds go on where they stopped"
    one, two = (read_weights(folder / WEIGHTS).fingerprint for folder in folders)
    assert one == two

    (folders[0] / STATE).unlink()
    assert train_run(PLAN_OF_TWO, "both-0", folders[0], never) == whole, "a finished run is only read"


def test_the_budget_ends_a_run_whose_teacher_is_slow(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.safetensors"
    save_weights(teacher, tiny_model(), TINY)
    options = AblationOptions("distillation", TINY, SHORT, minutes=1e-6, seeds=1, teacher=str(teacher))
    plan = Plan(options, {"alone": (2, 4), "taught": (2, 4)})
    result = train_run(plan, "taught-0", tmp_path, never)
    assert result is not None
    assert (result.updates, result.planned) == (1, 6)
    assert load_model(tmp_path / WEIGHTS, "cpu").config == TINY
    assert read_result(tmp_path) == result
    (tmp_path / RESULT).unlink()
    again = train_run(plan, "taught-0", tmp_path, never)
    assert again == result, "what is over its budget is only scored"


def test_compute_that_was_lost_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / COMPUTE).write_text("1,10.0\n2,20.0\n3,30.0\n4,4")
    assert read_compute(tmp_path) == [(1, 10), (2, 20), (3, 30)], "the last line is not whole"
    compute = Compute(tmp_path, 2)
    assert 20 <= compute.seconds < 25
    compute.add(LossRow(3, "video", *[0.0] * 10))
    assert [step for step, _ in read_compute(tmp_path)] == [1, 2, 3]


def test_a_damaged_result_is_refused(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    (tmp_path / RESULT).write_text('{"updates": 3}')
    with pytest.raises(EdgeTAMError, match="not a run's result"):
        read_result(tmp_path)


def test_scores_are_means_over_clips_and_frames() -> None:
    """J of a model that never moves its mask lies between nothing and all; twice the same."""
    model, options = tiny_model(), Validation(clips=3, frames=3)
    one, two = (score(model, Discs, options) for _ in range(2))
    assert one == two
    assert all(0 <= value <= 1 for value in (one.j, one.f, one.box, one.click))
    assert one.jf == pytest.approx((one.j + one.f) / 2)


@pytest.mark.parametrize("variant", variants_of("perceiver", TINY), ids=lambda v: v.name)
def test_every_variant_has_its_cost(variant: object) -> None:
    config = variant.config  # type: ignore[attr-defined]
    cost = measure_cost(config, repeats=1)
    assert cost.tokens == config.latents
    assert 0 < cost.attention < cost.step
    assert 0 < cost.compression < cost.step


def result(j: float, seconds: float = 60.0) -> RunResult:
    return RunResult(100, 100, seconds, RunScores(j, j + 0.1, 0.5, 0.25))


COST = Cost(parameters=1_500_000, tokens=32, attention=0.5, compression=0.25, step=12.0)


def test_the_table_has_means_and_spread() -> None:
    rows = [
        make_row("both", [result(0.5), result(0.7, 80)], COST, 1234.4),
        make_row("patch", [result(0.25)], COST),
    ]
    lines = to_markdown(rows).splitlines()
    assert len({len(line) for line in lines}) == 1, "columns are padded"
    assert set(lines[1]) == set("|- ")
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:4] == ["both", "2", "0.650 (0.550–0.750)", "0.600 (0.500–0.700)"]
    assert cells[7:] == ["1.50 M", "32", "0.50", "1234", "0.25", "12.0", "100", "70"]
    document = json.loads(json.dumps(to_document(OPTIONS, rows, finished=True)))
    assert document["equal"] == "updates"
    assert document["rows"][0]["figures"]["j"] == {"mean": 0.6, "low": 0.5, "high": 0.7}
    assert AblationOptions.from_dict(document["options"]) == OPTIONS
