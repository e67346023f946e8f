"""Annotated clips for tests, in both layouts, and a tracker that knows the truth and errs as told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgetam_model.annotated_clips import LabelledClip
from edgetam_model.prompts import Prompt
from edgetam_model.results import FrameResult, ObjectResult
from edgetam_model.sources import FrameSource
from edgetam_model.video_tracker import VideoTracker
from tests.models import clip

Labels = NDArray[np.uint8]


def real_clips() -> Path:
    """The folder of real clips; without it the test is skipped, in CI it fails."""
    folder = os.environ.get("EDGETAM_CLIPS")
    if folder:
        return Path(folder)
    if os.environ.get("CI"):
        pytest.fail("EDGETAM_CLIPS is not set, and in CI this test may not be skipped")
    pytest.skip("EDGETAM_CLIPS, the folder of real clips, is not set")


def two_objects(frames: int, late: int = 0) -> list[Labels]:
    """True labels for `tests.models.clip`: the disc is 1, the square 2, from frame `late` on."""
    y, x = np.mgrid[:90, :160]
    out = []
    for t in range(frames):
        labels = np.zeros((90, 160), np.uint8)
        labels[(x - 40 - t % 80) ** 2 + (y - 40) ** 2 < 15**2] = 1
        if t >= late:
            labels[(abs(x - 110 + t % 60) < 12) & (abs(y - 60) < 12)] = 2
        out.append(labels)
    return out


def write_palette(path: Path, labels: Labels) -> None:
    """A palette PNG as DAVIS has them: the pixel is the id, the colours are for people."""
    image = Image.fromarray(labels, mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [90] * (3 * 253))
    image.save(path)


def write_frames(folder: Path, count: int) -> None:
    """Frames 00000.jpg, 00001.jpg … of `tests.models.clip`."""
    folder.mkdir(parents=True)
    for number, rgb in enumerate(clip(count)):
        Image.fromarray(rgb).save(folder / f"{number:05d}.jpg", quality=95)


def write_davis(root: Path, name: str, labels: Sequence[Labels], resolution: str = "480p") -> None:
    """A clip in DAVIS's layout, a mask on every frame."""
    write_frames(root / "JPEGImages" / resolution / name, len(labels))
    folder = root / "Annotations" / resolution / name
    folder.mkdir(parents=True)
    for number, values in enumerate(labels):
        write_palette(folder / f"{number:05d}.png", values)


def write_plain(root: Path, name: str, labels: Mapping[int, Labels], frames: int) -> None:
    """A clip in the plain layout, with 1-bit masks of object 1 on some frames."""
    write_frames(root / name / "frames", frames)
    (root / name / "masks").mkdir()
    for number, values in labels.items():
        Image.fromarray(values == 1).save(root / name / "masks" / f"{number:05d}.png")


def result(mask: NDArray[np.bool_], object_id: int = 1) -> ObjectResult:
    """A result that shows exactly this mask (H, W), its logits at the image's size."""
    logits = np.where(mask, 1, -1).astype(np.float32)
    return ObjectResult(logits, (mask.shape[0], mask.shape[1]), 1.0, 1.0, object_id=object_id)


@dataclass
class Oracle:
    """Stands in for a `VideoTracker`: right for `reach` frames after each prompt, then blind.

    A prompt with fewer than `clicks_needed` clicks shows nothing but the pixels clicked; any other prompt
    is understood at once.
    """

    clip: LabelledClip
    reach: int = 1000
    clicks_needed: int = 1
    ends_after: int = 1000
    sessions: list[OracleSession] = field(default_factory=list)

    def open(self, source: FrameSource) -> OracleSession:
        """A session, kept for the test to look at."""
        self.sessions.append(OracleSession(self, source))
        return self.sessions[-1]

    def as_tracker(self) -> VideoTracker:
        """For signatures."""
        return cast(VideoTracker, self)


@dataclass
class OracleSession:
    """The part of a `VideoSession` that an evaluation uses."""

    oracle: Oracle
    source: FrameSource
    prompts: dict[tuple[int, int], Prompt] = field(default_factory=dict)
    warnings: tuple[str, ...] = ("frame 4 of 9 cannot be decoded",)

    def __len__(self) -> int:
        return len(self.source)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.source.close()

    def add_prompt(self, frame: int, object_id: int, prompt: Prompt, *, extend: bool = False) -> ObjectResult:
        known = self.prompts.get((frame, object_id))
        assert extend == (known is not None), "clicks are added to those that are there, never replace them"
        self.prompts[frame, object_id] = known.extended(prompt) if known else prompt
        return self.result(frame).objects[object_id]

    def propagate(self, progress: Callable[[int, int], None] | None = None) -> Iterator[FrameResult]:
        for frame in range(min(frame for frame, _ in self.prompts), len(self)):
            if frame > self.oracle.ends_after:
                return
            if progress is not None:
                progress(frame, len(self))
            yield self.result(frame)

    def result(self, frame: int) -> FrameResult:
        shown = {i: self._mask(frame, i) for i in {i for _, i in self.prompts}}
        return FrameResult(frame, frame / 25, {i: result(m, i) for i, m in shown.items() if m is not None})

    def _mask(self, frame: int, object_id: int) -> Any:
        before = [f for f, i in self.prompts if i == object_id and f <= frame]
        if not before:
            return None
        truth, _ = self.oracle.clip.truth(frame, object_id)
        prompt = self.prompts[max(before), object_id]
        if prompt.points is not None and len(prompt.points) < self.oracle.clicks_needed:
            clicked = np.zeros_like(truth)
            clicked[prompt.points[:, 1].astype(int), prompt.points[:, 0].astype(int)] = True
            return clicked & truth
        return truth if frame - max(before) <= self.oracle.reach else np.zeros_like(truth)
