"""A clip source for tests that costs nothing: a bright disc that moves over a noisy ground."""

from __future__ import annotations

import torch

from edgetam_model.training.prompting import random_for
from edgetam_model.training.synthetic.clips import ClipBatch


class Discs:
    """Clips by their numbers; object 1 is the disc, object 2 a square that is gone after the first frame."""

    def __init__(self, frames: int, size: int = 128) -> None:
        self.frames = frames
        self.size = size

    def batch(self, seed: int, start: int, count: int) -> ClipBatch:
        made = [self._clip(random_for(seed, index)) for index in range(start, start + count)]
        masks = torch.stack([masks for _, masks in made])
        objects = torch.full((count,), 2)
        frames = torch.stack([frames for frames, _ in made])
        return ClipBatch(frames, masks, masks.any(-1).any(-1), objects, torch.arange(start, start + count))

    def _clip(self, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        side = self.size
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        speed = torch.randint(-4, 5, (2,), generator=random)
        ground = torch.randint(0, 100, (3, side, side), generator=random)
        frames, masks = [], []
        for t in range(self.frames):
            disc = (x - side * 3 // 8 - speed[0] * t) ** 2 + (y - side // 2 - speed[1] * t) ** 2 < (
                side / 6
            ) ** 2
            square = (x > side * 7 // 8) & (y > side * 7 // 8) & (t == 0)
            frames.append(torch.where(disc | square, 230 - 60 * square, ground))
            masks.append(torch.stack((disc, square & ~disc)))
        return torch.stack(frames).to(torch.uint8), torch.stack(masks)
