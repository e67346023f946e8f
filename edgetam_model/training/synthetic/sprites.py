"""Things as small pictures: colours, and a distance to the outline that stays sharp at every scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from edgetam_model.training.synthetic.paint import Swatches
from edgetam_model.training.synthetic.shapes import ANGLES, BEHIND, FRONT, HOLE, PATCH, Shapes
from edgetam_model.training.textures import TextureBank

REACH = 1.3  # a sprite covers −REACH … REACH of its thing's coordinates, whose half extent is about 1
RAMP = 5.0  # texels over which the stored coverage goes from 0 to 1; steeper would show the texels


@dataclass(frozen=True, eq=False)
class Sprites:
    """N pictures in each of B clips.

    Attributes:
        pixels: float32 (B, N, 4, S, S): RGB 0 to 1, and a coverage that is 1/2 on the outline and rises
            inwards by 1 in RAMP texels.
    """

    pixels: Tensor

    @property
    def slope(self) -> float:
        """Coverage gained over one unit of the thing's coordinates."""
        return self.pixels.shape[-1] / (2 * REACH * RAMP)


def paint_sprites(shapes: Shapes, paints: Swatches, shading: Tensor, bank: TextureBank, size: int) -> Sprites:
    """Draw N things of each clip.

    Args:
        shapes: N things.
        paints: N × PARTS surfaces, a thing's parts in a row.
        shading: (B, N, 4) darkening of the edge and its depth, direction of the light (x, y) times strength.
        size: side S of the pictures.
    """
    device = shading.device
    place = pixel_grid(size, size, REACH, device)
    distance = part_distances(shapes, place)
    role = torch.from_numpy(shapes.role).to(device)[..., None, None]
    batch, count, parts = role.shape[:3]
    colours = paints.coat(bank, place / REACH).view(batch, count, parts, 3, size, size)

    texel = 2 * REACH / size
    body = distance[:, :, 0]
    outline, colour = body, colours[:, :, 0]
    on_body = _coverage(body, texel)
    for part in range(1, parts):
        kind, away = role[:, :, part], distance[:, :, part]
        solid = (kind == FRONT) | (kind == BEHIND)
        outline = torch.where(solid, torch.minimum(outline, away), outline)
        covered = _coverage(away, texel) * (solid | (kind == PATCH))
        covered = torch.where(kind == BEHIND, covered * (1 - on_body), covered)
        colour = torch.lerp(colour, colours[:, :, part], covered[:, :, None])
    for part in range(1, parts):
        hole = role[:, :, part] == HOLE
        outline = torch.where(hole, torch.maximum(outline, -distance[:, :, part]), outline)
    colour = colour * shade(outline, place, shading)[:, :, None]
    return Sprites(torch.cat((colour, _coverage(outline, RAMP * texel)[:, :, None]), dim=2))


def pixel_grid(height: int, width: int, reach: float, device: torch.device) -> Tensor:
    """(H, W, 2) x, y of the pixels' centres, where the edges are at ±reach."""
    y = (torch.arange(height, device=device, dtype=torch.float32) * 2 + 1 - height) * (reach / height)
    x = (torch.arange(width, device=device, dtype=torch.float32) * 2 + 1 - width) * (reach / width)
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)


def part_distances(shapes: Shapes, place: Tensor) -> Tensor:
    """(B, N, PARTS, H, W): distance to each part's outline, negative inside; exact near the outline only."""
    device = place.device

    def on(array: object) -> Tensor:
        return torch.as_tensor(array, device=device, dtype=torch.float32)[..., None, None]

    x, y = place[..., 0], place[..., 1]
    mirrored = torch.from_numpy(shapes.mirrored).to(device)[..., None, None, None]
    x = torch.where(mirrored, x.abs(), x)
    x = x - on(shapes.centre[..., 0])
    y = y - on(shapes.centre[..., 1])
    cos, sin = on(shapes.angle).cos(), on(shapes.angle).sin()
    long, wide = on(shapes.axes[..., 0]), on(shapes.axes[..., 1])
    u, v = (x * cos + y * sin) / long, (y * cos - x * sin) / wide
    radius = (u * u).addcmul_(v, v).sqrt_().clamp_(min=1e-6)
    steepness = (
        (u / long).square_().add_((v / wide).square_()).sqrt_().div_(radius)
    )  # of the radius, per unit of length
    outline = _radius_at(torch.atan2(v, u), on(shapes.contour)[..., 0, 0])
    return (radius - outline) / steepness.clamp_(min=1e-3)


def _radius_at(angle: Tensor, contour: Tensor) -> Tensor:
    """The contours' radii (…, ANGLES) at angles (…, H, W), linear between the table's."""
    place = (angle * (ANGLES / (2 * math.pi))) % ANGLES
    low = place.floor()
    first = low.long() % ANGLES  # rounding may give ANGLES itself
    flat = first.flatten(-2)
    before = contour.gather(-1, flat).view_as(angle)
    after = contour.gather(-1, (flat + 1) % ANGLES).view_as(angle)
    return torch.lerp(before, after, place - low)


def _coverage(distance: Tensor, width: float) -> Tensor:
    """1 inside, 0 outside, linear over `width` around the outline."""
    return (0.5 - distance / width).clamp(0, 1)


def shade(outline: Tensor, place: Tensor, shading: Tensor) -> Tensor:
    """(B, N, S, S) light: less towards the edge, as on a rounded body, and on the side away from it."""
    dark, depth, light_x, light_y = (shading[..., i, None, None] for i in range(4))
    inner = (-outline / depth).clamp(0, 1)
    return (1 - dark * (1 - inner) ** 2) * (1 + light_x * place[..., 0] + light_y * place[..., 1]).clamp_(
        0.2, 2
    )
