"""What an ablation will train: every variant with every seed, by one recipe, as long as the budget says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.errors import EdgeTAMError, InputError
from edgetam_model.training.ablation.variants import DISTILLATION, Variant, variants_of
from edgetam_model.training.recipe import Recipe, Stage

PLAN = "plan.json"
WARMUP = 5  # the warm-up takes at most this fraction (1/5) of a stage, however short that becomes


@dataclass(frozen=True)
class AblationOptions:
    """What was asked for.

    Attributes:
        kind: what is compared, one of `KINDS`.
        base: the config that all variants are made from.
        recipe: for all; the ratio of its stages' steps stays, their number follows from the budget.
        minutes: of one core, that a run may take.
        seeds: runs of each variant; they count from the recipe's seed.
        textures: folder of photographs for the clips; "": procedural textures alone.
        teacher: weights, as `load_model` takes them; "" where no variant has a teacher.
        only: names of the variants to train, all of them where empty.

    Raises:
        InputError: a value out of range, with the field at fault.
    """

    kind: str
    base: EdgeTAMConfig
    recipe: Recipe
    minutes: float = 20.0
    seeds: int = 2
    textures: str = ""
    teacher: str = ""
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = [variant.name for variant in variants_of(self.kind, self.base)]
        unknown = [name for name in self.only if name not in known]
        if unknown:
            raise InputError("only", f"expected some of {', '.join(known)}, got {unknown[0]!r}")
        if not self.minutes > 0:
            raise InputError("minutes", f"expected more than 0, got {self.minutes}")
        if self.seeds < 1:
            raise InputError("seeds", f"expected at least 1, got {self.seeds}")
        if (self.kind == DISTILLATION) != bool(self.teacher):
            raise InputError("teacher", "expected the weights of one for distillation, and only there")
        if 0 <= self.recipe.validation.seed - self.recipe.seed < self.seeds:
            raise InputError("seeds", "the validation's seed is among them: nothing is held out")

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The rows of the table."""
        every = variants_of(self.kind, self.base)
        return tuple(variant for variant in every if not self.only or variant.name in self.only)

    @property
    def budget(self) -> float:
        """Seconds of one core for a run."""
        return 60 * self.minutes

    @property
    def equal_compute(self) -> bool:
        """Whether runs are equal in compute rather than in updates: a teacher's time is paid for."""
        return self.kind == DISTILLATION

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is its inverse."""
        own = {name: getattr(self, name) for name in ("kind", "minutes", "seeds", "textures", "teacher")}
        parts = {"base": self.base.to_dict(), "recipe": self.recipe.to_dict(), "only": list(self.only)}
        return own | parts

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AblationOptions:
        """Build options from JSON values. Raises InputError, KeyError or TypeError where they are others."""
        base, recipe = EdgeTAMConfig.from_dict(values["base"]), Recipe.from_dict(values["recipe"])
        return cls(**{**values, "base": base, "recipe": recipe, "only": tuple(values["only"])})


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: of its folder.
        variant: of the table's row.
        recipe: with the run's seed and updates.
    """

    name: str
    variant: Variant
    recipe: Recipe


@dataclass(frozen=True)
class Plan:
    """Options, and how many updates of each stage every variant gets, by the variants' names."""

    options: AblationOptions
    updates: Mapping[str, tuple[int, int]]

    @property
    def runs(self) -> tuple[Run, ...]:
        """Seed by seed, so that the first rows of all variants come early."""
        options = self.options
        return tuple(
            Run(f"{variant.name}-{seed}", variant, self._recipe(variant.name, options.recipe.seed + seed))
            for seed in range(options.seeds)
            for variant in options.variants
        )

    def run(self, name: str) -> Run:
        """The run of this name. Raises InputError where there is none."""
        found = [run for run in self.runs if run.name == name]
        if not found:
            raise InputError("run", f"expected one of {', '.join(run.name for run in self.runs)}")
        return found[0]

    def save(self, folder: Path) -> None:
        """Write plan.json. Raises EdgeTAMError where that is not possible."""
        text = json.dumps({"options": self.options.to_dict(), "updates": self.updates}, indent=1)
        write_text(folder / PLAN, text)

    def _recipe(self, variant: str, seed: int) -> Recipe:
        image, video = self.updates[variant]
        recipe = self.options.recipe
        return replace(
            recipe, seed=seed, image=_lasting(recipe.image, image), video=_lasting(recipe.video, video)
        )


def read_plan(folder: Path) -> Plan:
    """The plan of a folder.

    Raises:
        InputError: there is none, or it is damaged or of another release.
    """
    try:
        values = json.loads((folder / PLAN).read_text("utf-8"))
        updates = {name: (int(image), int(video)) for name, (image, video) in values["updates"].items()}
        plan = Plan(AblationOptions.from_dict(values["options"]), updates)
        missing = [variant.name for variant in plan.options.variants if variant.name not in updates]
    except OSError as error:
        raise InputError("out", f"no ablation in {folder}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("out", f"{folder / PLAN}: not a plan of this release: {error!r}") from error
    if missing:
        raise InputError("out", f"{folder / PLAN}: no updates for {missing[0]}")
    return plan


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises EdgeTAMError where it cannot be written."""
    beside = path.with_name(f".{path.name}")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    except OSError as error:
        raise EdgeTAMError(f"{path}: cannot be written: {error.strerror}") from error


def _lasting(stage: Stage, steps: int) -> Stage:
    return replace(stage, steps=steps, warmup=min(stage.warmup, steps // WARMUP))
