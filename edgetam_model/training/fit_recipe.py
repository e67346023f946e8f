"""How a team's annotations are learned: recipes by what may change, and by the model's size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.training.recipe import LossWeights, PromptMix, Recipe, Stage, Tuning, Validation
from edgetam_model.training.synthetic.options import SyntheticOptions
from edgetam_model.training.windows import WindowOptions

Mode = Literal["decoder", "adapter", "full"]

SMALL_INPUT = 256  # side of the input up to which whole batches fit and clips are cheap
# Models with windows learn at this size for a larger one: 1.7 s an update instead of 3.0 at 192 px, and as
# good (cells, 60 updates: IoU .77 instead of .80 from a box, .43 instead of .34 from a click).
WINDOW_INPUT = 128
RATES: dict[Mode, float] = {"adapter": 2e-3, "decoder": 5e-4, "full": 3e-4}
PROMPTS = PromptMix(mask=0.5, box=1.5, click=1.0, box_noise=0.05, corrections=0.3, clicks=2)


@dataclass(frozen=True)
class _Size:
    """What an update holds. `turns`: batches of an update, the team's own and made-up ones in turn."""

    batch: int
    frames: int
    turns: int
    checkpointing: bool


def fit_recipe(
    mode: Mode, config: EdgeTAMConfig, updates: int, *, seed: int = 0, patience: int = 0
) -> Recipe:
    """The recipe for so many updates; each learns from the team's own clips and from made-up ones.

    Args:
        mode: which part of the model learns.
        config: of the model.
        updates: at least 1.
        seed: of prompts, windows and made-up clips.
        patience: see `Validation`; above 0 there are clips to validate on, ten times over the training.
    """
    small = config.image_size <= SMALL_INPUT
    size = _Size(4, 4, 2, checkpointing=False) if small else _Size(1, 2, 2, checkpointing=True)
    stage = Stage(
        steps=updates,
        batch=size.batch,
        accumulation=size.turns,
        frames=size.frames,
        learning_rate=RATES[mode],
        encoder_rate=0.3,
        warmup=max(1, min(20, updates // 10)),
        final_rate=0.02,
        ema=0.98,
        forcing_start=0.5,
        forcing_end=0.0,
        weight_decay=0.02 if mode == "adapter" else 0.0,
        checkpointing=size.checkpointing,
        frozen_norms=True,
        prompts=PROMPTS,
    )
    every = max(1, updates // 10) if patience else 0
    shrinks = config.window_scale > 0 and config.image_size > WINDOW_INPUT
    return Recipe(
        input_size=WINDOW_INPUT if shrinks else 0,
        output_size=config.image_size if shrinks else 0,
        seed=seed,
        precision="bfloat16" if has_bfloat16() else "float32",
        checkpoint_every=25,
        tuning=Tuning(mode),
        loss=LossWeights(focal=5.0, dice=3.0, presence=2.0),
        image=replace(stage, steps=0, frames=1),
        video=stage,
        synthetic=SyntheticOptions(speed=(0.003, 0.1), p_leave=0.2, hidden_frames=(1, 1)),
        windows=WindowOptions(drift=0.1),
        validation=Validation(every=every, clips=16, frames=1, patience=patience),
    )


def has_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 faster than float32: a GPU, or a CPU with units for it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported())
