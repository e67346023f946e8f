"""Evidence on slots: the arithmetic of `nn/evidence.py`, with what may be missing as weights of 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgetam_model.nn.evidence import Evidence, prompt_maps

CLICKED = 0.1  # a map of clicks reaches this somewhere unless there is none


@dataclass(frozen=True)
class PlacedTrace:
    """A batch of traces whose windows are told in units of the current one.

    Attributes:
        keys: (B, K, h, w).
        labels: (B, 16, h, w).
        place: (B, 4) x0, y0, width, height; the current window is 0, 0, 1, 1.
    """

    keys: Tensor
    labels: Tensor
    place: Tensor


@dataclass(frozen=True)
class SlottedHints:
    """What a prompt says; see `Hints`.

    Attributes:
        points: (B, N, 2).
        labels: (B, N).
        previous: (B, 16, h, w) labels of the mask that is to be refined; None: there is none.
        has_previous: (B,) 1 or 0.
    """

    points: Tensor
    labels: Tensor
    previous: Tensor | None
    has_previous: Tensor | None


class SlottedEvidence(nn.Module):
    """`Evidence` for static graphs: every input is there, and gates of 0 take out what is not meant."""

    across: Tensor
    gains: Tensor
    whole: Tensor

    def __init__(self, evidence: Evidence, image_size: int, side: int) -> None:
        super().__init__()
        self.image_size = image_size
        centres = (torch.arange(side, dtype=torch.float32) + 0.5) / side
        self.register_buffer("across", centres, persistent=False)
        self.register_buffer("gains", (-evidence.log_reach.detach()).exp() * 0.5**0.5, persistent=False)
        self.register_buffer("whole", torch.tensor((0.0, 0.0, 1.0, 1.0)), persistent=False)

    def forward(
        self, keys: Tensor, recent: PlacedTrace, shown: PlacedTrace, seen: Tensor, hints: SlottedHints
    ) -> Tensor:
        """As `Evidence.forward`.

        Args:
            keys: (B, K, h, w) of the frame.
            recent, shown: the traces.
            seen: (B,) 1 where they count.
            hints: of the prompt, which there is where any label is 0 or more.
        """
        seen = seen[:, None, None, None]
        hinted = (hints.labels >= 0).to(keys.dtype).amax(1)
        first = seen * self._carry(keys, recent, 0)
        if hints.previous is not None and hints.has_previous is not None:
            refining = (hinted * hints.has_previous)[:, None, None, None]
            first = refining * hints.previous + (1 - refining) * first
        second = seen * self._carry(keys, shown, 1)
        maps = prompt_maps(hints.points, hints.labels, self.image_size)
        said = hinted[:, None, None, None] * self._spread(keys, maps)
        return torch.cat((first, second, said), dim=1)

    def _carry(self, keys: Tensor, trace: PlacedTrace, kind: int) -> Tensor:
        queries = self._placed(keys, self.whole.expand(len(keys), -1), kind)
        return _read(queries, self._placed(trace.keys, trace.place, kind), trace.labels)

    def _spread(self, keys: Tensor, maps: Tensor) -> Tensor:
        placed = self._placed(keys, self.whole.expand(len(keys), -1), 2)
        spread = _read(placed, placed, maps)
        box, clicks = maps[:, :1], maps[:, 1:2]
        inside = clicks + box * (clicks.amax((2, 3), keepdim=True) < CLICKED).to(box.dtype)
        mean = (keys * inside).sum((2, 3), keepdim=True) / (inside.sum((2, 3), keepdim=True) + 1e-2)
        likeness = (-(keys - mean).square().mean(1, keepdim=True) * 4).exp()
        return torch.cat((spread, maps, likeness), dim=1)

    def _placed(self, keys: Tensor, place: Tensor, kind: int) -> Tensor:
        """Keys with their places appended, so that one distance holds both."""
        side, gain = len(self.across), self.gains[kind]
        x = (place[:, :1] + place[:, 2:3] * self.across)[:, None, None, :].expand(-1, 1, side, side)
        y = (place[:, 1:2] + place[:, 3:] * self.across)[:, None, :, None].expand(-1, 1, side, side)
        return torch.cat((keys, x * gain, y * gain), dim=1)


def _read(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Values of the keys, softmax-weighted by −|q − k|²; |q|² is the same for all keys and left out."""
    q, k, v = (t.flatten(2).transpose(1, 2) for t in (queries, keys, values))
    q = torch.cat((2 * q, torch.ones_like(q[..., :1])), dim=2)
    k = torch.cat((k, -k.square().sum(2, keepdim=True)), dim=2)
    read = ((q @ k.transpose(1, 2)).softmax(-1) @ v).transpose(1, 2)
    return read.reshape(*values.shape[:2], *queries.shape[2:])
