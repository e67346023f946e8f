"""What colours show of training's objects: earlier results to refine, as predictors get them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgetam_model.colour_cut import with_colours
from edgetam_model.config import IMAGE_MEAN, IMAGE_STD
from edgetam_model.prompts import Prompt
from edgetam_model.training.prompting import Clicks, Kind
from edgetam_model.windows import Window


def colour_cuts(images: Tensor, kind: Kind, clicks: Clicks, logits: Tensor) -> Tensor:
    """The objects as their colours show them.

    Args:
        images: (N, 3, S, S) network input, one per object.
        kind: "box" or "click".
        clicks: what shows the objects.
        logits: (N, h, w) what the model answered to that.

    Returns:
        (N, h, w) logits; the model's own where the colours say nothing.
    """
    masks = (logits > 0).cpu().numpy()
    given = [
        with_colours(_prompt(kind, points, labels), Window.whole(picture.shape[:2]), picture, mask)
        for picture, points, labels, mask in zip(
            _pixels(images), clicks.points.cpu().numpy(), clicks.labels.cpu().numpy(), masks, strict=True
        )
    ]
    cuts = logits.clone()
    for row, prompt in enumerate(given):
        if prompt is not None:
            cuts[row] = torch.tensor(prompt.logits).to(cuts)
    return cuts


def _prompt(kind: Kind, points: np.ndarray, labels: np.ndarray) -> Prompt:
    return Prompt(box=points.ravel()) if kind == "box" else Prompt(points=points, labels=labels)


def _pixels(images: Tensor) -> np.ndarray:
    """uint8 (N, S, S, 3) RGB of network input."""
    mean, std = (torch.tensor(x, device=images.device)[:, None, None] for x in (IMAGE_MEAN, IMAGE_STD))
    pixels = ((images.float() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
