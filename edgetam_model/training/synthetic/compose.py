"""The moving picture: things over the canvas, front to back, and what can be seen of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from edgetam_model.training.synthetic.draws import Bools, Ints
from edgetam_model.training.synthetic.limbs import LimbView, look_at_limbs
from edgetam_model.training.synthetic.scenery import EXTENT
from edgetam_model.training.synthetic.sprites import REACH, Sprites, pixel_grid

_CACHED = 2**17  # pixels drawn at once on the CPU: the dozen planes of half a megabyte stay in its cache


@dataclass(frozen=True, eq=False)
class Action:
    """L things in each of B clips at each of S times, float32 on the device unless said otherwise.

    Attributes:
        centre: (B, S, L, 2) in the world.
        inverse: (B, S, L, 2, 2) from the world, less the centre, to the thing's coordinates.
        scale: (B, S, L) the world's length of a thing's unit, the smaller one of its two.
        opacity: (B, S, L).
        bend: (B, S, L) height of a parabola along the thing.
        turn: (B, S, L, 2) how far the surface has slid, in the thing's coordinates.
        ripple: (B, S, L, 2, 3) height, frequency and phase of a wave along y that moves x, and vice versa.
        joints, radii, colours, change: the limbs, see LimbPlan.
        shadow: (B,) darkness below things.
        order: (B, L) the things from front to back; on the host.
        active, limbed, supple, turning: (B, L) which things are there, have limbs, bend, turn; on the host.
    """

    centre: Tensor
    inverse: Tensor
    scale: Tensor
    opacity: Tensor
    bend: Tensor
    turn: Tensor
    ripple: Tensor
    joints: Tensor
    radii: Tensor
    colours: Tensor
    change: Tensor
    shadow: Tensor
    order: Ints
    active: Bools
    limbed: Bools
    supple: Bools
    turning: Bools

    def at(self, times: slice) -> Action:
        """The same action at some of its times."""
        return replace(
            self,
            centre=self.centre[:, times],
            inverse=self.inverse[:, times],
            scale=self.scale[:, times],
            opacity=self.opacity[:, times],
            bend=self.bend[:, times],
            turn=self.turn[:, times],
            ripple=self.ripple[:, times],
            joints=self.joints[:, times],
        )


@dataclass(frozen=True, eq=False)
class View:
    """What the camera sees: matrix (B, S, 2, 2), centre and tilt (B, S, 2) of `Camera`; size in pixels."""

    matrix: Tensor
    centre: Tensor
    tilt: Tensor
    size: int

    def at(self, times: slice) -> View:
        """The same view at some of its times."""
        return View(self.matrix[:, times], self.centre[:, times], self.tilt[:, times], self.size)

    def world(self) -> tuple[Tensor, Tensor]:
        """x and y, (B, S, H, W) each, of what every pixel shows."""
        x, y = pixel_grid(self.size, self.size, 1.0, self.matrix.device).unbind(-1)
        tilt_x, tilt_y = self.tilt[..., 0, None, None], self.tilt[..., 1, None, None]
        depth = 1 / (1 + tilt_x * x + tilt_y * y)
        x, y = x * depth, y * depth
        rows = [
            self.matrix[:, :, r, 0, None, None] * x + self.matrix[:, :, r, 1, None, None] * y for r in (0, 1)
        ]
        return rows[0] + self.centre[..., 0, None, None], rows[1] + self.centre[..., 1, None, None]


@dataclass(frozen=True, eq=False)
class Picture:
    """RGB float32 (B, 3, S, H, W), and the share of every pixel that a thing takes, (B, L, S, H, W)."""

    colours: Tensor
    visible: Tensor


def compose(canvas: Tensor, sprites: Sprites, action: Action, view: View) -> Picture:
    """Draw the things, front to back: what is left of a pixel goes to the next, the last to the canvas."""
    times = action.centre.shape[1]
    step = max(1, _CACHED // view.size**2) if canvas.device.type == "cpu" else times
    slices = [slice(start, start + step) for start in range(0, times, step)]
    parts = [_compose_times(canvas, sprites, action.at(part), view.at(part)) for part in slices]
    if len(parts) == 1:
        return parts[0]
    return Picture(torch.cat([p.colours for p in parts], dim=2), torch.cat([p.visible for p in parts], dim=2))


def _compose_times(canvas: Tensor, sprites: Sprites, action: Action, view: View) -> Picture:
    world_x, world_y = view.world()
    batch, times, height, width = world_x.shape
    colours = world_x.new_zeros(batch, 3, times, height, width)
    visible = world_x.new_zeros(batch, action.centre.shape[2], times, height, width)
    light, free = torch.ones_like(world_x), torch.ones_like(world_x)  # what passes; opacity counts in light
    clips = torch.arange(batch, device=world_x.device)
    for step in range(action.order.shape[1]):
        host = action.order[:, step]
        rows = clips.cpu().numpy()
        if not action.active[rows, host].any():
            continue
        thing = torch.from_numpy(host).to(world_x.device)
        actor = _Actor(action, clips, thing, host)
        seen, solid = actor.draw(sprites, world_x, world_y, view.size)
        visible[clips, thing] = free * solid
        covered = solid * action.opacity[clips, :, thing, None, None]
        colours += (light * covered)[:, None] * seen
        light = light * (1 - covered)
        free = free * (1 - solid)
        if (action.shadow > 0).any():
            light = light * (1 - action.shadow[:, None, None, None] * _below(covered))
    grid = torch.stack((world_x, world_y), -1).div_(EXTENT).view(batch, times * height, width, 2)
    ground = F.grid_sample(canvas, grid, padding_mode="reflection", align_corners=False)
    colours += light[:, None] * ground.view_as(colours)
    return Picture(colours, visible)


class _Actor:
    """One thing of each clip, picked from the action."""

    def __init__(self, action: Action, clips: Tensor, thing: Tensor, host: Ints) -> None:
        rows = clips.cpu().numpy()
        self._clips, self._thing = clips, thing
        self._active = torch.from_numpy(action.active[rows, host]).to(thing.device)
        self._limbed = torch.from_numpy(action.limbed[rows, host]).to(thing.device)
        self._has_limbs = bool((action.limbed & action.active)[rows, host].any())
        self._bends = bool((action.supple & action.active)[rows, host].any())
        self._turns = bool((action.turning & action.active)[rows, host].any())
        self._action = action

    def draw(self, sprites: Sprites, world_x: Tensor, world_y: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """The thing's colours (B, 3, S, H, W) and its share of every pixel (B, S, H, W)."""
        x, y = self._own(world_x, world_y)
        batch, times, height, width = x.shape
        grid = torch.stack((x, y), -1).div_(REACH).view(batch, times * height, width, 2)
        pixels = sprites.pixels[self._clips, self._thing]
        seen = F.grid_sample(pixels, grid, align_corners=False).view(batch, 4, times, height, width)
        colours, body = seen[:, :3], seen[:, 3]
        if self._turns:
            colours = self._turned(pixels, grid).view_as(colours)
        unit = self._pick(self._action.scale)[..., None, None] * (size / 2)  # pixels per unit
        # A wide ramp of a shrunken thing may not end in the sprite: outside its rim nothing is.
        solid = ((body - 0.5) * (unit / sprites.slope).clamp(min=1) + 0.5).clamp_(0, 1)
        if self._has_limbs:
            colours, solid = self._add_limbs(colours, solid, unit, x, y)
        return colours, solid * self._active[:, None, None, None]

    def _turned(self, pixels: Tensor, grid: Tensor) -> Tensor:
        """(B, 3, S · H, W): the surface slid within the outline; past the sprite's rim it is mirrored."""
        slid = self._pick(self._action.turn).div(REACH)[:, :, None, None]
        batch, rows, width, _ = grid.shape
        times = slid.shape[1]
        moved = (grid.view(batch, times, rows // times, width, 2) - slid).view_as(grid)
        return F.grid_sample(pixels[:, :3], moved, padding_mode="reflection", align_corners=False)

    def _pick(self, values: Tensor) -> Tensor:
        """(B, S, …) of (B, S, L, …): this thing's."""
        return values[self._clips, :, self._thing]

    def _own(self, world_x: Tensor, world_y: Tensor) -> tuple[Tensor, Tensor]:
        """The world's points in the thing's own coordinates, bent and rippled."""
        centre, inverse = self._pick(self._action.centre), self._pick(self._action.inverse)
        away_x, away_y = world_x - centre[..., 0, None, None], world_y - centre[..., 1, None, None]
        x, y = (
            (inverse[:, :, r, 0, None, None] * away_x).add_(inverse[:, :, r, 1, None, None] * away_y)
            for r in (0, 1)
        )
        if self._bends:
            wave = self._pick(self._action.ripple)[..., None, None]
            y = y + self._pick(self._action.bend)[..., None, None] * x.clamp(-1.5, 1.5).square_()
            x = x + wave[:, :, 0, 0] * torch.sin(wave[:, :, 0, 1] * y + wave[:, :, 0, 2])
            y = y + wave[:, :, 1, 0] * torch.sin(wave[:, :, 1, 1] * x + wave[:, :, 1, 2])
        return x, y

    def _add_limbs(
        self, colours: Tensor, solid: Tensor, unit: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        action = self._action
        radii = action.radii[self._clips, self._thing]
        limbs = look_at_limbs(self._pick(action.joints), radii, x, y)
        there = self._limbed[:, None, None, None]
        front = (0.5 - limbs.front * unit).clamp_(0, 1) * there
        back = (0.5 - limbs.behind * unit).clamp_(0, 1) * there * (1 - solid)
        paint = self._limb_colours(limbs)
        share = front + back * (1 - front)
        return torch.lerp(colours, paint, share[:, None]), torch.maximum(solid, front) + back * (1 - front)

    def _limb_colours(self, limbs: LimbView) -> Tensor:
        """(B, 3, S, H, W): the upper colour, then the lower one, darker towards the limb's outline."""
        colours = self._action.colours[self._clips, self._thing][..., None, None, None]  # (B, 2, 3, 1, 1, 1)
        change = self._action.change[self._clips, self._thing][:, None, None, None]
        lower = ((limbs.along - change) * 20).clamp_(0, 1)[:, None]
        depth = (torch.minimum(limbs.front, limbs.behind) * -12).clamp_(0, 1)
        return torch.lerp(colours[:, 0], colours[:, 1], lower) * (0.7 + 0.3 * depth)[:, None]


def _below(covered: Tensor) -> Tensor:
    """(B, S, H, W): a soft copy of the shape, a little lower: pooled to an eighth and spread again."""
    height, width = covered.shape[-2:]
    small = F.avg_pool2d(covered, 8)
    lower = F.pad(small, (0, 0, 1, 0))[:, :, :-1]
    soft = F.avg_pool2d(0.5 * (small + lower), 3, stride=1, padding=1)
    return F.interpolate(soft, (height, width), mode="bilinear", align_corners=False)
