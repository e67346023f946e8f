"""How well a tracker keeps an object on made-up clips that it was not trained on, and finds it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetam_model.masks import Mask
from edgetam_model.prompts import Prompt
from edgetam_model.scoring import region_similarity
from edgetam_model.training.held_out_clips import (
    WAYS,
    HeldOutClip,
    HeldOutOptions,
    ReturningClip,
    Way,
    returning_clips,
    steady_clips,
)
from edgetam_model.training.textures import TextureBank
from edgetam_model.video_tracker import VideoTracker

FOUND_J = 0.5  # an object is found again where its mask overlaps the true one by this much
_OBJECT = 1


@dataclass(frozen=True)
class RolledClip:
    """J of one clip on frames 1, 2, …

    Attributes:
        number: of the clip.
        j: the tracker's.
        still: of the first frame's true mask, copied: what standing still would give.
    """

    number: int
    j: tuple[float, ...]
    still: tuple[float, ...]


@dataclass(frozen=True)
class RollOut:
    """How well objects are kept that stay in view.

    Attributes:
        clips: at least one, all of the same length.
    """

    clips: tuple[RolledClip, ...]

    @property
    def per_frame(self) -> tuple[float, ...]:
        """Mean J of frames 1, 2, … over the clips."""
        return _means([clip.j for clip in self.clips])

    @property
    def still(self) -> tuple[float, ...]:
        """The same for the first mask, copied."""
        return _means([clip.still for clip in self.clips])

    @property
    def mean(self) -> float:
        """Mean J of all frames but the first, which is shown."""
        return float(np.mean(self.per_frame))

    @property
    def last(self) -> float:
        """Mean J on the last frame."""
        return self.per_frame[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "mean": self.mean,
            "last": self.last,
            "per_frame": list(self.per_frame),
            "still_per_frame": list(self.still),
            "clips": [{"number": c.number, "j": list(c.j)} for c in self.clips],
        }


@dataclass(frozen=True)
class ReturnedClip:
    """What a tracker did while one object was away, and after.

    Attributes:
        number: of the clip.
        way: where the object was.
        hidden: how many frames the object was away.
        false_masks: on how many of them the tracker had a mask, however small.
        j: on the frames that are chances to find it again, in order.
    """

    number: int
    way: Way
    hidden: int
    false_masks: int
    j: tuple[float, ...]

    @property
    def found(self) -> bool:
        """Whether the object was found again: J of 0.5 or more on any of the chances."""
        return max(self.j) >= FOUND_J


@dataclass(frozen=True)
class Reentry:
    """How often objects are found again that were hidden for ten frames.

    Attributes:
        clips: at least one.
    """

    clips: tuple[ReturnedClip, ...]

    @property
    def found(self) -> float:
        """The share of clips whose object was found again."""
        return sum(clip.found for clip in self.clips) / len(self.clips)

    @property
    def false_masks(self) -> float:
        """The share of all frames without the object on which the tracker had a mask."""
        return sum(clip.false_masks for clip in self.clips) / sum(clip.hidden for clip in self.clips)

    @property
    def by_way(self) -> Mapping[Way, Reentry]:
        """The same for each way to be away that there are clips of."""
        parts = {way: tuple(clip for clip in self.clips if clip.way == way) for way in WAYS}
        return {way: Reentry(clips) for way, clips in parts.items() if clips}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self._figures(),
            "by_way": {way: part._figures() for way, part in self.by_way.items()},
            "clips": [
                {
                    "number": clip.number,
                    "way": clip.way,
                    "found": clip.found,
                    "hidden_frames": clip.hidden,
                    "false_masks": clip.false_masks,
                    "j": list(clip.j),
                }
                for clip in self.clips
            ],
        }

    def _figures(self) -> dict[str, Any]:
        return {"count": len(self.clips), "found": self.found, "false_masks": self.false_masks}


def roll_outs(tracker: VideoTracker, options: HeldOutOptions, bank: TextureBank) -> Iterator[RolledClip]:
    """Track the main object of clips where it stays in view, from its true mask on frame 0.

    Raises:
        InputError: clips cannot be made, see `steady_clips`.
    """
    for clip in steady_clips(options, bank):
        yield score_roll_out(clip, follow(tracker, clip))


def reentries(tracker: VideoTracker, options: HeldOutOptions, bank: TextureBank) -> Iterator[ReturnedClip]:
    """Track the main object of clips where it goes away and comes back, from its true mask on frame 0.

    Raises:
        InputError: clips cannot be made, see `returning_clips`.
    """
    for returning in returning_clips(options, bank):
        yield score_return(returning, follow(tracker, returning.clip))


def follow(tracker: VideoTracker, clip: HeldOutClip) -> list[Mask]:
    """The object's T masks (H, W), frame by frame; empty where the tracker says that it is away."""
    with tracker.open(clip.frames) as session:
        session.add_prompt(0, _OBJECT, Prompt(mask=clip.truth[0]))
        return [result.objects[_OBJECT].mask for result in session.propagate()]


def score_roll_out(clip: HeldOutClip, masks: list[Mask]) -> RolledClip:
    """Compare T masks (H, W) with the truth, the first frame's left out."""
    later = range(1, len(clip.truth))
    j = tuple(region_similarity(masks[t], clip.truth[t]) for t in later)
    return RolledClip(clip.number, j, tuple(region_similarity(clip.truth[0], clip.truth[t]) for t in later))


def score_return(returning: ReturningClip, masks: list[Mask]) -> ReturnedClip:
    """Look at T masks (H, W) while the object is away and on the chances to find it again."""
    clip, absence = returning.clip, returning.absence
    j = tuple(region_similarity(masks[t], clip.truth[t]) for t in absence.chances)
    false_masks = sum(bool(masks[t].any()) for t in absence.hidden)
    return ReturnedClip(clip.number, returning.way, len(absence.hidden), false_masks, j)


def _means(rows: list[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(np.mean(rows, axis=0).tolist())
