"""Training windows cut from annotated clips: T frames, some objects, a square crop of the network's size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask, mask_box
from edgetam_model.sources import Frame
from edgetam_model.training.annotated import AnnotatedClip, AnnotatedClips, Masks
from edgetam_model.training.synthetic.clips import ClipBatch

Crops = NDArray[np.float64]
Weights = NDArray[np.float64]  # of a clip's frames
Pixels = NDArray[np.uint8] | NDArray[np.float32]

TRIES = 8  # windows until a clip counts as one without a large object, and clips until giving up


@dataclass(frozen=True)
class WindowOptions:
    """How windows are cut.

    Args:
        size: side of the square windows in pixels.
        frames: T; a clip that is shorter stays on its last frame.
        objects: K, the most objects of a window.
        strides: (low, high) frames from one frame of a window to the next, both included.
        p_crop, crop: probability of a crop around an object, and its side as a multiple of the longer side
            of the object's box on the window's first frame, drawn evenly; else a square of the frame.
        p_flip, p_reverse: of mirroring, and of running backwards.
        drift: fraction of the crop's side by which it moves and grows over a window at most, which gives
            still images some movement.
        min_pixels: an object has at least so many on the first frame of a window, after scaling.

    Raises:
        InputError: a value outside its range, with the field named.
    """

    size: int = 128
    frames: int = 8
    objects: int = 3
    strides: tuple[int, int] = (1, 3)
    p_crop: float = 0.8
    crop: tuple[float, float] = (1.4, 2.3)
    p_flip: float = 0.5
    p_reverse: float = 0.3
    drift: float = 0.15
    min_pixels: int = 16

    def __post_init__(self) -> None:
        for name in ("size", "frames", "objects", "min_pixels"):
            if getattr(self, name) < 1:
                raise InputError(name, f"expected a positive number, got {getattr(self, name)}")
        for name in ("p_crop", "p_flip", "p_reverse", "drift"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(name, f"expected 0 to 1, got {getattr(self, name)}")
        if not 1 <= self.strides[0] <= self.strides[1]:
            raise InputError("strides", f"expected 1 ≤ low ≤ high, got {self.strides}")
        if not 0.2 <= self.crop[0] <= self.crop[1] <= 20:
            raise InputError("crop", f"expected 0.2 ≤ low ≤ high ≤ 20, got {self.crop}")


class AnnotatedWindows:
    """Endless windows of annotated clips; window number i of a seed is always the same.

    Args:
        clips: at least one.
        options: how windows are cut.

    Attributes:
        shares: of the windows that each clip gets, by how much its best frame counts.

    Raises:
        InputError: no clips.
    """

    def __init__(self, clips: AnnotatedClips, options: WindowOptions) -> None:
        if not clips:
            raise InputError("clips", "expected at least one annotated clip, got none")
        self.clips, self.options = clips, options
        self._weights = [np.array([clip.weight(i) for i in range(len(clip))]) for clip in clips]
        best = np.array([weights.max() for weights in self._weights])
        self.shares = tuple((best / best.sum()).tolist())

    def batch(self, seed: int, start: int, count: int) -> ClipBatch:
        """Windows `start` to `start + count - 1` of a seed, on the CPU.

        Raises:
            InputError: a start below 0 or no windows; data that cannot be read; clips none of whose
                objects is large enough.
        """
        if start < 0 or count < 1:
            raise InputError(
                "count", f"expected windows from 0 up and at least one, got {count} from {start}"
            )
        indices = np.arange(start, start + count)
        windows = [self._window(np.random.default_rng((seed % 2**63, int(i)))) for i in indices]
        masks = torch.from_numpy(np.stack([w.masks for w in windows]))
        return ClipBatch(
            frames=torch.from_numpy(np.stack([w.frames for w in windows]))
            .permute(0, 1, 4, 2, 3)
            .contiguous(),
            masks=masks,
            present=masks.any(-1).any(-1),
            objects=torch.tensor([w.objects for w in windows]),
            indices=torch.from_numpy(indices),
        )

    def _window(self, random: np.random.Generator) -> _Window:
        for _ in range(TRIES):
            number = int(random.choice(len(self.clips), p=self.shares))
            for _ in range(TRIES):
                window = _cut(self.clips[number], self._weights[number], self.options, random)
                if window is not None:
                    return window
        raise InputError(
            "clips",
            f"no object of {self.options.min_pixels} pixels in {TRIES} windows of {TRIES} clips, the last "
            f"of them {self.clips[number].name}",
        )


@dataclass(frozen=True, eq=False)
class _Window:
    """uint8 (T, S, S, 3), bool (T, K, S, S), and how many of the K there are."""

    frames: Frame
    masks: Mask
    objects: int


def _cut(
    clip: AnnotatedClip, weights: Weights, options: WindowOptions, random: np.random.Generator
) -> _Window | None:
    """A random window; None where its first frame has no object that is large enough."""
    read = [clip.read(index) for index in _frame_numbers(weights, options, random)]
    first = read[0][1]
    if not first:
        return None
    main = sorted(first)[int(random.integers(len(first)))]
    crops = _crops(read[0][0], first[main], options, random)
    scale = options.size / crops[0, 2]
    large = [n for n in sorted(first) if first[n].sum() * scale**2 >= options.min_pixels]
    if main not in large:
        return None
    others = [number for number in large if number != main]
    chosen = [main, *random.permutation(others)[: options.objects - 1].tolist()]
    flip = random.random() < options.p_flip
    frames = np.stack([_frame(f, crop, options.size) for (f, _), crop in zip(read, crops, strict=True)])
    masks = np.stack([_masks(m, crop, chosen, options) for (_, m), crop in zip(read, crops, strict=True)])
    if not masks[0, 0].any():  # what the crop's drift or its rounding left of the main object
        return None
    if flip:
        frames, masks = frames[:, :, ::-1], masks[..., ::-1]
    return _Window(np.ascontiguousarray(frames), np.ascontiguousarray(masks), len(chosen))


def _frame_numbers(weights: Weights, options: WindowOptions, random: np.random.Generator) -> list[int]:
    """The frames of a window; it begins more often on a frame that counts more."""
    length, reverse = len(weights), random.random() < options.p_reverse
    stride = int(random.integers(options.strides[0], options.strides[1] + 1))
    stride = max(1, min(stride, (length - 1) // max(options.frames - 1, 1)))
    span = min(stride * (options.frames - 1), length - 1)
    shown = weights[span:] if reverse else weights[: length - span]
    start = int(random.choice(len(shown), p=shown / shown.sum()))
    numbers = [min(start + stride * step, length - 1) for step in range(options.frames)]
    return numbers[::-1] if reverse else numbers


def _crops(frame: Frame, mask: Mask, options: WindowOptions, random: np.random.Generator) -> Crops:
    """(T, 3) x, y of the crop's middle and its side, in pixels."""
    height, width = frame.shape[:2]
    box = mask_box(mask)
    if box is not None and random.random() < options.p_crop:
        x0, y0, x1, y1 = box
        longer = max(x1 - x0, y1 - y0)
        # Little beyond the frame, unless the object itself fills it: there is nothing to see there.
        side = min(random.uniform(*options.crop) * longer, max(1.25 * min(height, width), 1.2 * longer))
        room = 0.5 * max(0.0, side - longer)
        middle = np.array([x0 + x1, y0 + y1]) / 2 + random.uniform(-0.5, 0.5, 2) * room
    else:
        side = random.uniform(0.6, 1.0) * min(height, width)
        middle = random.uniform(side / 2, np.array([width, height]) - side / 2)
    moved = options.drift * random.uniform(-0.5, 0.5, 3)
    progress = np.linspace(0, 1, options.frames)[:, None]
    places = middle + progress * moved[:2] * side
    sides = side * np.exp(progress * moved[2:])
    return np.concatenate((places, np.maximum(sides, 4.0)), axis=1)


def _frame(frame: Frame, crop: Crops, size: int) -> Frame:
    """The crop, scaled; beyond the frame its edge goes on."""
    shrunk, crop = _reduced(frame, crop, size)
    matrix = _matrix(crop, size)
    return np.asarray(
        cv2.warpAffine(shrunk, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )


def _masks(masks: Masks, crop: Crops, chosen: list[int], options: WindowOptions) -> Mask:
    """(K, size, size): pixels more than half covered; the first of two objects that overlap has them."""
    size = options.size
    cut = np.zeros((options.objects, size, size), np.bool_)
    free = np.ones((size, size), np.bool_)
    for slot, number in enumerate(chosen):
        if number in masks:
            soft, inner = _reduced(masks[number].astype(np.float32), crop, size)
            cut[slot] = (cv2.warpAffine(soft, _matrix(inner, size), (size, size)) > 0.5) & free
            free &= ~cut[slot]
    return cut


def _reduced(image: Pixels, crop: Crops, size: int) -> tuple[Pixels, Crops]:
    """The image scaled down by areas to at most twice the crop's target, so that nothing is skipped."""
    factor = int(crop[2] // size)
    if factor < 2:
        return image, crop
    height, width = image.shape[:2]
    target = (max(1, width // factor), max(1, height // factor))
    scales = np.array([target[0] / width, target[1] / height])
    shrunk: Pixels = cv2.resize(image, target, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return shrunk, np.concatenate((crop[:2] * scales, crop[2:] * scales.mean()))


def _matrix(crop: Crops, size: int) -> Crops:
    """(2, 3) from the image's pixels to the crop's, centre of pixel to centre of pixel."""
    x, y, side = crop
    scale = size / side
    offset = (size - 1) / 2 - scale * (np.array([x, y]) - 0.5)
    return np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
