"""What an evaluation found out: figures per object, clip and set, as plain frozen values. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from edgetam_model.masks import Mask, Rle, decode_rle
from edgetam_model.scoring import Statistics, mean_statistics, statistics

EARLY_FRAMES = 10  # a tracker that loses the object later still shows what it can do here


@dataclass(frozen=True)
class Summary:
    """The figures of an object, or their averages over objects or clips.

    Attributes:
        region: J.
        boundary: F.
        early: mean J of the first 10 scored frames.
        first_iou: IoU on the prompted frame, where the prompt alone decides.
    """

    region: Statistics
    boundary: Statistics
    early: float
    first_iou: float

    @property
    def jf(self) -> float:
        """J&F: the mean of the two means."""
        return (self.region.mean + self.boundary.mean) / 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "jf": self.jf,
            "j": asdict(self.region),
            "f": asdict(self.boundary),
            "early_j": self.early,
            "first_iou": self.first_iou,
        }


@dataclass(frozen=True)
class ObjectScore:
    """One object of one clip.

    Attributes:
        object_id: its label in the true masks.
        first_frame: the frame of its prompt.
        first_iou: IoU there.
        frames: the scored frames.
        j, f: per scored frame, 0 to 1.
        masks: what was found on the scored frames, as COCO run lengths.
    """

    object_id: int
    first_frame: int
    first_iou: float
    frames: tuple[int, ...]
    j: tuple[float, ...]
    f: tuple[float, ...]
    masks: tuple[Rle, ...] = field(repr=False)

    @cached_property
    def summary(self) -> Summary:
        """The object's figures."""
        early = float(np.mean(self.j[:EARLY_FRAMES]))
        return Summary(statistics(self.j), statistics(self.f), early, self.first_iou)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the masks."""
        values = {"frames": self.frames, "j": self.j, "f": self.f}
        return {"id": self.object_id, "first_frame": self.first_frame, "per_frame": values} | (
            self.summary.to_dict()
        )


@dataclass(frozen=True)
class ClipScore:
    """One clip.

    Attributes:
        name: of the clip.
        objects: those with frames to be scored on, by id.
        frames: tracked, from the first prompt on.
        seconds: that prompts and tracking took, decoding included, scoring and loading the model not.
    """

    name: str
    objects: tuple[ObjectScore, ...]
    frames: int
    seconds: float

    @cached_property
    def summary(self) -> Summary:
        """The average over the clip's objects."""
        return mean_summary(found.summary for found in self.objects)

    @property
    def fps(self) -> float:
        """Frames per second, all objects together."""
        return self.frames / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        objects = [found.to_dict() for found in self.objects]
        speed = {"frames": self.frames, "seconds": self.seconds, "fps": self.fps}
        return {"name": self.name} | self.summary.to_dict() | speed | {"objects": objects}


@dataclass(frozen=True)
class Evaluation:
    """One method on a set of clips.

    Attributes:
        method: what was evaluated: the weights' name, or a floor's.
        prompt: what told it which objects.
        clips: those that were finished.
    """

    method: str
    prompt: str
    clips: tuple[ClipScore, ...]

    @cached_property
    def summary(self) -> Summary:
        """The average over clips of the averages over their objects."""
        return mean_summary(clip.summary for clip in self.clips)

    @cached_property
    def over_objects(self) -> Summary:
        """The average over all objects, as DAVIS 2017 ranks: clips with more objects weigh more."""
        return mean_summary(found.summary for clip in self.clips for found in clip.objects)

    @property
    def fps(self) -> float:
        """Frames per second over all clips."""
        return sum(clip.frames for clip in self.clips) / max(sum(clip.seconds for clip in self.clips), 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "method": self.method,
            "prompt": self.prompt,
            "mean": self.summary.to_dict(),
            "mean_over_objects": self.over_objects.to_dict(),
            "fps": self.fps,
            "clips": [clip.to_dict() for clip in self.clips],
        }


def mean_summary(parts: Iterable[Summary]) -> Summary:
    """The average of each figure. Raises InputError where there are none."""
    summaries = list(parts)
    return Summary(
        region=mean_statistics(part.region for part in summaries),
        boundary=mean_statistics(part.boundary for part in summaries),
        early=float(np.mean([part.early for part in summaries])),
        first_iou=float(np.mean([part.first_iou for part in summaries])),
    )


@dataclass(frozen=True)
class WorstFrame:
    """A frame on which much is wrong: the clip's name, the object's id, the frame, J there and the mask."""

    clip: str
    object_id: int
    frame: int
    j: float
    mask: Mask = field(repr=False)


def worst_frames(evaluation: Evaluation, count: int, apart: int = 5) -> list[WorstFrame]:
    """The scored frames of lowest J, worst first, those of one object at least `apart` frames apart."""
    scored = (
        (j, clip.name, found, at)
        for clip in evaluation.clips
        for found in clip.objects
        for at, j in enumerate(found.j)
    )
    taken: dict[tuple[str, int], list[int]] = {}
    worst = islice(
        (
            WorstFrame(name, found.object_id, found.frames[at], j, decode_rle(found.masks[at]))
            for j, name, found, at in sorted(scored, key=lambda row: row[0])
            if _far(found.frames[at], taken.setdefault((name, found.object_id), []), apart)
        ),
        count,
    )
    return list(worst)


def _far(frame: int, taken: list[int], apart: int) -> bool:
    """Whether a frame is far from those taken; then it is taken too."""
    far = all(abs(frame - other) >= apart for other in taken)
    if far:
        taken.append(frame)
    return far
