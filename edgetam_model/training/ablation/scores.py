"""How good a trained variant is on held-out clips, and what it costs to run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.memory import Recall, gather
from edgetam_model.model import EdgeTAM
from edgetam_model.model_io import Choice
from edgetam_model.nn.memory_attention import Memories, MemoryAttention
from edgetam_model.scoring import boundary_f, region_similarity
from edgetam_model.training.ablation.calibration import one_thread
from edgetam_model.training.feed import Rows, to_rows
from edgetam_model.training.initial import new_model
from edgetam_model.training.prompting import random_for
from edgetam_model.training.recipe import Validation
from edgetam_model.training.rollout import Plan, Simulated, roll_out
from edgetam_model.training.trainer import OpenClips
from edgetam_model.training.validation import EXACT, validate

BATCH = 8  # clips scored at once
REPEATS = 30  # of a measurement, of which the fastest counts


@dataclass(frozen=True)
class RunScores:
    """Means over the held-out clips' main objects, 0 to 1.

    Attributes:
        j, f: region and boundary of the frames after the first, followed from its true mask.
        box, click: IoU on stills, from an exact box and from a click in the middle.
    """

    j: float
    f: float
    box: float
    click: float

    @property
    def jf(self) -> float:
        """J&F."""
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class Cost:
    """What a model costs, one object on one core in float32.

    Attributes:
        parameters: weights.
        tokens: of one remembered frame.
        attention: milliseconds of the memory attention per tracked frame, all its slots filled.
        compression: milliseconds from a dense memory to what is kept.
        step: milliseconds of a whole tracked frame: image, attention, mask, memory.
    """

    parameters: int
    tokens: int
    attention: float
    compression: float
    step: float


@torch.inference_mode()
def score(model: EdgeTAM, held_out: OpenClips, options: Validation) -> RunScores:
    """Score a model in eval mode on the validation's clips: stills, and clips of its frames (at least 2)."""
    stills = validate(model, held_out(1), replace(options, frames=1), BATCH)
    clips = held_out(options.frames)
    found: list[tuple[float, float]] = []
    for start in range(0, options.clips, BATCH):
        made = clips.batch(options.seed, start, min(BATCH, options.clips - start))
        main = torch.zeros(len(made), 1, dtype=torch.long)
        found += _follow(model, to_rows(made, main, model.config.image_size))
    j, f = np.mean(found, axis=0).tolist()
    return RunScores(j, f, stills.box, stills.click)


def _follow(model: EdgeTAM, rows: Rows) -> list[tuple[float, float]]:
    """J and F of each object that can be shown, over the frames after the first."""
    plan = Plan("mask", None, 0, torch.zeros(rows.frames, len(rows.clip), dtype=torch.bool))
    rollout = roll_out(model, rows, plan, Simulated(EXACT, random_for(0)))
    scores: list[list[tuple[float, float]]] = [[] for _ in rows.clip]
    for frame in range(1, rows.frames):
        logits = rollout.last(frame).chosen[:, None].float()
        masks = F.interpolate(logits, size=rows.masks.shape[-2:], mode="bilinear")[:, 0] > 0
        pairs = zip(masks.numpy(), rows.masks[:, frame].numpy(), strict=True)
        for kept, (mask, truth) in zip(scores, pairs, strict=True):
            kept.append((region_similarity(mask, truth), boundary_f(mask, truth)))
    shown = zip(scores, rows.weight.tolist(), strict=True)
    means = (np.mean(kept, axis=0).tolist() for kept, weight in shown if weight)
    return [(j, f) for j, f in means]


@torch.inference_mode()
def measure_cost(config: EdgeTAMConfig, repeats: int = REPEATS) -> Cost:
    """Time a model of this config; weights do not matter for that."""
    model = new_model(config, 0)
    parameters = sum(p.numel() for p in model.parameters())
    model = model.eval().fuse()
    blank = torch.zeros(1, 3, config.image_size, config.image_size)
    remembered = 1 + config.recent_memories
    latents = torch.randn(remembered, config.latents, config.memory_width, generator=random_for(0))
    pointers = torch.randn(config.max_pointers, config.width, generator=random_for(1))
    recall = Recall(list(latents), [*range(remembered)], list(pointers))
    dense = torch.randn(1, config.memory_width, config.grid, config.grid, generator=random_for(2))

    def step() -> None:
        image = model.encode_image(blank)
        features = model.with_memory(image, gather(model, [recall]))
        decoded = model.decode(features, image, choice=Choice(multimask=True))
        model.encode_memory(image, decoded.logits)

    with one_thread():
        return Cost(
            parameters=parameters,
            tokens=config.latents,
            attention=attention_milliseconds(config, repeats),
            compression=_milliseconds(lambda: model.spatial_perceiver(dense), repeats),
            step=_milliseconds(step, repeats),
        )


@torch.inference_mode()
def attention_milliseconds(config: EdgeTAMConfig, repeats: int) -> float:
    """Of the memory attention on one frame, for one object with all slots filled."""
    attention = MemoryAttention(config).eval()
    slots = (1, 1 + config.recent_memories, config.latents, config.memory_width)
    pointers = (1, config.max_pointers * config.pointer_tokens, config.memory_width)
    latents = torch.randn(slots, generator=random_for(0))
    memories = Memories(latents, latents, torch.randn(pointers, generator=random_for(1)))
    tokens = torch.randn(1, config.grid**2, config.width, generator=random_for(2))
    with one_thread():
        return _milliseconds(lambda: attention(tokens, tokens, memories), repeats)


def _milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The fastest of the repeats: other work on the machine only ever adds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)
