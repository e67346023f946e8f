"""The shapes of things: every object is up to five star-shaped parts, drawn as tables of radii."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgetam_model.training.synthetic.draws import Bools, Draws, Ints, Reals
from edgetam_model.training.synthetic.options import SyntheticOptions

ANGLES = 64  # radii of a contour, from angle 0 up: 1 % of the radius between neighbours on most contours
PARTS = 5  # the body first

NONE, FRONT, BEHIND, PATCH, HOLE = range(5)  # what a part is to the body

_TURN = np.arange(ANGLES) * (2 * math.pi / ANGLES)


@dataclass(frozen=True, eq=False)
class Shapes:
    """The parts of N things in each of B clips. Unit: a thing's half extent is about 1.

    Attributes:
        contour: (B, N, PARTS, ANGLES) radius of the outline by angle, at most 1.
        centre: (B, N, PARTS, 2) x, y.
        axes: (B, N, PARTS, 2) what the contour is scaled by, along and across the part.
        angle: (B, N, PARTS) radians by which the part is turned.
        role: (B, N, PARTS) NONE, FRONT, BEHIND, PATCH (paint on the body) or HOLE.
        mirrored: (B, N) whether the left half repeats the right.
    """

    contour: Reals
    centre: Reals
    axes: Reals
    angle: Reals
    role: Ints
    mirrored: Bools

    def only(self, things: Ints) -> Shapes:
        """The shapes of these things, by their numbers."""
        return Shapes(
            contour=self.contour[:, things],
            centre=self.centre[:, things],
            axes=self.axes[:, things],
            angle=self.angle[:, things],
            role=self.role[:, things],
            mirrored=self.mirrored[:, things],
        )


def draw_shapes(draws: Draws, count: int, limbs: Bools, options: SyntheticOptions) -> Shapes:
    """Shapes of `count` things a clip; where `limbs` (B, count), the body leaves room for them."""
    body = draws.uniform(count, low=0.6, high=0.85) * np.where(limbs, 0.6, 1.0)
    slim = body * draws.uniform(count, low=0.42, high=1.0)
    tall = draws.chance(0.35, count)
    body, slim = np.where(tall, slim, body), np.where(tall, body, slim)
    around = draws.uniform(count, PARTS, high=2 * math.pi)
    role = _roles(draws, count, options)
    inside = (role == PATCH) | (role == HOLE)

    reach = draws.uniform(count, PARTS) * np.where(inside, 0.6, 0.35) + np.where(inside, 0.0, 0.65)
    edge = np.stack((body[..., None] * np.cos(around), slim[..., None] * np.sin(around)), axis=-1)
    centre = edge * reach[..., None]

    size = draws.uniform(count, PARTS, low=0.18, high=0.5) * np.where(role == HOLE, 0.7, 1.0)
    axes = size[..., None] * slim[..., None, None] ** 0.5
    axes = axes * np.stack((np.ones_like(size), draws.uniform(count, PARTS, low=0.4, high=1.0)), axis=-1)
    thin = draws.chance(options.p_thin, count, PARTS) & (role != HOLE)
    rod = np.stack((draws.uniform(count, PARTS, low=0.2, high=0.42), np.full_like(size, 0.05)), axis=-1)
    axes = np.where(thin[..., None], rod, axes)

    loose = draws.uniform(count, PARTS, high=2 * math.pi)
    angle = np.where(thin | draws.chance(0.5, count, PARTS), around, loose)
    centre[:, :, 0], angle[:, :, 0] = 0, 0
    axes[:, :, 0] = np.stack((body, slim), axis=-1)
    mirrored = draws.chance(options.p_symmetric, count)
    return Shapes(_contours(draws, count), centre, axes, angle, role, mirrored)


def _roles(draws: Draws, count: int, options: SyntheticOptions) -> Ints:
    kind = np.searchsorted((0.35, 0.6, 1.0), draws.uniform(count, PARTS), side="right") + FRONT
    role = np.where(draws.chance(options.p_part, count, PARTS), kind, NONE)
    role = np.where(draws.chance(options.p_hole, count, PARTS), HOLE, role)
    role[:, :, 0] = FRONT
    return role


def _contours(draws: Draws, count: int) -> Reals:
    """(B, count, PARTS, ANGLES): blobs, rounded boxes, polygons and stars."""
    shape = (count, PARTS, 1)
    kind = draws.uniform(*shape)
    radius = np.where(kind < 0.5, _blobs(draws, count), _boxes(draws, shape))
    radius = np.where(kind > 0.8, _polygons(draws, shape), radius)
    radius = np.where(kind > 0.93, _stars(draws, shape), radius)
    return np.asarray(radius / radius.max(axis=-1, keepdims=True))


def _blobs(draws: Draws, count: int) -> Reals:
    """Circles with a few waves of falling height around them."""
    waves = np.arange(2, 8)[:, None]
    rough = draws.uniform(count, PARTS, 1, 1, low=0.05, high=0.5)
    height = rough * draws.normal(count, PARTS, len(waves), 1) / waves
    phase = draws.uniform(count, PARTS, len(waves), 1, high=2 * math.pi)
    return np.clip(1 + (height * np.cos(waves * _TURN + phase)).sum(axis=-2), 0.35, 1.6)


def _boxes(draws: Draws, shape: tuple[int, int, int]) -> Reals:
    """Superellipses: exponent 2 is an ellipse, 12 a box with rounded corners."""
    power = draws.log_uniform(2, 12, *shape)
    return np.asarray((np.abs(np.cos(_TURN)) ** power + np.abs(np.sin(_TURN)) ** power) ** (-1 / power))


def _polygons(draws: Draws, shape: tuple[int, int, int]) -> Reals:
    """Three to seven corners, unevenly spread."""
    corners = draws.integers(5, *shape) + 3
    turn = _TURN + 0.35 * np.sin(_TURN + draws.uniform(*shape, high=2 * math.pi))
    sector = 2 * math.pi / corners
    return np.asarray(np.cos(sector / 2) / np.cos(turn % sector - sector / 2))


def _stars(draws: Draws, shape: tuple[int, int, int]) -> Reals:
    points = draws.integers(7, *shape) + 3
    depth = draws.uniform(*shape, low=0.1, high=0.4)
    return np.asarray(1 + depth * np.cos(points * _TURN))
