"""What happens to the things of a clip: they leave and come back, pass behind something, or fade."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgetam_model.training.synthetic.draws import Bools, Draws, Reals
from edgetam_model.training.synthetic.motion import Camera, Poses
from edgetam_model.training.synthetic.options import SyntheticOptions

MAIN = 0  # the thing that all this happens to

_REACH = 1.35  # parts and limbs reach beyond a thing's half extent


@dataclass(frozen=True, eq=False)
class Events:
    """What happens in each of B clips.

    Attributes:
        leaves: (B,) the main thing goes outside the frame.
        covered: (B,) something hides it wholly.
        passed: (B,) something passes in front of it.
        start, length: (B,) first frame without it, and how many there are.
    """

    leaves: Bools
    covered: Bools
    passed: Bools
    start: Reals
    length: Reals


def draw_events(draws: Draws, clips: int, options: SyntheticOptions) -> Events:
    """Which clips hide their main thing, and when. A clip of one frame hides nothing."""
    shortest, longest = options.hidden_frames
    room = options.frames - 2  # visible before and, where the clip is long enough, after
    away = draws.chance(options.p_leave) & (room >= 1)
    behind = draws.chance(options.p_hidden_by_occluder)
    length = np.floor(draws.uniform(low=shortest, high=longest + 1))
    # Two thirds of the clip at most, and not from its very start: coming and going take frames too.
    length = np.minimum(length, max(2 * (options.frames - 1) // 3, 1))
    earliest = np.minimum(2, options.frames - 1 - length)
    start = earliest + np.floor(draws.uniform() * np.maximum(options.frames - length - earliest - 1, 1))
    assert start.shape == (clips,)
    return Events(
        leaves=away & ~behind,
        covered=away & behind,
        passed=draws.chance(options.p_occluder) & ~away,
        start=start,
        length=length,
    )


def leave(draws: Draws, times: Reals, poses: Poses, camera: Camera, events: Events) -> Poses:
    """The poses with the main thing outside the frame while it is to be.

    Args:
        times: (B, S) in frames, 0 at the first frame.
    """
    going, coming = _ways(draws, times, events)
    gone = np.minimum(going, coming)
    out = _side(draws)
    back = np.where(draws.chance(0.5)[:, None], out, _side(draws))
    direction = np.where((coming == 1)[..., None], out[:, None], back[:, None])
    # From wherever it is, just over the frame's edge with its whole reach; 1.2 for a frame that is turned.
    view = 1.2 * np.linalg.norm(camera.matrix, ord=2, axis=(-2, -1))
    through = np.abs(direction).argmax(axis=-1)[..., None]
    pace = np.take_along_axis(direction, through, -1)[..., 0]
    apart = np.take_along_axis(poses.centre[:, :, MAIN] - camera.centre, through, -1)[..., 0]
    distance = (view + _REACH * poses.radius[:, :, MAIN]) / np.abs(pace) - apart / pace
    distance = np.maximum(distance, 0)
    centre = poses.centre.copy()
    centre[:, :, MAIN] += (gone * distance * events.leaves[:, None])[..., None] * direction
    return replace(poses, centre=centre)


def pass_in_front(draws: Draws, times: Reals, poses: Poses, occluder: int, events: Events) -> Poses:
    """The poses with thing number `occluder` crossing the main one, wholly hiding it where it is to."""
    radius = _REACH * poses.radius[:, :, MAIN].max(axis=1)
    covered = events.covered
    half = radius * np.where(covered, 1.1, draws.uniform(low=0.15, high=0.7))
    tall = radius * np.where(covered, draws.uniform(low=1.1, high=2), draws.log_uniform(0.3, 3))
    angle = draws.normal() * 0.3 + np.where(draws.chance(0.6), 0.0, np.pi / 2)
    along = np.stack((np.cos(angle), np.sin(angle)), -1) * np.where(draws.chance(0.5), 1, -1)[:, None]

    # What hides the thing waits before it; what only passes goes straight on through the world.
    going, coming = _ways(draws, times, events)
    hiding = (going - coming) * (half + 1.1 * radius)[:, None]
    crossing = draws.uniform(1) * times.max(axis=1, keepdims=True)
    passing = (radius * draws.log_uniform(0.15, 0.8))[:, None] * (times - crossing)
    middle = _at(times, poses.centre[:, :, MAIN], crossing)
    base = np.where(covered[:, None, None], poses.centre[:, :, MAIN], middle[:, None])
    offset = np.where(covered[:, None], hiding, passing)[..., None] * along[:, None]

    axes = np.stack((along * half[:, None], np.stack((-along[:, 1], along[:, 0]), -1) * tall[:, None]), -1)
    centre, matrix = poses.centre.copy(), poses.matrix.copy()
    centre[:, :, occluder] = base + offset
    matrix[:, :, occluder] = axes[:, None]
    return Poses(centre, matrix)


def draw_opacity(draws: Draws, times: Reals, count: int, tracked: int, options: SyntheticOptions) -> Reals:
    """(B, S, count): 1; for some of the first `tracked` things it falls, or falls and rises again."""
    fades = draws.chance(options.p_fade, count) & (np.arange(count) < tracked)
    least = draws.uniform(count, low=options.fade[0], high=options.fade[1])
    span = np.maximum(times[:, -1:] - times[:, :1], 1)[..., None]
    phase = (times[..., None] - times[:, :1, None]) / span
    returns = draws.chance(0.4, count)[:, None]
    depth = np.where(returns, 1 - np.abs(2 * phase - 1), phase)
    return 1 - _smooth(1.3 * depth) * ((1 - least) * fades)[:, None]


def _ways(draws: Draws, times: Reals, events: Events) -> tuple[Reals, Reals]:
    """(B, S) each: 0 to 1 until the first hidden frame, and 1 to 0 after the last."""
    first, last = events.start[:, None], (events.start + events.length - 1)[:, None]
    ease = draws.uniform(1, low=1.5, high=4.0)  # frames that going and coming take
    ease = np.minimum(ease, np.maximum(first, 1))  # it starts where it is
    return _smooth((times - first + ease) / ease), _smooth((last + ease - times) / ease)


def _side(draws: Draws) -> Reals:
    """(B, 2): a direction out of the frame, through a side more often than through top or bottom."""
    side = np.where(draws.chance(0.5), 0.0, np.pi) + np.where(draws.chance(0.25), np.pi / 2, 0.0)
    angle = side + 0.25 * draws.normal()
    return np.stack((np.cos(angle), np.sin(angle)), -1)


def _smooth(rise: Reals) -> Reals:
    """0 below 0, 1 above 1, without corners between."""
    rise = np.clip(rise, 0, 1)
    return rise * rise * (3 - 2 * rise)


def _at(times: Reals, path: Reals, when: Reals) -> Reals:
    """(B, 2): the place on each path (B, S, 2) at the time nearest to `when` (B, 1)."""
    nearest = np.abs(times - when).argmin(axis=1)
    return np.asarray(path[np.arange(len(path)), nearest])
