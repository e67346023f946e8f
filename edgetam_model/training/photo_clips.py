"""Clips that look real, to validate on: an object of a free photograph moves before what is behind it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edgetam_model.errors import InputError
from edgetam_model.masks import Box, Mask, mask_box
from edgetam_model.training.synthetic.clips import ClipBatch

OUTLINES = Path(__file__).with_name("photo_outlines.json")

# Photographs that scikit-image's package contains and documents as CC0, public domain, or without known
# copyright restrictions.
FREE_PHOTOS = ("astronaut", "camera", "chelsea", "coffee", "coins", "retina", "rocket")

FILLING = (0.35, 0.75)  # the object's longer side as a share of the window's, on the first frame
PAN = 0.2  # the most that the camera moves, in windows
ZOOM = 0.35  # natural logarithm: from ×0.70 to ×1.42
ROLL = 0.25  # radians, the camera's
TILT = 0.12  # how much nearer one edge of the window is than its middle
OWN_STEP, OWN_GROWTH, OWN_TURN = 0.12, 0.15, 0.15  # the object's: in its longer sides, logarithm, radians
BEND = 0.04  # in longer sides: how far waves move the object's parts
_SUBPIXELS = 4  # a side, of what masks are drawn with, and at most of what frames are
_MARGIN = 7  # pixels: a brush that takes away what the object leaves of itself at its edge

Reals = NDArray[np.floating[Any]]
Rgb = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Outlined:
    """An object that was outlined by hand.

    Attributes:
        name: what it is.
        photo: the photograph's name in `skimage.data`.
        outlines: closed polygons, (N, 2) x, y each; pixel (0, 0) covers the square from (0, 0) to (1, 1). An
            outline inside another one cuts a hole.
    """

    name: str
    photo: str
    outlines: tuple[Reals, ...]


@lru_cache(maxsize=1)
def outlined_objects() -> tuple[Outlined, ...]:
    """All outlined objects; neighbours in the list are of different photographs, large and small in turn."""
    rows = json.loads(OUTLINES.read_text("utf-8"))
    return tuple(
        Outlined(row["name"], row["photo"], tuple(np.array(points) for points in row["outlines"]))
        for row in rows
    )


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object apart from its photograph.

    Attributes:
        photo: uint8 (H, W, 3) RGB.
        cover: uint8 (H, W) how much of a pixel the object takes, 255: all.
        behind: uint8 (H, W, 3) the photograph without the object, filled in from around it.
        box: around the object.
    """

    photo: Rgb
    cover: Rgb
    behind: Rgb
    box: Box

    @property
    def size(self) -> tuple[int, int]:
        """W, H of the photograph."""
        return self.photo.shape[1], self.photo.shape[0]

    @property
    def middle(self) -> Reals:
        """x, y of the box's middle."""
        x0, y0, x1, y1 = self.box
        return np.array([x0 + x1, y0 + y1]) / 2

    @property
    def longer(self) -> int:
        """The box's longer side in pixels."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)


class PhotoClips:
    """Endless clips of one object each; clip number i of a seed is always the same on one kind of CPU.

    The objects come round in turn: clip i shows number i modulo their number. The first frame is the
    photograph itself, seen through a window; from there the camera and the object go their own smooth ways.

    Args:
        size: side of the frames in pixels.
        frames: T.
        device: where the clips go; they are made on the CPU.

    Raises:
        InputError: a size or a length below 1, or scikit-image is not installed.
    """

    def __init__(self, size: int, frames: int, device: torch.device | str = "cpu") -> None:
        for name, value in (("size", size), ("frames", frames)):
            if value < 1:
                raise InputError(name, f"expected a positive number, got {value}")
        if importlib.util.find_spec("skimage") is None:
            raise InputError(
                "validation.source",
                "photos come with scikit-image, which is not installed: pip install scikit-image",
            )
        self.size, self.frames, self.device = size, frames, torch.device(device)

    def batch(self, seed: int, start: int, count: int) -> ClipBatch:
        """Clips `start` to `start + count - 1` of a seed, with K = 1.

        Raises:
            InputError: a start below 0 or no clips.
        """
        if start < 0 or count < 1:
            raise InputError("count", f"expected clips from 0 up and at least one, got {count} from {start}")
        indices = np.arange(start, start + count)
        made = [self._clip(seed, int(index)) for index in indices]
        masks = torch.from_numpy(np.stack([masks for _, masks in made]))[:, :, None].to(self.device)
        frames = torch.from_numpy(np.stack([frames for frames, _ in made])).permute(0, 1, 4, 2, 3)
        return ClipBatch(
            frames=frames.contiguous().to(self.device),
            masks=masks,
            present=masks.any(-1).any(-1),
            objects=torch.ones(count, dtype=torch.int64, device=self.device),
            indices=torch.from_numpy(indices).to(self.device),
        )

    def _clip(self, seed: int, index: int) -> tuple[Rgb, Mask]:
        """uint8 (T, S, S, 3) and bool (T, S, S)."""
        random = np.random.default_rng((seed % 2**63, index))
        cutout = load_cutout(index % len(outlined_objects()))
        camera = _draw_camera(cutout, self.frames, random)
        walk = _draw_walk(self.frames, random)
        pictures = [_picture(cutout, camera, walk, frame, self.size) for frame in range(self.frames)]
        frames = _developed(np.stack([colours for colours, _ in pictures]), random)
        masks = np.stack([cover > 0.5 for _, cover in pictures])
        if random.random() < 0.5:
            frames, masks = frames[:, :, ::-1], masks[:, :, ::-1]
        return np.ascontiguousarray(frames), np.ascontiguousarray(masks)


# Objects ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)  # all of them: 45 MB
def load_cutout(number: int) -> Cutout:
    """Object `number` of `outlined_objects`, apart from its photograph; scikit-image must be installed."""
    thing = outlined_objects()[number]
    photo = np.asarray(getattr(importlib.import_module("skimage.data"), thing.photo)(), np.uint8)
    if photo.ndim == 2:
        photo = np.repeat(photo[..., None], 3, axis=2)
    cover = draw_cover(thing, photo.shape[0], photo.shape[1])
    box = mask_box(cover > 127)
    assert box is not None, "every outline lies inside its photograph"
    return Cutout(photo, cover, _without(photo, cover), box)


def draw_cover(thing: Outlined, height: int, width: int) -> Rgb:
    """uint8 (H, W): how much of each pixel the outlined object takes, with a soft edge."""
    fine = np.zeros((height * _SUBPIXELS, width * _SUBPIXELS), np.uint8)
    # fillPoly counts from the first pixel's middle, here in sixteenths.
    polygons = [np.rint((points * _SUBPIXELS - 0.5) * 16).astype(np.int32) for points in thing.outlines]
    cv2.fillPoly(fine, polygons, (255,), shift=4)
    cover = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(cover, (3, 3), 0.6), np.uint8)


def _without(photo: Rgb, cover: Rgb) -> Rgb:
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_MARGIN, _MARGIN))
    known = (cv2.dilate(cover, brush) == 0).astype(np.float32)
    filled = _filled(photo * known[..., None], known)
    mixed = np.where(known[..., None] > 0, photo, filled)
    return np.asarray(np.rint(mixed).clip(0, 255), np.uint8)


def _filled(colours: Reals, weight: Reals) -> Reals:
    """Colours (H, W, 3), which are multiplied by their weight (H, W), with the missing ones taken from a
    picture of half the side, and so on down to one pixel."""
    height, width = weight.shape
    if height == width == 1:
        return colours / np.maximum(weight, 1e-6)[..., None]
    half = ((width + 1) // 2, (height + 1) // 2)
    less = np.asarray(cv2.resize(colours, half, interpolation=cv2.INTER_AREA)).reshape(half[1], half[0], 3)
    share = np.asarray(cv2.resize(weight, half, interpolation=cv2.INTER_AREA)).reshape(half[1], half[0])
    # A pixel of which an eighth is known counts as known, or the far side would shine through.
    more = np.minimum(share * 8, 1) / np.maximum(share, 1e-6)
    coarse = _filled(less * more[..., None], share * more)
    rest = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
    return colours + (1 - weight)[..., None] * rest.reshape(height, width, 3)


# Movement ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Camera:
    """T views of a photograph: centre (T, 2) and side (T,) of the window in pixels, roll (T,) in radians,
    tilt (T, 2)."""

    centre: Reals
    side: Reals
    roll: Reals
    tilt: Reals


@dataclass(frozen=True, eq=False)
class Walk:
    """What an object does by itself at T times: step (T, 2) in its longer sides, scale (T,), turn (T,) in
    radians, bend (T, 2) of a wave along y that moves x and of one along x that moves y, in longer sides, and
    the waves' frequency (2,) per longer side and phase (2,)."""

    step: Reals
    scale: Reals
    turn: Reals
    bend: Reals
    frequency: Reals
    phase: Reals


def _draw_camera(cutout: Cutout, frames: int, random: np.random.Generator) -> Camera:
    widest = max(min(cutout.size), cutout.longer / FILLING[1])  # there is nothing to see beyond the photo
    side = min(cutout.longer / random.uniform(*FILLING), widest)
    # Half of the room that the window leaves the object.
    first = cutout.middle + random.uniform(-0.25, 0.25, 2) * max(0.0, side - cutout.longer)
    haste = math.exp(random.uniform(math.log(0.2), 0))
    pan_x, pan_y, zoom, roll, tilt_x, tilt_y = haste * _curves(frames, 6, random).T
    centre = first + PAN * side * np.stack((pan_x, pan_y), axis=1)
    sides = np.minimum(side * np.exp(-ZOOM * zoom), widest)
    return Camera(
        _kept_inside(cutout, centre, sides), sides, ROLL * roll, TILT * np.stack((tilt_x, tilt_y), axis=1)
    )


def _kept_inside(cutout: Cutout, centre: Reals, side: Reals) -> Reals:
    """Centres (T, 2) of windows that stay in the photograph. One that is too large for it juts out on the
    side where the object is not cut off, or on both alike."""
    kept = np.empty_like(centre)
    for axis, length in enumerate(cutout.size):
        low, high = side / 2, length - side / 2
        starts, ends = cutout.box[axis] == 0, cutout.box[axis + 2] == length
        even = np.full_like(side, length / 2)
        jutting = even if starts == ends else low if starts else high
        kept[:, axis] = np.where(side <= length, centre[:, axis].clip(low, np.maximum(low, high)), jutting)
    return kept


def _draw_walk(frames: int, random: np.random.Generator) -> Walk:
    haste = math.exp(random.uniform(math.log(0.3), 0))
    curves = haste * _curves(frames, 6, random)
    return Walk(
        step=OWN_STEP * curves[:, :2],
        scale=np.exp(OWN_GROWTH * curves[:, 2]),
        turn=OWN_TURN * curves[:, 3],
        bend=BEND * curves[:, 4:],
        frequency=random.uniform(0.5, 1.5, 2),
        phase=random.uniform(0, 2 * math.pi, 2),
    )


def _curves(frames: int, count: int, random: np.random.Generator) -> Reals:
    """(T, count) between −1 and 1, from 0 on: two swings of 10 to 60 frames each."""
    rate = 2 * math.pi / np.exp(random.uniform(math.log(10), math.log(60), (2, count)))
    phase = random.uniform(0, 2 * math.pi, (2, count))
    height = random.normal(0, 0.6, (2, count))
    times = np.arange(frames)[:, None, None]
    return np.tanh((height * (np.sin(rate * times + phase) - np.sin(phase))).sum(axis=1))


# Pictures ---------------------------------------------------------------------------------------------


def _picture(cutout: Cutout, camera: Camera, walk: Walk, frame: int, size: int) -> tuple[Reals, Reals]:
    """float32 (S, S, 3) 0 to 255, and how much of each pixel the object takes, (S, S) 0 to 1."""
    finer = min(_SUBPIXELS, max(1, math.ceil(camera.side[frame] / size)))
    places = _looked_at(camera, frame, size * finer)
    own = _moved_back(cutout, walk, frame, places)
    ground, colours, cover = (
        _sampled(cutout.behind, places),
        _sampled(cutout.photo, own),
        _sampled(cutout.cover, own)[..., None] / np.float32(255),
    )
    mixed = ground + cover * (colours - ground)
    if finer == 1:
        return mixed, cover[..., 0]
    return _shrunk(mixed, size), _shrunk(cover[..., 0], size)


def _looked_at(camera: Camera, frame: int, side: int) -> Reals:
    """(side, side, 2) the photograph's x, y in the middle of each pixel."""
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = np.meshgrid(axis, axis)
    depth = 1 / (1 + camera.tilt[frame, 0] * x + camera.tilt[frame, 1] * y)
    flat = np.stack((x * depth, y * depth), axis=-1)
    return camera.centre[frame] + camera.side[frame] / 2 * flat @ _turning(camera.roll[frame]).T


def _moved_back(cutout: Cutout, walk: Walk, frame: int, places: Reals) -> Reals:
    """Where in the photograph that lies which the object's movement brings to each place."""
    away = (places - cutout.middle) / cutout.longer - walk.step[frame]
    away = away @ _turning(-walk.turn[frame]).T / walk.scale[frame]
    waves = np.sin(2 * math.pi * walk.frequency * away[..., ::-1] + walk.phase)
    return cutout.middle + cutout.longer * (away + walk.bend[frame] * waves)


def _turning(angle: float) -> Reals:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _sampled(picture: Rgb, places: Reals) -> Reals:
    """The picture at places (H, W, 2); its edge goes on, so that what is cut off there has no end."""
    at = (places - 0.5).astype(np.float32)
    x, y = np.ascontiguousarray(at[..., 0]), np.ascontiguousarray(at[..., 1])
    found = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)


def _shrunk(picture: Reals, size: int) -> Reals:
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), np.float32)


def _developed(frames: Reals, random: np.random.Generator) -> Rgb:
    """(T, S, S, 3): light that changes, a sensor's noise, and JPEG."""
    curves = _curves(len(frames), 5, random)
    gain = np.exp(0.25 * curves[:, :1] + 0.04 * curves[:, 1:4])
    gamma = np.exp(random.normal(0, 0.1) + 0.2 * curves[:, 4])
    noise, quality = random.uniform(0.5, 4), int(random.integers(55, 96))
    developed = []
    for picture, light, power in zip(frames, gain, gamma, strict=True):
        bright = 255 * (picture.clip(0, 255) / 255) ** power * light
        grained = np.rint(bright + random.normal(0, noise, bright.shape)).clip(0, 255).astype(np.uint8)
        _, packed = cv2.imencode(".jpg", grained[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        developed.append(np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
    return np.stack(developed)
