"""What is timed: a frame of a long track, and clicks on an image. Pictures of noise cost what others do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.engine import Engine
from edgetam_model.image_predictor import ImagePredictor
from edgetam_model.memory import CONDITIONING, Recall
from edgetam_model.model import EdgeTAM
from edgetam_model.nn.evidence import Trace
from edgetam_model.prompts import Prompt

SIZE = (360, 640)  # of the frames
BOX = (200.0, 90.0, 380.0, 270.0)
PICTURES = 8  # shown one after the other
SHRINK = 16  # objects of models with windows look through windows a sixteenth of the frame apart


class Tracking:
    """One frame for some objects whose memories are full, as far into a video as ever.

    Args:
        model: computes it.
        objects: how many.
    """

    def __init__(self, model: EdgeTAM, objects: int) -> None:
        self.model = model
        self.engine = Engine(model, SIZE, dynamic_multimask=True, verify=False)
        self.recalls = [_recall(model.config, number) for number in range(objects)]
        self.pictures = [_noise(seed) for seed in range(PICTURES)]
        self.frame = 0

    def step(self) -> NDArray[np.float32]:
        """Track the objects to a new frame; (B, S, S) logits."""
        self.frame += 1
        picture = self.pictures[self.frame % PICTURES]
        tracked = self.engine.track(self.frame, lambda: picture, self.recalls)
        return np.stack([one.logits for one in tracked])


class Clicking:
    """A first click on an image and a second one.

    Args:
        model: computes it.
    """

    def __init__(self, model: EdgeTAM) -> None:
        self.predictor = ImagePredictor(model)
        self.pictures = [_noise(seed) for seed in range(PICTURES)]
        self.number = 0

    def first(self) -> None:
        """A new image, and a box on it."""
        self.number += 1
        self.predictor.set_image(self.pictures[self.number % PICTURES])
        self.predictor.predict(Prompt(box=BOX))

    def second(self) -> None:
        """The same box with a click, on the same image."""
        self.predictor.predict(Prompt(box=BOX, points=[[290, 180]], labels=[1]))


def new_model(config: EdgeTAMConfig) -> EdgeTAM:
    """Random weights from a fixed seed: they do not matter for time."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return EdgeTAM(config).eval()


@contextmanager
def as_published() -> Iterator[None]:
    """Attention by the plain kernel, as the published code asks for on processors."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def _noise(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def _recall(config: EdgeTAMConfig, number: int) -> Recall:
    """One conditioning memory, every recent one, every pointer."""
    random = torch.Generator().manual_seed(number)
    memories = 1 + config.recent_memories
    recall = Recall(
        latents=list(torch.randn(memories, config.latents, config.memory_width, generator=random)),
        ages=[CONDITIONING, *range(config.recent_memories, 0, -1)],
        pointers=list(torch.randn(config.max_pointers, config.width, generator=random)),
    )
    if not config.evidence_width:
        return recall
    side, left = config.low_res, 40.0 + SIZE[1] / SHRINK * (number % 8)
    labels = torch.full((16, side, side), -1.0)
    labels[:, side // 4 : -side // 4, side // 4 : -side // 4] = 1
    keys = torch.randn(config.evidence_width, side, side, generator=random)
    trace = Trace(keys, labels, torch.tensor((left, 60, left + 200, 260)))
    return replace(recall, recent=trace, shown=trace)
