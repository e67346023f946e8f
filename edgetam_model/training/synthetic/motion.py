"""How things and the camera move: smooth curves that can be read at any time, also between two frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgetam_model.training.synthetic.draws import Bools, Draws, Reals
from edgetam_model.training.synthetic.options import SyntheticOptions

# The world is measured in half frames: the frame shows −1 … 1 while the camera rests.
_SOLID = 0.68  # a typical thing's outline reaches to this part of its unit
HALF = 2.0  # from a fraction of the frame's side to the world's unit


@dataclass(frozen=True, eq=False)
class Camera:
    """Where each pixel of the frame looks, in each of B clips at each of S times.

    A screen point p is the world's point centre + matrix · p / (1 + tilt · p).

    Attributes:
        matrix: (B, S, 2, 2).
        centre: (B, S, 2).
        tilt: (B, S, 2).
        moves: (B,).
    """

    matrix: Reals
    centre: Reals
    tilt: Reals
    moves: Bools

    def place(self, screen: Reals) -> Reals:
        """World coordinates of (B, S, N, 2) points of the screen, without the perspective."""
        return np.einsum("bsij,bsnj->bsni", self.matrix, screen) + self.centre[:, :, None]


@dataclass(frozen=True, eq=False)
class Poses:
    """Where N things are in each of B clips at each of S times.

    Attributes:
        centre: (B, S, N, 2) in the world.
        matrix: (B, S, N, 2, 2) from the thing's coordinates to the world's, less the centre.
    """

    centre: Reals
    matrix: Reals

    @property
    def radius(self) -> Reals:
        """(B, S, N): how far a thing reaches from its centre at most, in the world."""
        return np.asarray(np.linalg.norm(self.matrix, ord=2, axis=(-2, -1)))


def curves(draws: Draws, times: Reals, *shape: int) -> Reals:
    """(B, S, *shape): smooth movement from 0 at the clip's middle, typically by 1 per frame: a steady drift
    and two swings of 6 to 40 frames.

    Args:
        times: (B, S) in frames, 0 at the clip's middle.
    """
    time = times.reshape(*times.shape, *(1 for _ in shape))
    total = draws.normal(*shape)[:, None] * time
    for _ in range(2):
        rate = 2 * math.pi / draws.log_uniform(6, 40, *shape)[:, None]
        phase = draws.uniform(*shape, high=2 * math.pi)[:, None]
        height = 0.6 * draws.normal(*shape)[:, None] / rate  # so that its speed is 0.6 as typical
        total = total + height * (np.sin(rate * time + phase) - np.sin(phase))
    return np.asarray(total)


def turning(angle: Reals) -> Reals:
    """(…, 2, 2) rotations by angles (…)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack((np.stack((cos, -sin), -1), np.stack((sin, cos), -1)), -2)


def draw_camera(draws: Draws, times: Reals, options: SyntheticOptions) -> Camera:
    """The camera's path; at the clip's middle it rests at the origin."""
    moves = draws.chance(options.p_camera)
    steady = draws.chance(0.35)[:, None]  # these only pan
    on, rest = moves[:, None], moves[:, None] & ~steady
    pan = HALF * draws.log_uniform(*options.pan, 1)[..., None]
    centre = pan * curves(draws, times, 2) * on[..., None]
    scale = np.exp(np.clip(options.zoom * curves(draws, times) * rest, -0.5, 0.5))
    angle = options.roll * curves(draws, times) * rest
    tilt = np.clip(options.tilt * curves(draws, times, 2) * rest[..., None], -0.15, 0.15)
    return Camera(scale[..., None, None] * turning(angle), centre, tilt, moves)


@dataclass(frozen=True, eq=False)
class Sizes:
    """How large N things are: (B, N) half extents in half frames, and where (B, N, 2) on the screen."""

    extent: Reals
    where: Reals


def draw_sizes(draws: Draws, count: int, options: SyntheticOptions) -> Sizes:
    """The first thing is the main one: large and near the middle in most clips."""
    close = draws.chance(options.p_close)
    size = draws.log_uniform(*options.far_size, count)
    size[:, 0] = np.where(close, draws.log_uniform(*options.close_size), size[:, 0])
    extent = size / _SOLID
    where = draws.uniform(count, 2, low=-0.9, high=0.9)
    near = np.clip(draws.normal(2) * 0.2, -0.5, 0.5)
    where[:, 0] = np.where(close[:, None], near, where[:, 0])
    return Sizes(extent, where)


def draw_poses(draws: Draws, times: Reals, sizes: Sizes, camera: Camera, options: SyntheticOptions) -> Poses:
    """The things' paths. Each belongs to the world or, as what a camera follows, to the screen."""
    count = sizes.extent.shape[1]
    haste = draws.log_uniform(*options.speed, 1) * np.exp(0.4 * draws.normal(count))
    haste = np.where(draws.chance(0.15, count), 0.05 * haste, haste)  # some rest, nearly
    step = (HALF * haste)[:, None, :, None] * curves(draws, times, count, 2)
    screen = sizes.where[:, None] + step
    lively = np.minimum(haste / 0.02, 2)[:, None]

    followed = draws.chance(options.p_follow, count) & camera.moves[:, None]
    followed[:, 1:] &= draws.chance(0.3, count - 1)
    centre = np.where(followed[:, None, :, None], camera.place(screen), screen)

    growth = np.log(draws.log_uniform(*options.growth, count))
    growth = growth * draws.chance(options.p_growth, count) * np.where(draws.chance(0.7, count), 1, -1)
    span = np.maximum(times[:, -1] - times[:, 0], 1)[:, None, None]
    swell = growth[:, None] * times[:, :, None] / span + 0.012 * lively * curves(draws, times, count)
    scale = sizes.extent[:, None] * np.exp(np.clip(swell, -1.5, 1.5))

    upright = draws.chance(0.6, count)
    start = np.where(upright, 0.15 * draws.normal(count), draws.uniform(count, high=2 * math.pi))
    spin = 0.03 * lively * curves(draws, times, count) * draws.chance(0.6, count)[:, None]
    stretch = 0.2 * draws.normal(count)[:, None] + 0.01 * lively * curves(draws, times, count)
    stretch = np.exp(np.clip(stretch, -0.7, 0.7))
    side = np.where(draws.chance(0.5, count), -1.0, 1.0)[:, None]
    shear = 0.01 * lively * curves(draws, times, count)
    rows = (
        np.stack((side * stretch, np.clip(shear, -0.4, 0.4)), -1),
        np.stack((np.zeros_like(stretch), 1 / stretch), -1),
    )
    turn = turning(start[:, None] + spin)
    return Poses(centre, scale[..., None, None] * (turn @ np.stack(rows, -2)))
