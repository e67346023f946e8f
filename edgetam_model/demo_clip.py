"""The product's own clip: a ball rolls under a plank, a ladybird crosses the lawn, the camera drifts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask, Rle, encode_rle, mask_box
from edgetam_model.prompts import Prompt
from edgetam_model.render import OverlayWriter, Rgb

Floats = NDArray[np.float32]

BALL, LADYBIRD = 1, 2
LABELS: Mapping[int, str] = {BALL: "ball", LADYBIRD: "ladybird"}

_SUPERSAMPLING = 2  # drawn at twice the size and averaged down: smooth edges and true coverage
_SPAN = 16 / 9  # the scene is one unit tall and this wide, around (0, 0); other shapes see more of the lawn
_PLANK_AT, _PLANK_WIDTH = -0.08, 0.2  # the ball is 0.26 wide: a sliver of it stays in sight


@dataclass(frozen=True, eq=False)
class DemoClip:
    """The rendered clip and the truth about it.

    Attributes:
        path: the mp4.
        prompts: object id → its box on frame 0.
        labels: object id → what it is.
        masks: per frame, object id → the run lengths of what can be seen of it.
    """

    path: Path
    prompts: Mapping[int, Prompt]
    labels: Mapping[int, str]
    masks: tuple[Mapping[int, Rle], ...]


def render_demo_clip(
    path: str | Path, frames: int = 60, width: int = 640, height: int = 360, fps: float = 25, seed: int = 7
) -> DemoClip:
    """Render the clip into an mp4 that replaces what was there; the same arguments give the same frames.

    Raises:
        InputError: fewer than two frames, or a side below 64 pixels.
        MediaError: the video cannot be written.
    """
    scene = DemoScene(frames, width, height, seed)
    masks: list[Mapping[int, Rle]] = []
    prompts: dict[int, Prompt] = {}
    with OverlayWriter(path, width, height, fps) as video:
        for index in range(frames):
            rgb, truth = scene.frame(index)
            video.write(rgb, index / fps)
            masks.append({number: encode_rle(mask) for number, mask in truth.items()})
            if index == 0:
                prompts = {number: Prompt(box=mask_box(mask)) for number, mask in truth.items()}
    return DemoClip(Path(path), prompts, LABELS, tuple(masks))


class DemoScene:
    """The clip's frames, each drawn on its own from its index.

    Raises:
        InputError: fewer than two frames, or a side below 64 pixels.
    """

    def __init__(self, frames: int, width: int, height: int, seed: int = 7) -> None:
        if frames < 2 or width < 64 or height < 64:
            raise InputError(
                "frames", f"expected 2 frames of 64×64 or more, got {frames} of {width}×{height}"
            )
        self._frames = frames
        self._size = (height, width)
        self._seed = seed
        self._unit = _SUPERSAMPLING * min(height, width / _SPAN)  # canvas pixels per unit of the scene
        rng = np.random.default_rng(seed)
        # 1.2: what drift and zoom show beyond the first frame; a coarser world is enough, grass is soft.
        self._lawn = _lawn(rng, round(1.2 * height), round(1.2 * width))
        self._plank = _plank(rng, round(self._unit * _PLANK_WIDTH), round(1.2 * _SUPERSAMPLING * height))
        self._ladybird = _ladybird(rng, 256)

    def frame(self, index: int) -> tuple[Rgb, dict[int, Mask]]:
        """uint8 RGB (H, W, 3) of a frame, and what can be seen of each object: bool (H, W) by id."""
        t = index / (self._frames - 1)
        camera = _Camera.at(t, self._unit, self._size)
        canvas = camera.place(self._lawn, (0.0, 0.0), 1.2 * _SUPERSAMPLING * self._size[1] / self._unit)
        where, radius = (-0.62 + 1.15 * t, -0.15 + 0.07 * math.sin(5.2 * t)), 0.125 + 0.022 * t
        ball = _ball(round(2 * radius * camera.scale), roll=1.15 * t / radius)
        layers = {
            LADYBIRD: camera.place(self._ladybird, *_ladybird_pose(t)),
            BALL: camera.place(ball, where, 2 * radius),
            0: camera.place(self._plank, (_PLANK_AT, 0.0), _PLANK_WIDTH, turn=0.05),
        }
        visible: dict[int, Floats] = {}
        for number, layer in layers.items():
            alpha = layer[..., 3]
            _lay(canvas, layer, self._unit * (0.02 if number else 0.035))
            visible = {below: coverage * (1 - alpha) for below, coverage in visible.items()}
            if number:
                visible[number] = alpha
        return self._finished(canvas, index), {number: self._seen(visible[number]) for number in LABELS}

    def _finished(self, canvas: Floats, index: int) -> Rgb:
        """The frame at its own size, with a camera's grain."""
        rgb = cv2.resize(canvas[..., :3], self._size[::-1], interpolation=cv2.INTER_AREA)
        grain = np.random.default_rng((self._seed, index)).normal(0, 0.006, self._size).astype(np.float32)
        return np.asarray(np.clip(rgb + grain[..., None], 0, 1) * 255 + 0.5, np.uint8)

    def _seen(self, coverage: Floats) -> Mask:
        covered = cv2.resize(coverage, self._size[::-1], interpolation=cv2.INTER_AREA)
        return np.asarray(covered >= 0.5)


@dataclass(frozen=True)
class _Camera:
    """Where the scene's units fall on the canvas: `scale` pixels per unit around `centre`."""

    scale: float
    centre: tuple[float, float]
    canvas: tuple[int, int]  # width, height

    @classmethod
    def at(cls, t: float, unit: float, size: tuple[int, int]) -> _Camera:
        height, width = (n * _SUPERSAMPLING for n in size)
        drift = (0.035 * math.sin(4.1 * t), 0.02 * math.sin(2.7 * t + 0.4))
        centre = (width / 2 - drift[0] * unit, height / 2 - drift[1] * unit)
        return cls(unit * (1 + 0.03 * math.sin(3.3 * t)), centre, (width, height))

    def place(self, picture: Floats, where: tuple[float, float], wide: float, turn: float = 0.0) -> Floats:
        """The picture (h, w, 4) on an empty canvas: middle at `where`, `wide` units, turned in radians."""
        height, width = picture.shape[:2]
        zoom = wide * self.scale / width
        cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
        x = self.centre[0] + where[0] * self.scale
        y = self.centre[1] + where[1] * self.scale
        matrix = np.array(
            [
                [cos, -sin, x - cos * width / 2 + sin * height / 2],
                [sin, cos, y - sin * width / 2 - cos * height / 2],
            ]
        )
        placed: Any = cv2.warpAffine(picture, matrix, self.canvas, flags=cv2.INTER_LINEAR)
        return np.asarray(placed, np.float32)


def _ladybird_pose(t: float) -> tuple[tuple[float, float], float, float]:
    """Middle, width in units, and heading of the ladybird: it wanders left along the lower right."""
    where = (0.66 - 0.5 * t, 0.26 + 0.07 * math.sin(6 * t))
    heading = math.atan2(0.42 * math.cos(6 * t), -0.5)
    return where, 0.24 + 0.07 * math.sin(2.6 * t), heading


def _lay(canvas: Floats, layer: Floats, reach: float) -> None:
    """Put a layer on the canvas, with its shadow: `reach` pixels down to the right, softly."""
    box = mask_box(layer[..., 3] > 0)
    if box is None:
        return
    margin = math.ceil(3 * reach)
    rows, columns = (
        slice(max(0, box[1] - margin), box[3] + margin),
        slice(max(0, box[0] - margin), box[2] + margin),
    )
    below, part = canvas[rows, columns, :3], layer[rows, columns]
    alpha = np.ascontiguousarray(part[..., 3])
    shift = np.array([[1, 0, reach], [0, 1, reach]])
    moved = cv2.warpAffine(alpha, shift, alpha.shape[::-1])
    soft = np.asarray(cv2.GaussianBlur(moved, (0, 0), 0.5 * reach), np.float32)
    below *= ((1 - 0.5 * soft) * (1 - alpha))[..., None]
    below += part[..., :3]


# Pictures: float32 (h, w, 4), RGB already multiplied by alpha, 0 to 1 ---------------------------------


def _noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> Floats:
    """Smooth noise of −1 to 1 with so many cells down and across."""
    coarse = rng.uniform(-1, 1, cells).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _lawn(rng: np.random.Generator, height: int, width: int) -> Floats:
    patches = sum(_noise(rng, height, width, (n, 2 * n)) / (k + 1) for k, n in enumerate((3, 7, 19)))
    blades = _noise(rng, height, width, (max(2, height // 7), max(2, width // 2)))
    blades += 0.7 * _noise(rng, height, width, (max(2, height // 4), max(2, width // 2)))
    light = (0.5 + 0.07 * patches + 0.10 * blades)[..., None]
    dark, bright = np.array([0.10, 0.24, 0.06]), np.array([0.50, 0.68, 0.24])
    rgb = np.clip(dark + (bright - dark) * light, 0, 1)
    for _ in range(45):
        _daisy(rgb, rng, 0.006 * height * rng.uniform(0.8, 1.5))
    return np.dstack((rgb, np.ones((height, width)))).astype(np.float32)


def _daisy(rgb: NDArray[Any], rng: np.random.Generator, size: float) -> None:
    height, width = rgb.shape[:2]
    x, y, turn = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, math.pi)
    for petal in range(8):
        angle = turn + petal * math.pi / 4
        _disc(rgb, (x + size * math.cos(angle), y + size * math.sin(angle)), 0.5 * size, (0.93, 0.93, 0.88))
    _disc(rgb, (x, y), 0.55 * size, (0.95, 0.75, 0.15))


def _disc(
    rgb: NDArray[Any], at: tuple[float, float], radius: float, colour: tuple[float, float, float]
) -> None:
    bits = 4  # of OpenCV's fractional coordinates
    centre = (round(at[0] * 2**bits), round(at[1] * 2**bits))
    cv2.circle(rgb, centre, round(radius * 2**bits), colour, -1, cv2.LINE_8, bits)


def _plank(rng: np.random.Generator, width: int, height: int) -> Floats:
    """Weathered wood with its grain along the height, and round edges that catch the light."""
    grain = sum(
        _noise(rng, height, width, (rows, max(2, columns)))
        for rows, columns in ((5, width // 3), (9, width // 6), (3, 5))
    )
    across = np.abs(np.linspace(-1, 1, width, dtype=np.float32))
    light = (0.92 + 0.09 * grain) * (1 - 0.35 * across**6)
    rgb = np.array([0.62, 0.47, 0.32]) * light[..., None]
    return np.dstack((np.clip(rgb, 0, 1), np.ones((height, width)))).astype(np.float32)


def _ball(size: int, roll: float) -> Floats:
    """A beach ball of so many pixels across: coloured gores on a sphere that has rolled by `roll` radians."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    distance = np.hypot(x, y)
    z = np.sqrt(np.maximum(0, 1 - distance**2))
    # It rolls to the right: around the vertical axis of the image; the poles lean out of it.
    turned_x, turned_z = x * math.cos(roll) - z * math.sin(roll), x * math.sin(roll) + z * math.cos(roll)
    lean = 0.75
    pole = y * math.cos(lean) + turned_z * math.sin(lean)
    around = np.arctan2(turned_z * math.cos(lean) - y * math.sin(lean), turned_x)
    gores = np.array(
        [
            [0.90, 0.16, 0.14],
            [0.95, 0.94, 0.90],
            [0.98, 0.76, 0.10],
            [0.12, 0.36, 0.80],
            [0.95, 0.94, 0.90],
            [0.10, 0.62, 0.58],
        ]
    )
    rgb = gores[((around / (2 * math.pi) + 0.5) * 6).astype(int) % 6]
    rgb[np.abs(pole) > 0.93] = (0.95, 0.94, 0.90)
    facing = np.clip(-0.45 * x - 0.55 * y + 0.70 * z, 0, 1)  # the light comes from the upper left
    rgb = rgb * (0.42 + 0.62 * facing[..., None]) + 0.55 * (facing**40)[..., None]
    alpha = np.clip((1 - distance) * size / 2, 0, 1)[..., None]
    return np.concatenate((np.clip(rgb, 0, 1) * alpha, alpha), axis=2).astype(np.float32)


def _ladybird(rng: np.random.Generator, size: int) -> Floats:
    """A ladybird that looks to the right, `size` pixels square."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    body = np.hypot((x + 0.08) / 0.80, y / 0.68)
    head = np.hypot((x - 0.66) / 0.26, y / 0.36)
    rgb = np.empty((size, size, 3), np.float32)
    rgb[:] = (0.84, 0.12, 0.07)
    spots = ((0.30, 0.34, 0.15), (-0.12, 0.30, 0.17), (-0.48, 0.26, 0.13), (0.05, 0.56, 0.09))
    for at, side, radius in spots:
        rgb[np.hypot(x - at, np.abs(y) - side) < radius] = (0.07, 0.06, 0.06)
    rgb[(np.abs(y) < 0.02) | (x > 0.52)] = (0.07, 0.06, 0.06)
    rgb[np.hypot(x - 0.66, np.abs(y) - 0.20) < 0.09] = (0.92, 0.90, 0.84)
    dome = np.sqrt(np.clip(1 - body**2, 0, 1))
    gloss = np.exp(-(((x - 0.12) / 0.25) ** 2 + ((y + 0.22) / 0.14) ** 2))
    speckle = 1 + 0.06 * _noise(rng, size, size, (40, 40))
    rgb = rgb * (0.55 + 0.5 * dome[..., None]) * speckle[..., None] + 0.30 * gloss[..., None]
    alpha = np.clip(np.maximum(1 - body, (1 - head) * 0.36) * size * 0.34, 0, 1)[..., None]
    return np.concatenate((np.clip(rgb, 0, 1) * alpha, alpha), axis=2).astype(np.float32)
