"""Made-up clips to measure on: chosen so that each asks one question, and from a seed of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask
from edgetam_model.training.synthetic.clips import SyntheticClips
from edgetam_model.training.synthetic.options import MAX_FRAMES, SyntheticOptions
from edgetam_model.training.textures import TextureBank

Way = Literal["outside", "behind"]  # the frame; something that passes in front
Areas = NDArray[np.int64]  # (T,) visible pixels of the main object

WAYS: tuple[Way, ...] = get_args(Way)
MAX_CLIPS = 100_000
HELD_OUT_SEED = 880_001  # trainings begin at 0, their validation at 990,001
MIN_AREA = 0.002  # of the frame's pixels: 131 at 256 px; less is too coarse for J to mean much
HIDDEN_FRAMES = (10, 12)  # coming into view takes up to two frames more than the ten that are asked for
RETURN_FRAMES = 24  # 1 to 11 before the object hides, and at least 3 after
CHANCES = (3, 5)  # frames to find an object again: a clip has at least 3, and 5 of them count
WHOLE = 0.5  # of the object's first area: as much must be visible of it for a frame to be a chance
PATIENCE = 30  # unfit clips in a row until it is given up; of the default ones about half are fit


@dataclass(frozen=True)
class HeldOutOptions:
    """Options of a measurement on held-out clips.

    Attributes:
        clips: to roll out on, and as many with an object that comes back; 1 to 100,000.
        frames: of a clip to roll out on, 2 to 256; the first is shown to the model.
        size: side of the square frames in pixels, a multiple of 16, at most 1024.
        seed: of the clips, ≥ 0; a training with this seed, or one of the two after it, has seen them.

    Raises:
        InputError: a value out of range, with the field at fault.
    """

    clips: int = 64
    frames: int = 16
    size: int = 256
    seed: int = HELD_OUT_SEED

    def __post_init__(self) -> None:
        if not 1 <= self.clips <= MAX_CLIPS:
            raise InputError("clips", f"expected 1 to {MAX_CLIPS:,}, got {self.clips:,}")
        if not 2 <= self.frames <= MAX_FRAMES:
            raise InputError("frames", f"expected 2 to {MAX_FRAMES}, got {self.frames}")
        if self.seed < 0:
            raise InputError("seed", f"expected 0 or more, got {self.seed}")
        SyntheticOptions(size=self.size)  # refuses other sizes


@dataclass(frozen=True, eq=False)
class HeldOutClip:
    """A clip and its main object.

    Attributes:
        number: of the clip within its seed.
        frames: uint8 (T, H, W, 3) RGB.
        truth: bool (T, H, W), what is visible of the object.
    """

    number: int
    frames: NDArray[np.uint8]
    truth: Mask

    @property
    def areas(self) -> Areas:
        """Visible pixels per frame."""
        return self.truth.sum(axis=(1, 2))


@dataclass(frozen=True)
class Absence:
    """When an object is away, and on which frames it should be found again.

    Attributes:
        hidden: the frames without it.
        chances: up to 5 frames after its return on which enough of it is visible.
    """

    hidden: range
    chances: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ReturningClip:
    """A clip whose main object is hidden once and comes back.

    Attributes:
        clip: the clip.
        way: where the object is meanwhile.
        absence: when.
    """

    clip: HeldOutClip
    way: Way
    absence: Absence


def steady_clips(options: HeldOutOptions, bank: TextureBank) -> Iterator[HeldOutClip]:
    """`options.clips` clips whose main object shows at least MIN_AREA of the frame all the time.

    It may be partly covered, leave the frame in part, and grow or shrink by the usual factors.

    Raises:
        InputError: too few such clips, as where they are very long.
    """
    look = SyntheticOptions(size=options.size, frames=options.frames, p_leave=0.0)
    return islice(_fit(SyntheticClips(look, bank), options.seed, is_steady), options.clips)


def returning_clips(options: HeldOutOptions, bank: TextureBank) -> Iterator[ReturningClip]:
    """`options.clips` clips whose main object goes away and comes back as `find_absence` says.

    Every other one goes outside the frame, the rest are wholly covered; each way has a seed of its own.

    Raises:
        InputError: too few such clips.
    """
    streams = [
        _fit(_hiding(way, options.size, bank), options.seed + 1 + i, _returns) for i, way in enumerate(WAYS)
    ]
    for turn in range(options.clips):
        clip = next(streams[turn % len(WAYS)])
        absence = find_absence(clip.areas, options.size**2)
        assert absence is not None  # it was chosen for having one
        yield ReturningClip(clip, WAYS[turn % len(WAYS)], absence)


def is_steady(areas: Areas, pixels: int) -> bool:
    """Whether the object is visible enough on every frame of `pixels` pixels."""
    return bool((areas >= MIN_AREA * pixels).all())


def find_absence(areas: Areas, pixels: int) -> Absence | None:
    """When an object is away; None unless it does exactly what is asked for:

    it shows at least MIN_AREA of the frame on frame 0, stays visible until it is hidden once, without a
    pixel for 10 to 12 frames, and is visible from then to the end. The chances to find it are the first 5
    frames after that on which it shows at least half of its area on frame 0; there must be 3 or more.

    Args:
        areas: (T,) the object's visible pixels.
        pixels: of a frame.
    """
    away = np.flatnonzero(areas == 0)
    shortest, longest = HIDDEN_FRAMES
    if areas[0] < MIN_AREA * pixels or not shortest <= len(away) <= longest:
        return None
    first, last = int(away[0]), int(away[-1])
    if last - first + 1 != len(away):
        return None
    least, most = CHANCES
    whole = np.flatnonzero(areas[last + 1 :] >= WHOLE * areas[0]) + last + 1
    if len(whole) < least:
        return None
    return Absence(range(first, last + 1), tuple(whole[:most].tolist()))


def _returns(areas: Areas, pixels: int) -> bool:
    return find_absence(areas, pixels) is not None


def _hiding(way: Way, size: int, bank: TextureBank) -> SyntheticClips:
    look = SyntheticOptions(
        size=size,
        frames=RETURN_FRAMES,
        p_leave=1.0,
        hidden_frames=(HIDDEN_FRAMES[0], HIDDEN_FRAMES[0]),
        p_hidden_by_occluder=float(way == "behind"),
    )
    return SyntheticClips(look, bank)


def _fit(clips: SyntheticClips, seed: int, fits: Callable[[Areas, int], bool]) -> Iterator[HeldOutClip]:
    """The fit clips of a seed, one made at a time on the CPU: the same ones on every machine."""
    unfit = 0
    for number in count():
        made = clips.batch(seed, number, 1)
        frames = np.ascontiguousarray(made.frames[0].permute(0, 2, 3, 1).numpy())
        clip = HeldOutClip(number, frames, made.masks[0, :, 0].numpy())
        if fits(clip.areas, clips.options.size**2):
            unfit = 0
            yield clip
            continue
        unfit += 1
        if unfit == PATIENCE:
            problem = f"{PATIENCE} in a row of {clips.options.frames} frames show too little of their object"
            raise InputError("clips", f"{problem}: try fewer frames, a larger size or another seed")
