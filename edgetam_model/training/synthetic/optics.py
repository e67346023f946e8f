"""From the scene to the file: light, haze, lens, sensor and compression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgetam_model.training.synthetic.draws import Bools, Draws, Reals
from edgetam_model.training.synthetic.motion import curves
from edgetam_model.training.synthetic.options import SyntheticOptions

_FIELD = 5  # cells a side of shadows and haze
_NOISE_SIDE = 1024 + 256  # pixels of the noise that every frame takes its own window of

# JPEG's example tables (ITU-T T.81, annex K) at quality 50, in steps of 1/255.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_CORNER = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))  # 99 elsewhere


@dataclass(frozen=True, eq=False)
class OpticsPlan:
    """B clips of T frames. What is off is 0, and 1 for `gain`, 100 for `quality`.

    Attributes:
        gain: (B, T, 3) brightness by colour.
        shade: (B, T, 5, 5) darkness of soft shadows.
        haze: (B, T, 5, 5) its opacity, and `haze_colour` (B, 3).
        softness: (B,) standard deviation of the lens's blur in pixels.
        noise: (B,) standard deviation, and `window` (B, T, 2) where each frame's begins.
        compressed: (B,) and `quality` (B,).
    """

    gain: Reals
    shade: Reals
    haze: Reals
    haze_colour: Reals
    softness: Reals
    noise: Reals
    window: Reals
    compressed: Bools
    quality: Reals


def draw_optics(draws: Draws, times: Reals, options: SyntheticOptions) -> OpticsPlan:
    """Args: `times` (B, T) in frames, 0 at the clip's middle."""
    changes = draws.chance(options.p_illumination)[:, None]
    swing = np.clip(0.03 * curves(draws, times), -1, 1) * options.illumination
    tint = 0.05 * draws.normal(1, 3) + 0.1 * np.clip(0.02 * curves(draws, times, 3), -1, 1)
    gain = np.exp((swing[..., None] + np.clip(tint, -0.2, 0.2)) * changes[..., None])
    shade = _drifting(draws, times) * (0.4 * draws.chance(options.p_shade))[:, None, None, None]
    rising = np.clip((times - times[:, :1]) / max(options.frames - 1, 1), 0, 1)
    rising = np.where(draws.chance(0.5)[:, None], rising, 1 - 0.3 * rising)
    density = draws.uniform(low=options.haze[0], high=options.haze[1]) * draws.chance(options.p_haze)
    haze = (0.5 + 0.5 * _drifting(draws, times)) * (density[:, None] * rising)[..., None, None]
    return OpticsPlan(
        gain=gain,
        shade=shade,
        haze=haze,
        haze_colour=np.clip(draws.uniform(1, low=0.5, high=0.95) + 0.03 * draws.normal(3), 0, 1),
        softness=draws.uniform(low=options.softness[0], high=options.softness[1])
        * draws.chance(options.p_soft),
        noise=draws.log_uniform(*_positive(options.noise)) * draws.chance(options.p_noise),
        window=np.floor(draws.uniform(times.shape[1], 2) * 256),
        compressed=draws.chance(options.p_compression),
        quality=draws.uniform(low=options.quality[0], high=options.quality[1]),
    )


def _positive(limits: tuple[float, float]) -> tuple[float, float]:
    return max(limits[0], 1e-6), max(limits[1], 1e-6)


def _drifting(draws: Draws, times: Reals) -> Reals:
    """(B, T, 5, 5) of 0 to 1 that moves from one random field to another."""
    first, last = (np.clip(draws.normal(_FIELD, _FIELD) * 0.6, 0, 1)[:, None] for _ in range(2))
    span = np.maximum(times[:, -1:] - times[:, :1], 1)
    phase = ((times - times[:, :1]) / span)[..., None, None]
    return np.asarray(first * (1 - phase) + last * phase)


def photograph(colours: Tensor, plan: OpticsPlan) -> Tensor:
    """What the camera's file shows of RGB float32 (B, T, 3, H, W): uint8 of the same shape."""
    device = colours.device

    def on(array: Reals) -> Tensor:
        return torch.from_numpy(array).to(device, torch.float32)

    size = colours.shape[-2:]
    light = on(plan.gain)[..., None, None]
    if plan.shade.any():
        light = light * (1 - _wide(on(plan.shade), size))
    colours = colours * light
    if plan.haze.any():
        thick = _wide(on(plan.haze), size)
        colours = torch.lerp(colours, on(plan.haze_colour)[:, None, :, None, None], thick)
    if plan.softness.any():
        colours = _soften(colours, on(plan.softness))
    if plan.noise.any():
        colours = colours + on(plan.noise)[:, None, None, None, None] * _noise(plan.window, size, device)
    if plan.compressed.any():
        clips = torch.from_numpy(np.flatnonzero(plan.compressed)).to(device)
        colours = colours.clamp(0, 1)
        colours[clips] = compress(colours[clips], on(plan.quality)[clips])
    return colours.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def _wide(field: Tensor, size: torch.Size) -> Tensor:
    """(B, T, 1, H, W) of (B, T, 5, 5)."""
    return F.interpolate(field, tuple(size), mode="bicubic", align_corners=True).clamp_(0, 1)[:, :, None]


def _soften(colours: Tensor, deviation: Tensor) -> Tensor:
    """A Gaussian of three taps each way; its outer weight gives the deviation: σ² = 2 w, w ≤ 1/4 is kept by
    going over the picture twice."""
    weight = (deviation**2 / 4).clamp(max=0.25)[:, None, None, None, None]
    for dim in (-1, -2, -1, -2):
        size = colours.shape[dim]
        index = torch.arange(size, device=colours.device)
        before = colours.index_select(dim, (index - 1).clamp(min=0))
        after = colours.index_select(dim, (index + 1).clamp(max=size - 1))
        colours = colours * (1 - 2 * weight) + weight * (before + after)
    return colours


@lru_cache(maxsize=4)
def _noise_sheet(device: torch.device) -> Tensor:
    """(3, side, side) standard normal, mostly equal in the three colours; the same in every process."""
    random = torch.Generator().manual_seed(1)
    sheet = 0.6 * torch.randn(3, _NOISE_SIDE, _NOISE_SIDE, generator=random)
    return (sheet + 0.8 * torch.randn(1, _NOISE_SIDE, _NOISE_SIDE, generator=random)).to(device)


def _noise(window: Reals, size: torch.Size, device: torch.device) -> Tensor:
    """(B, T, 3, H, W): each frame's own piece of the sheet."""
    sheet = _noise_sheet(device)
    pieces = [
        sheet[:, y : y + size[0], x : x + size[1]] for y, x in window.reshape(-1, 2).astype(np.int64).tolist()
    ]
    return torch.stack(pieces).view(*window.shape[:2], 3, *size)


# Compression ------------------------------------------------------------------------------------------


def compress(colours: Tensor, quality: Tensor) -> Tensor:
    """What JPEG's quantisation leaves of RGB (B, T, 3, H, W), 0 to 1, sides multiples of 16.

    Args:
        quality: (B,) 1 to 100, as libjpeg counts.

    Source: ITU-T T.81: YCbCr with halved colours, 8 × 8 cosine transform, annex K's tables.
    """
    red, green, blue = colours.unbind(2)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).clamp_(min=0.01)[:, None, None, None]
    tables = _tables(colours.device)
    luma = _quantised(luma - 0.5, scale, tables[0]) + 0.5
    chroma = []
    for colour, weight in ((blue - luma, 0.564), (red - luma, 0.713)):
        small = F.avg_pool2d(colour * weight, 2)
        coarse = _quantised(small, scale, tables[1])
        full = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        chroma.append(full / weight)
    blue, red = luma + chroma[0], luma + chroma[1]
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    return torch.stack((red, green, blue), dim=2)


def _quantised(plane: Tensor, scale: Tensor, table: Tensor) -> Tensor:
    """(B, T, H, W) after rounding the cosine transform of each 8 × 8 block."""
    batch, times, height, width = plane.shape
    cosines = _cosines(plane.device)
    rows = plane.reshape(batch, times, -1, 8) @ cosines.T  # (B, T, H · W/8, 8)
    blocks = cosines @ rows.view(batch, times, height // 8, 8, width)  # frequencies: rows, then in each 8
    step = (table * scale).view(batch, 1, 1, 8, 8).repeat(1, 1, 1, 1, width // 8)
    blocks = torch.round(blocks / step) * step
    rows = cosines.T @ blocks
    return (rows.view(batch, times, -1, 8) @ cosines).view(batch, times, height, width)


@lru_cache(maxsize=4)
def _cosines(device: torch.device) -> Tensor:
    """(8, 8) orthonormal cosine transform: frequency by place."""
    place = torch.arange(8, dtype=torch.float64)
    waves = torch.cos((2 * place + 1) * place[:, None] * (math.pi / 16)) / 2
    waves[0] /= 2**0.5
    return waves.to(device, torch.float32)


@lru_cache(maxsize=4)
def _tables(device: torch.device) -> Tensor:
    """(2, 8, 8) quantisation steps of brightness and colour at quality 50, white being 1."""
    chroma = torch.full((8, 8), 99.0)
    chroma[:4, :4] = torch.tensor(_CHROMA_CORNER)
    return (torch.stack((torch.tensor(_LUMA), chroma)) / 255).to(device, torch.float32)
