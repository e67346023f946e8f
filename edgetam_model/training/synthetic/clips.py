"""The generator's face: clips by their numbers, batched on a device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgetam_model.errors import InputError
from edgetam_model.training.synthetic.cast import Cast, draw_cast
from edgetam_model.training.synthetic.compose import Action, View, compose
from edgetam_model.training.synthetic.cut_things import paint_cut_things
from edgetam_model.training.synthetic.draws import Draws, Ints, Reals
from edgetam_model.training.synthetic.events import (
    Events,
    draw_events,
    draw_opacity,
    leave,
    pass_in_front,
)
from edgetam_model.training.synthetic.limbs import draw_limbs
from edgetam_model.training.synthetic.motion import Camera, Poses, curves, draw_camera, draw_poses, draw_sizes
from edgetam_model.training.synthetic.optics import draw_optics, photograph
from edgetam_model.training.synthetic.options import SyntheticOptions
from edgetam_model.training.synthetic.paint import Swatches
from edgetam_model.training.synthetic.scenery import EXTENT, draw_scene, paint_canvas
from edgetam_model.training.synthetic.shapes import PARTS
from edgetam_model.training.synthetic.sprites import Sprites, paint_sprites
from edgetam_model.training.textures import TextureBank

_TURN = 0x7475726E  # the number of a stream
_ON_CPU, _ON_DEVICE = 1, 64  # clips rendered at once: one fits a core's cache, 64 fill a GPU (1 GB at 128 px)


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """B clips of T square frames with up to K tracked objects.

    Attributes:
        frames: uint8 (B, T, 3, H, W) RGB.
        masks: bool (B, T, K, H, W): the pixels of which an object takes more than half; no two share one.
        present: bool (B, T, K): whether an object has any pixel on a frame.
        objects: int64 (B,) how many of the K there are; the first is the main one.
        indices: int64 (B,) the clips' numbers.
    """

    frames: Tensor
    masks: Tensor
    present: Tensor
    objects: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return int(self.frames.shape[0])


@dataclass(frozen=True, eq=False)
class Script:
    """All that `compose` needs for B clips, and who plays in them."""

    cast: Cast
    sprites: Sprites
    canvas: Tensor
    action: Action
    view: View


class SyntheticClips:
    """Endless clips; clip number i of a seed is always the same.

    On the CPU a clip is the same to the bit whether it is made alone or among others: each is rendered by
    itself. On a GPU they are rendered together, by operations that give every pixel the same sum in every
    batch but for the compression's matrix products, which a library may round otherwise in batches of
    another size; the same call gives the same bits. All random numbers are drawn on the CPU from counters,
    so that every device gets the same scene.

    Args:
        options: what the clips look like.
        bank: the textures; moved to the device.
        device: where the clips are made and stay.
    """

    def __init__(
        self, options: SyntheticOptions, bank: TextureBank, device: torch.device | str = "cpu"
    ) -> None:
        self.options = options
        self.device = torch.device(device)
        self.bank = bank.to(self.device)
        means = [part.float().mean((2, 3)) / 255 for part in bank.tiles.split(256)]
        self._tile_colours = torch.cat(means).cpu().double().numpy()

    def batch(self, seed: int, start: int, count: int) -> ClipBatch:
        """Clips `start` to `start + count - 1` of a seed.

        Raises:
            InputError: a start below 0 or no clips.
        """
        if start < 0 or count < 1:
            raise InputError("count", f"expected clips from 0 up and at least one, got {count} from {start}")
        return self.make(seed, np.arange(start, start + count))

    @torch.no_grad()
    def make(self, seed: int, indices: Ints) -> ClipBatch:
        """The clips with these numbers (B,), in this order."""
        chunk = _ON_CPU if self.device.type == "cpu" else _ON_DEVICE
        blurred = _blurred(seed, indices, self.options)
        size, times, count = self.options.size, self.options.frames, self.options.objects
        shape = (len(indices), times)
        frames = torch.empty(*shape, 3, size, size, dtype=torch.uint8, device=self.device)
        masks = torch.empty(*shape, count, size, size, dtype=torch.bool, device=self.device)
        objects = np.empty(len(indices), np.int64)
        for blur in (False, True):
            chosen = np.flatnonzero(blurred == blur)
            for first in range(0, len(chosen), chunk):
                rows = chosen[first : first + chunk]
                where = torch.from_numpy(rows).to(self.device)
                frames[where], masks[where], objects[rows] = self._render(seed, indices[rows], blur=blur)
        counts = torch.from_numpy(objects).to(self.device)
        numbers = torch.from_numpy(indices.astype(np.int64)).to(self.device)
        return ClipBatch(frames, masks, masks.any(-1).any(-1), counts, numbers)

    def _render(self, seed: int, indices: Ints, *, blur: bool) -> tuple[Tensor, Tensor, Ints]:
        """Frames, masks and numbers of objects of clips that are all blurred, or all not."""
        options = self.options
        draws = Draws(seed, indices)
        shutter = draws.uniform(low=options.exposure[0], high=options.exposure[1])
        moments = options.subframes if blur else 1
        opened = (np.arange(moments) / moments)[None] * shutter[:, None]
        times = (np.arange(options.frames)[:, None] + opened[:, None]).reshape(len(indices), -1)

        script = self._write(draws, times)
        picture = compose(script.canvas, script.sprites, script.action, script.view)
        batch, size = len(indices), options.size
        colours = picture.colours.view(batch, 3, options.frames, moments, size, size).mean(3)
        visible = picture.visible[:, : options.objects]
        visible = visible.view(batch, options.objects, options.frames, moments, size, size).mean(3)
        middle = (options.frames - 1) / 2
        whole = np.broadcast_to(np.arange(options.frames) - middle, (batch, options.frames))
        optics = draw_optics(draws, whole, options)
        frames = photograph(colours.transpose(1, 2), optics)
        objects = script.cast.active[:, : options.objects].sum(axis=1)
        return frames, (visible > 0.5).transpose(1, 2), objects

    def _write(self, draws: Draws, times: Reals) -> Script:
        options, device = self.options, self.device
        events = draw_events(draws, len(times), options)
        cast = draw_cast(draws, events, self.bank, options)
        camera = draw_camera(draws, times - (options.frames - 1) / 2, options)
        poses = self._draw_poses(draws, times, camera, events)
        action = self._draw_action(draws, times, cast, poses)

        sprites = self._paint(cast)
        clutter = Sprites(sprites.pixels[:, cast.active.shape[1] :])
        ground = Swatches.of(cast.ground, device)
        canvas_side = round(options.size * EXTENT)
        canvas = paint_canvas(draw_scene(draws), ground, clutter, self.bank, canvas_side)
        view = View(
            self._real(camera.matrix), self._real(camera.centre), self._real(camera.tilt), options.size
        )
        return Script(cast, sprites, canvas, action, view)

    def _paint(self, cast: Cast) -> Sprites:
        """The things that are there in any of the clips; the others stay empty."""
        count = cast.shapes.role.shape[1]
        there = np.ones(count, np.bool_)
        there[: cast.active.shape[1]] = cast.active.any(axis=0)
        side = self.options.size * 3 // 4  # a thing that fills the frame is then enlarged by a third
        pixels = torch.zeros(len(cast.order), count, 4, side, side, device=self.device)
        cut = cast.cuts.which >= 0
        drawn, pasted = np.flatnonzero((there & ~cut).any(axis=0)), np.flatnonzero((there & cut).any(axis=0))
        if drawn.size:
            surfaces = (drawn[:, None] * PARTS + np.arange(PARTS)).ravel()
            swatches = Swatches.of(cast.paints.only(surfaces), self.device)
            shading = self._real(cast.shading[:, drawn])
            painted = paint_sprites(cast.shapes.only(drawn), swatches, shading, self.bank, side)
            pixels[:, torch.from_numpy(drawn).to(self.device)] = painted.pixels
        if pasted.size:
            where = torch.from_numpy(pasted).to(self.device)
            shading = self._real(cast.shading[:, pasted])
            cuts = paint_cut_things(cast.cuts.only(pasted), shading, self.bank, side)
            chosen = torch.from_numpy(cut[:, pasted]).to(self.device)[..., None, None, None]
            pixels[:, where] = torch.where(chosen, cuts, pixels[:, where])
        return Sprites(pixels)

    def _draw_poses(self, draws: Draws, times: Reals, camera: Camera, events: Events) -> Poses:
        options = self.options
        count = options.objects + 2
        sizes = draw_sizes(draws, count, options)
        poses = draw_poses(draws, times - (options.frames - 1) / 2, sizes, camera, options)
        poses = leave(draws, times, poses, camera, events)
        return pass_in_front(draws, times, poses, count - 1, events)

    def _draw_action(self, draws: Draws, times: Reals, cast: Cast, poses: Poses) -> Action:
        options = self.options
        count = cast.active.shape[1]
        turn, turning = _draw_turning(draws, times, count, options)
        haste = draws.log_uniform(0.02, 0.12, count)
        body = cast.shapes.axes[:, :count, 0]
        limbs = draw_limbs(draws, times, body, haste, options.limb_length)
        own = draws.chance(0.5, count)
        bodies = cast.paints.only(np.arange(count) * PARTS)
        skin = self._tile_colours[bodies.tile] * bodies.gain + bodies.base
        colours = limbs.colours.copy()
        colours[:, :, 0] = np.where(own[..., None], np.clip(skin, 0, 1), colours[:, :, 0])

        supple = draws.chance(options.p_elastic, count)
        supple[:, -1] = False  # what passes in front stays as it is, to hide what it is to hide
        bend, ripple = _draw_bending(draws, times, count)
        values = np.linalg.svd(poses.matrix, compute_uv=False)
        bending = supple[:, None]
        shadow = draws.uniform(low=0.2, high=0.6) * draws.chance(options.p_contact_shadow)
        return Action(
            centre=self._real(poses.centre),
            inverse=self._real(np.linalg.inv(poses.matrix)),
            scale=self._real(values[..., -1]),
            opacity=self._real(draw_opacity(draws, times, count, options.objects, options)),
            bend=self._real(bend * bending),
            turn=self._real(turn),
            ripple=self._real(ripple * bending[..., None, None]),
            joints=self._real(limbs.joints),
            radii=self._real(limbs.radii),
            colours=self._real(colours),
            change=self._real(limbs.change),
            shadow=self._real(shadow),
            order=cast.order,
            active=cast.active,
            limbed=cast.limbed,
            supple=supple,
            turning=turning,
        )

    def _real(self, array: Reals) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, torch.float32)


def _blurred(
    seed: int, indices: Ints, options: SyntheticOptions
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which clips have motion blur: from a stream of its own, since it decides how many moments there are."""
    return Draws(seed ^ 0x626C7572, indices).chance(options.p_motion_blur)


def _draw_turning(
    draws: Draws, times: Reals, count: int, options: SyntheticOptions
) -> tuple[Reals, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """How far surfaces have slid (B, S, count, 2) since the first moment, and which do; see Action."""
    own = draws.beside(_TURN)
    turning = own.chance(options.p_turn, count)
    speed = own.log_uniform(*options.turn, count) * turning
    angle = own.uniform(count, high=2 * math.pi)
    way = np.stack((np.cos(angle), np.sin(angle)), -1) * speed[..., None]
    since = (times - times[:, :1])[..., None, None]
    return since * way[:, None], turning


def _draw_bending(draws: Draws, times: Reals, count: int) -> tuple[Reals, Reals]:
    """Bend (B, S, count) and ripple (B, S, count, 2, 3) of things, see Action."""
    rate = draws.log_uniform(0.1, 0.9, count)[:, None]
    phase = rate * times[..., None] + draws.uniform(count, high=2 * math.pi)[:, None]
    bend = 0.25 * np.clip(draws.normal(count), -1.5, 1.5)[:, None] * np.sin(phase)
    shape = (*phase.shape, 2)
    height = np.broadcast_to(draws.uniform(count, 2, high=0.08)[:, None], shape)
    waves = np.broadcast_to(draws.uniform(count, 2, low=1.0, high=4.0)[:, None], shape)
    moved = phase[..., None] + 0.1 * curves(draws, times, count, 2)
    return bend, np.stack((height, waves, moved), axis=-1)
