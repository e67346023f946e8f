"""Draws the decoder's mask anew at the input's full size. No part of EdgeTAM; see `EdgeTAMConfig`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import LOW_RES_STRIDE, EdgeTAMConfig
from edgetam_model.nn.evidence import CHANNELS, LABELS
from edgetam_model.nn.layers import LayerNorm2d, shuffle, unshuffle

BRANCH_START = 0.2  # of a residual branch's weights: blocks begin near the identity
GATE_START = 3.0  # what a carried label of ± 1 is worth as a logit before the gate is learned


class Block(nn.Module):
    """Pre-activation residual block of two 3 × 3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.normal_(self.second.weight, std=BRANCH_START / (9 * channels) ** 0.5)
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.second(F.relu(self.first(F.relu(x))))
        return x + branch


class Refiner(nn.Module):
    """Image, evidence and decoder meet at stride 8 and again at stride 4.

    The mask is the decoder's own, plus a correction, plus the labels carried from the frame before, each
    pixel of which passes a gate.
    """

    def __init__(self, config: EdgeTAMConfig) -> None:
        super().__init__()
        width, fine = config.width, config.refine_width
        self.image8 = nn.Conv2d(width, width, 1)
        self.image4 = nn.Conv2d(width, fine, 1)
        self.decoded = nn.Conv2d(width, width, 1)
        self.evidence8 = nn.Conv2d(4 * (CHANNELS + 1), width, 3, padding=1)
        self.evidence4 = nn.Conv2d(CHANNELS + 1, fine, 3, padding=1)
        self.norm8, self.norm4 = LayerNorm2d(width), LayerNorm2d(fine)
        self.blocks8 = nn.Sequential(Block(width), Block(width), Block(width))
        self.up = nn.Conv2d(width, fine, 1)
        self.blocks4 = nn.Sequential(Block(fine), Block(fine))
        self.head = nn.Conv2d(fine, 2 * LABELS, 3, padding=1)
        self.quality = nn.Linear(2 * width, 1)
        with torch.no_grad():
            assert self.head.bias is not None
            self.head.bias.zero_()[LABELS:] = GATE_START

    def forward(
        self, stride4: Tensor, stride8: Tensor, decoded: Tensor, evidence: Tensor, logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One mask per object.

        Args:
            stride4, stride8: (B, C, …) image features of the pyramid.
            decoded: (B, C, S/16, S/16) image features after the decoder's transformer.
            evidence: (B, E, S/4, S/4).
            logits: (B, S/4, S/4) the decoder's mask.

        Returns:
            (B, S, S) logits, and (B,) their estimated IoU.
        """
        known = torch.cat((evidence, (logits[:, None] * 0.5).tanh()), dim=1)
        x = self.image8(stride8) + self.evidence8(unshuffle(known, 2))
        x = self.blocks8(self.norm8(x + _doubled(self.decoded(decoded))))
        pooled = torch.cat((x.mean((2, 3)), x.amax((2, 3))), dim=1)
        y = self.image4(stride4) + self.evidence4(known) + _doubled(self.up(x))
        y = self.head(F.relu(self.blocks4(self.norm4(y)))).float()
        correction, gate = y[:, :LABELS], F.softplus(y[:, LABELS:])
        own = F.interpolate(
            logits[:, None].float(), scale_factor=LOW_RES_STRIDE, mode="bilinear", align_corners=False
        )
        carried = gate * evidence[:, :LABELS]
        mask = own + shuffle(correction + carried, LOW_RES_STRIDE)
        return mask[:, 0], self.quality(pooled)[:, 0].sigmoid()


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
