"""Labels carried from remembered pixels to similar ones nearby. No part of EdgeTAM; see `EdgeTAMConfig`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import LOW_RES_STRIDE, EdgeTAMConfig
from edgetam_model.nn.layers import unshuffle

COLOURS = 3
LABELS = LOW_RES_STRIDE**2  # the mask's pixels within one token of the stride-4 grid
PROMPT_MAPS = 3  # box, positive clicks, negative clicks
CHANNELS = 2 * LABELS + 2 * PROMPT_MAPS + 1
REACH = (0.15, 0.4, 0.5)  # of the recent frame, the shown one and the prompt: σ, in sides of the window
CLICK_SIGMA = 0.02  # a click as a blot, in sides of the window
COLOUR_GAIN = 1.5  # makes colour count before features are learned
LABEL_GAIN = 2.0  # what a logit of 1 is worth; at 0.5 what is hardly seen on a frame fades in the next ones


@dataclass(frozen=True)
class Trace:
    """Where an object was on a frame, and what every place there looked like. h = w = S/4.

    Attributes:
        keys: (K, h, w) what places look like; with a leading batch inside the model.
        labels: (16, h, w) −1 (not the object) to 1 for the 4 × 4 pixels of each token.
        window: (4,) x0, y0, x1, y1 of the part of the frame that the grid covers, in pixels.
    """

    keys: Tensor
    labels: Tensor
    window: Tensor

    def at(self, row: int) -> Trace:
        """One object's trace out of a batch."""
        return Trace(self.keys[row].clone(), self.labels[row].clone(), self.window[row].clone())

    @staticmethod
    def stack(traces: list[Trace]) -> Trace:
        """Traces of B objects as a batch."""
        return Trace(
            torch.stack([t.keys for t in traces]),
            torch.stack([t.labels for t in traces]),
            torch.stack([t.window for t in traces]),
        )


@dataclass(frozen=True)
class Hints:
    """What a prompt says about places, B objects.

    Attributes:
        maps: (B, 3, h, w) box, positive and negative clicks, 0 to 1.
        previous: (B, 16, h, w) labels of the mask that is to be refined.
    """

    maps: Tensor
    previous: Tensor | None = None


class Evidence(nn.Module):
    """Softmax attention over keys and places.

    A remembered place speaks for another as much as it looks like it, −|q − k|², and is near it, −r²/2σ²;
    the window's side is the unit of r, so that windows of different size and resolution compare.
    """

    def __init__(self, config: EdgeTAMConfig) -> None:
        super().__init__()
        self.key = nn.Conv2d(config.width, config.evidence_width - COLOURS, 1)
        nn.init.normal_(self.key.weight, std=0.4 / config.width**0.5)
        self.colour_gain = nn.Parameter(torch.tensor(COLOUR_GAIN))
        self.log_reach = nn.Parameter(torch.tensor(REACH).log())

    def keys(self, stride4: Tensor, images: Tensor) -> Tensor:
        """(B, C, h, w) features and (B, 3, S, S) normalised images → (B, K, h, w)."""
        colour = F.avg_pool2d(images, LOW_RES_STRIDE) * self.colour_gain
        return torch.cat((self.key(stride4), colour), dim=1).float()

    def forward(
        self, keys: Tensor, window: Tensor, recent: Trace | None, shown: Trace | None, hints: Hints | None
    ) -> Tensor:
        """All evidence about B objects on a frame.

        Args:
            keys: (B, K, h, w) of the frame.
            window: (B, 4) that the grid covers.
            recent: batched traces of the frame before.
            shown: batched traces of the nearest conditioning frame.
            hints: what a prompt says.

        Returns:
            (B, `CHANNELS`, h, w): labels by the recent frame, labels by the shown frame, spread prompt,
            prompt, likeness to it; zero where there is nothing to go by.
        """
        none = keys.new_zeros(len(keys), LABELS, *keys.shape[2:])
        first = none if recent is None else self._carry(keys, window, recent, 0)
        second = none if shown is None else self._carry(keys, window, shown, 1)
        said = keys.new_zeros(len(keys), 2 * PROMPT_MAPS + 1, *keys.shape[2:])
        if hints is not None:
            said = self._spread(keys, window, hints.maps)
            first = first if hints.previous is None else hints.previous
        return torch.cat((first, second, said), dim=1)

    def _carry(self, keys: Tensor, window: Tensor, trace: Trace, kind: int) -> Tensor:
        queries = self._placed(keys, window, window, kind)
        remembered = self._placed(trace.keys, trace.window, window, kind)
        return _read(queries, remembered, trace.labels)

    def _spread(self, keys: Tensor, window: Tensor, maps: Tensor) -> Tensor:
        placed = self._placed(keys, window, window, 2)
        spread = _read(placed, placed, maps)
        box, clicks = maps[:, :1], maps[:, 1:2]
        inside = clicks + box * (clicks.amax((2, 3), keepdim=True) < 0.1)  # clicks say more than a box
        mean = (keys * inside).sum((2, 3), keepdim=True) / (inside.sum((2, 3), keepdim=True) + 1e-2)
        likeness = (-(keys - mean).square().mean(1, keepdim=True) * 4).exp()
        return torch.cat((spread, maps, likeness), dim=1)

    def _placed(self, keys: Tensor, own: Tensor, unit: Tensor, kind: int) -> Tensor:
        """Keys with their places in `own` appended, so that one distance holds both."""
        height, width = keys.shape[2:]
        across = (torch.arange(width, device=keys.device, dtype=torch.float32) + 0.5) / width
        down = (torch.arange(height, device=keys.device, dtype=torch.float32) + 0.5) / height
        own, unit = own.float(), unit.float()
        size = unit[:, 2:] - unit[:, :2]
        origin = (own[:, :2] - unit[:, :2]) / size
        span = (own[:, 2:] - own[:, :2]) / size
        x = (origin[:, :1] + span[:, :1] * across)[:, None, None, :].expand(-1, 1, height, width)
        y = (origin[:, 1:] + span[:, 1:] * down)[:, None, :, None].expand(-1, 1, height, width)
        gain = (-self.log_reach[kind]).exp() * 0.5**0.5
        return torch.cat((keys, x * gain, y * gain), dim=1)


def labels_of(logits: Tensor) -> Tensor:
    """(B, S, S) mask logits → (B, 16, S/4, S/4) labels."""
    return unshuffle((logits[:, None].float() * LABEL_GAIN).tanh(), LOW_RES_STRIDE)


def prompt_maps(points: Tensor, labels: Tensor, image_size: int) -> Tensor:
    """Clicks and boxes as maps.

    Args:
        points: (B, N, 2) pixels of the network's input; a box is its two corners.
        labels: (B, N) 0 negative, 1 positive, 2 and 3 corners, −1 empty.

    Returns:
        (B, 3, h, w) in 0 … 1; partly covered tokens of a box have their covered share.
    """
    side = image_size // LOW_RES_STRIDE
    edges = torch.arange(side + 1, device=points.device, dtype=torch.float32)
    places = points.float() / LOW_RES_STRIDE
    first, second = ((labels == corner)[..., None] for corner in (2, 3))
    low, high = (places * first).sum(1), (places * second).sum(1)
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    reach = (high[:, :, None].minimum(edges[1:]) - low[:, :, None].maximum(edges[:-1])).clamp(min=0)
    box = reach[:, 1, :, None] * reach[:, 0, None, :]
    centres = edges[:-1] + 0.5
    nearness = -(places[..., None] - centres).square() / (2 * (CLICK_SIGMA * side) ** 2)
    blots = (nearness[:, :, 1, :, None] + nearness[:, :, 0, None, :]).exp()
    clicks = [(blots * (labels == label)[..., None, None]).amax(1) for label in (1, 0)]
    return torch.stack((box, *clicks), dim=1)


def moved(trace: Trace, device: torch.device) -> Trace:
    """The trace on another device."""
    return replace(
        trace, keys=trace.keys.to(device), labels=trace.labels.to(device), window=trace.window.to(device)
    )


def _read(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Values of the keys, softmax-weighted by −|q − k|²; |q|² is the same for all keys and left out."""
    shape = queries.shape[2:]
    q, k, v = (t.flatten(2).transpose(1, 2) for t in (queries, keys, values))
    squares = k.square().sum(2, keepdim=True)
    rough = squares.to(_precision()).float()  # and what bfloat16 loses of large squares
    one = torch.ones_like(q[..., :1])
    q = torch.cat((2 * q, one, one), dim=2).to(_precision())
    k = torch.cat((k, -rough, rough - squares), dim=2).to(_precision())
    v = v.to(_precision())
    read = _Read.apply(q, k, v) if torch.is_grad_enabled() else _weigh(q, k, v)[0]
    return read.float().transpose(1, 2).unflatten(2, shape)


def _precision() -> torch.dtype:
    """Of the products with a thousand remembered places: bfloat16 makes training five times as fast there."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


def _weigh(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast(q.device.type, enabled=False):  # which would make the softmax float32
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(-1)
        return torch.bmm(weights, v), weights


class _Read(torch.autograd.Function):
    """`_weigh` with a backward of three products and one pass, against PyTorch's five and three."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        read, weights = _weigh(q, k, v)
        ctx.save_for_backward(q, k, v, weights, read)
        return read

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, weights, read = ctx.saved_tensors
        mean = (gradient * read).sum(-1, keepdim=True)
        left = torch.cat((gradient, -mean), dim=2)  # one column more is cheaper than a sum over all pairs
        right = torch.cat((v, torch.ones_like(v[..., :1])), dim=2)
        scores = torch.bmm(left, right.transpose(1, 2)).mul_(weights)
        to_keys = torch.bmm(scores.transpose(1, 2), q)
        return torch.bmm(scores, k), to_keys, torch.bmm(weights.transpose(1, 2), gradient)
