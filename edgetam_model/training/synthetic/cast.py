"""Who plays in a clip: tracked things, a look-alike, something that passes in front, and clutter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgetam_model.training.synthetic.cut_things import CutThings, draw_cut_things
from edgetam_model.training.synthetic.draws import Bools, Draws, Ints, Reals
from edgetam_model.training.synthetic.events import MAIN, Events
from edgetam_model.training.synthetic.options import SyntheticOptions
from edgetam_model.training.synthetic.paint import Paints, draw_paints
from edgetam_model.training.synthetic.scenery import CLUTTER, REGIONS
from edgetam_model.training.synthetic.shapes import ANGLES, NONE, PARTS, PATCH, Shapes, draw_shapes
from edgetam_model.training.textures import TextureBank

_LIMBS = 0x6C696D62  # the number of a stream
_BOX = 2**0.5  # the corner of a square whose sides are at ±1


@dataclass(frozen=True, eq=False)
class Cast:
    """Things 0 to K − 1 are tracked, K is the look-alike, K + 1 passes in front, then comes clutter.

    Attributes:
        shapes, paints, shading: of all N = K + 2 + CLUTTER things; PARTS surfaces each.
        cuts: which of the N are cut-outs instead, and how they look.
        ground: the REGIONS surfaces of the scenery.
        limbed: (B, K + 2) which have limbs.
        active: (B, K + 2) which are there.
        order: (B, K + 2) the things from front to back.
    """

    shapes: Shapes
    paints: Paints
    shading: Reals
    cuts: CutThings
    ground: Paints
    limbed: Bools
    active: Bools
    order: Ints


def draw_cast(draws: Draws, events: Events, bank: TextureBank, options: SyntheticOptions) -> Cast:
    """The things of each clip, without their movement."""
    tracked = options.objects
    twin, occluder, count = tracked, tracked + 1, tracked + 2 + CLUTTER
    limbed = draws.chance(options.p_articulated, count)
    limbed[:, occluder:] = False
    shapes = draw_shapes(draws, count, limbed, options)
    paints = draw_paints(draws, count * PARTS, bank, options)
    paints = _alike(draws, paints, count)
    # Grounds are textured and photographed more often than things are.
    wide = replace(options, p_photograph=options.p_photograph**0.3, p_flat=options.p_flat * 0.3)
    ground = draw_paints(draws, REGIONS, bank, wide)
    shading = _draw_shading(draws, count, options)

    has_twin = draws.chance(options.p_twin)
    limbed[:, twin] = limbed[:, MAIN]
    shapes = _twin_shape(draws, shapes, twin)
    paints = _copied(paints, MAIN, twin)
    shading[:, twin] = shading[:, MAIN]
    paints = _camouflaged(draws, paints, ground, options)
    shapes = _solid(shapes, occluder, events)
    cuts = draw_cut_things(draws, count, twin, bank, options)
    cuts.which[events.covered, occluder] = -1  # a box hides more surely
    kept = draws.beside(_LIMBS).chance(options.p_cutout_limbs, count)
    kept[:, twin] = kept[:, MAIN]
    limbed &= (cuts.which < 0) | kept

    objects = np.searchsorted((0.45, 0.8), draws.uniform(), side="right") + 1
    active = np.arange(tracked + 2) < np.minimum(objects, tracked)[:, None]
    active[:, twin], active[:, occluder] = has_twin, events.covered | events.passed
    return Cast(
        shapes, paints, shading, cuts, ground, limbed[:, : tracked + 2], active, _order(draws, tracked)
    )


def _alike(draws: Draws, paints: Paints, count: int) -> Paints:
    """Most parts share a surface with their body: things have two or three, not five."""
    own = draws.chance(0.45, count, PARTS)
    own[:, :, 0] = True
    source = np.where(own, np.arange(PARTS), 0) + np.arange(count)[:, None] * PARTS
    return _picked(paints, source.reshape(len(own), -1))


def _picked(paints: Paints, source: Ints) -> Paints:
    rows = np.arange(len(source))[:, None]
    return Paints(
        paints.tile[rows, source],
        paints.window[rows, source],
        paints.gain[rows, source],
        paints.base[rows, source],
    )


def _copied(paints: Paints, source: int, target: int) -> Paints:
    """The paints with the target thing's parts painted as the source's."""
    surfaces = np.arange(paints.tile.shape[1])
    surfaces[target * PARTS : (target + 1) * PARTS] = np.arange(source * PARTS, (source + 1) * PARTS)
    return paints.only(surfaces)


def _twin_shape(draws: Draws, shapes: Shapes, twin: int) -> Shapes:
    """The twin has the main thing's parts, a tenth off."""
    source = np.arange(shapes.role.shape[1])
    source[twin] = MAIN
    copied = shapes.only(source)
    copied.axes[:, twin] *= np.exp(0.1 * draws.normal(PARTS, 2))
    copied.centre[:, twin] += 0.05 * draws.normal(PARTS, 2)
    return copied


def _solid(shapes: Shapes, occluder: int, events: Events) -> Shapes:
    """What passes in front fills its place: a box where it must hide, else any shape without holes."""
    turn = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    box = 1 / np.maximum(np.abs(np.cos(turn)), np.abs(np.sin(turn))) / _BOX
    hides = events.covered[:, None]
    changed = shapes.only(np.arange(shapes.role.shape[1]))  # copies
    changed.contour[:, occluder, 0] = np.where(hides, box, changed.contour[:, occluder, 0])
    changed.axes[:, occluder, 0] = np.where(hides, _BOX, 1.0)
    changed.centre[:, occluder, 1:] *= 0.6
    role = changed.role[:, occluder, 1:]
    changed.role[:, occluder, 1:] = np.where(role == NONE, NONE, PATCH)
    return changed


def _camouflaged(draws: Draws, paints: Paints, ground: Paints, options: SyntheticOptions) -> Paints:
    """The main thing's body in the ground's texture, hardly lighter or darker."""
    hidden = draws.chance(options.p_camouflage)
    region = draws.integers(REGIONS)
    rows = np.arange(len(region))
    light = np.exp(0.12 * draws.normal(1))
    tile, gain, base = paints.tile.copy(), paints.gain.copy(), paints.base.copy()
    tile[:, 0] = np.where(hidden, ground.tile[rows, region], tile[:, 0])
    gain[:, 0] = np.where(hidden[:, None], ground.gain[rows, region] * light, gain[:, 0])
    base[:, 0] = np.where(hidden[:, None], ground.base[rows, region] * light, base[:, 0])
    return Paints(tile, paints.window, gain, base)


def _draw_shading(draws: Draws, count: int, options: SyntheticOptions) -> Reals:
    """(B, N, 4) as `paint_sprites` takes it; the light of a clip comes from one side."""
    shaded = draws.chance(options.p_shading, count)
    dark = draws.uniform(count, low=0.1, high=0.6) * shaded
    depth = draws.uniform(count, low=0.1, high=0.45)
    strength = draws.uniform(count, high=0.4) * shaded
    angle = draws.uniform(1, high=2 * np.pi)
    return np.stack((dark, depth, strength * np.cos(angle), -strength * np.abs(np.sin(angle))), -1)


def _order(draws: Draws, tracked: int) -> Ints:
    """Front to back: what passes first, then the others at random, the main thing mostly before them."""
    depth = draws.uniform(tracked + 2)
    depth[:, MAIN] -= draws.chance(0.5)
    depth[:, tracked + 1] = -2
    return np.argsort(depth, axis=1, kind="stable")
