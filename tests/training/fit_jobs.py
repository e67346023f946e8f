"""Small fits for tests: discs on noise, a tiny model, and listeners that cancel or kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgetam_model.config import CONFIGS
from edgetam_model.sources import Frame, FrameSource
from edgetam_model.training.annotations import AnnotatedTask, AnnotationSet, FrameNumbers, MaskShape
from edgetam_model.training.fit_options import FITS, FitJob, FitOptions
from edgetam_model.training.version_store import VersionStore
from edgetam_model.video import open_source
from edgetam_model.weights import save_weights
from tests.models import seeded
from tests.training.annotation_tasks import sighting, thing

SIDE = 64
SHORT = FitOptions(updates=3)


def small_weights(path: Path, *, trained: bool = True) -> Path:
    """Random ones of a model that answers in milliseconds."""
    config = replace(CONFIGS["tiny"], image_size=64, patch_latents=4)
    save_weights(path, seeded(config, 0, mask_gain=60), config, trained=trained)
    return path


def disc(number: int, shift: int = 0) -> tuple[Frame, MaskShape]:
    """uint8 (SIDE, SIDE, 3), and where its disc is."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:SIDE, :SIDE]
    middle = random.integers(20, SIDE - 20, 2)
    mask = (x - middle[0] - shift) ** 2 + (y - middle[1]) ** 2 < random.integers(8, 14) ** 2
    frame = random.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
    frame[mask] = (230, 200, 180)
    return frame, MaskShape.of(mask)


def still(number: int) -> AnnotatedTask:
    """An image with a disc on it."""
    return AnnotatedTask(str(number), "image", f"{number}.png", (thing(sighting(shape=disc(number)[1])),))


def film(number: int, frames: int = 4) -> AnnotatedTask:
    """A video in which a disc moves."""
    seen = [sighting(frame, shape=disc(number, frame)[1]) for frame in range(frames)]
    return AnnotatedTask(str(number), "video", f"{number}.mp4", (thing(*seen),), numbers=FrameNumbers())


def media(task: AnnotatedTask) -> FrameSource:
    """Of `still` and `film`."""
    frames = range(4) if task.kind == "video" else range(1)
    return open_source([disc(int(task.id), frame)[0] for frame in frames])


def found(stills: int = 10, films: int = 2) -> AnnotationSet:
    """What a team drew."""
    tasks = [*(still(number) for number in range(stills)), *(film(100 + number) for number in range(films))]
    return AnnotationSet(tuple(tasks), {})


def fit_job(folder: Path, weights: Path | str, options: FitOptions = SHORT, stills: int = 10) -> FitJob:
    """Of a project in a folder of its own."""
    store = VersionStore(folder / "versions")
    return FitJob(
        "project-7", found(stills), media, folder / FITS, store, options, weights=str(weights), device="cpu"
    )


class Killed(BaseException):
    """As `kill -9`: nobody catches it."""


@dataclass
class Listener:
    """Keeps what it is told.

    Attributes:
        kill: whether to die at this note.
        cancel: whether to want no more from this note on.
    """

    kill: Callable[[str], bool] = lambda note: False
    cancel: Callable[[str], bool] = lambda note: False
    told: list[tuple[float, str]] = field(default_factory=list)
    _cancelled: bool = False

    @property
    def notes(self) -> list[str]:
        return [note for _, note in self.told]

    def progress(self, done: float, total: float, note: str) -> None:
        self.told.append((done / total, note))
        if self.kill(note):
            raise Killed
        self._cancelled = self._cancelled or self.cancel(note)

    def cancelled(self) -> bool:
        return self._cancelled
