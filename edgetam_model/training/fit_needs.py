"""How long a fit takes and how much memory it needs, said beforehand. No torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from safetensors import SafetensorError, safe_open

from edgetam_model.config import CONFIGS, EdgeTAMConfig
from edgetam_model.errors import InputError
from edgetam_model.hub import PUBLISHED, cache_dir
from edgetam_model.training.annotations import AnnotatedTask
from edgetam_model.training.fit_options import MOST_FRAMES, OTHER_PICTURES

if TYPE_CHECKING:
    from edgetam_model.training.fit_recipe import Mode

SMALL_INPUT = 256  # side of the input up to which a model counts as small, as in `fit_recipe`
MEASURED_CORES = 2
MOST_CORES = 8  # more bring little: batches are small


@dataclass(frozen=True)
class _Cost:
    """On two cores: times as one core took them, since small batches hardly share out; memory as measured.

    Attributes:
        update_s: seconds of an update of the weights, by mode.
        image_s, object_s: seconds to look at a held-out image, and to answer the prompt of an object on it.
        frame_s, step_s: seconds to look at a frame of a held-out video, and to follow an object to it.
        track_s: seconds to track the forgetting set once.
        fixed_s: seconds for loading, the validations, the report.
        memory_mb: most memory of the process, by mode.
    """

    update_s: Mapping[Mode, float]
    image_s: float
    object_s: float
    frame_s: float
    step_s: float
    track_s: float
    fixed_s: float
    memory_mb: Mapping[Mode, int]


# One core's least time of several, on a busy machine: 9 cells on 4 images in 1.4 s (small) and 4.1 s (large);
# one and two objects of a video at .11 and .22 s a frame (small), 2.1 and 3.1 s (large); the forgetting set
# in 6.3 and 41 s.
_SMALL = _Cost(
    update_s={"adapter": 1.4, "decoder": 1.2, "full": 1.5},
    image_s=0.0,  # every object is seen through a window of its own
    object_s=0.17,
    frame_s=0.0,
    step_s=0.11,
    track_s=6.5,
    fixed_s=10.0,
    memory_mb={"adapter": 1800, "decoder": 1800, "full": 2000},
)
_LARGE = _Cost(
    update_s={"adapter": 11.0, "decoder": 10.0, "full": 12.0},
    image_s=0.8,
    object_s=0.15,
    frame_s=1.1,
    step_s=1.1,
    track_s=41.0,
    fixed_s=30.0,
    memory_mb={"adapter": 3400, "decoder": 3300, "full": 4000},
)


@dataclass(frozen=True)
class Measuring:
    """What a fit measures on, counted in what takes time.

    Attributes:
        images, objects: held-out images, and objects on them.
        frames, steps: frames of held-out videos that are looked at, and objects that are followed to them.
        forgetting: models that track the forgetting set: the old one, the new one, and that of the project's
            first version.
    """

    images: int = 0
    objects: int = 0
    frames: int = 0
    steps: int = 0
    forgetting: int = 2

    @classmethod
    def of(cls, held_out: Sequence[AnnotatedTask], *, serving: bool) -> Self:
        """Count, by what was drawn alone.

        Args:
            held_out: tasks.
            serving: whether a version serves the project.
        """
        stills = [task for task in held_out if task.kind == "image"]
        films = [_walks(task) for task in held_out if task.kind == "video"]
        return cls(
            images=len(stills),
            objects=sum(len(task.objects) for task in stills),
            frames=sum(len(set().union(*walks)) for walks in films),
            steps=sum(len(walk) for walks in films for walk in walks),
            forgetting=3 if serving else 2,
        )

    def seconds(self, cost: _Cost) -> float:
        """Of both versions, and of the new one on other pictures."""
        stills = self.images * cost.image_s + self.objects * cost.object_s
        tracks = self.frames * cost.frame_s + self.steps * cost.step_s
        return (2 + OTHER_PICTURES) * stills + 2 * tracks + self.forgetting * cost.track_s


@dataclass(frozen=True)
class Needs:
    """What a fit will take on this machine.

    Attributes:
        seconds: from start to end, roughly.
        memory_mb: of the process at most, roughly.
        machine_mb: what the machine has, None where it does not say.
        measuring: of the seconds, those of measuring after the training.
        updates: of the weights that take as long as measuring does.
    """

    seconds: float
    memory_mb: int
    machine_mb: int | None
    measuring: float = 0.0
    updates: float = 0.0

    def __str__(self) -> str:
        """For people."""
        has = f"; this machine has {self.machine_mb / 1000:.0f} GB" if self.machine_mb else ""
        share = f" ({in_words(self.measuring)} of them to measure)" if self.measuring else ""
        return (
            f"{in_words(self.seconds)} on this machine{share}, {self.memory_mb / 1000:.1f} GB of memory{has}"
        )

    @property
    def is_tight(self) -> bool:
        """Whether the machine has too little memory."""
        return self.machine_mb is not None and self.memory_mb > 0.9 * self.machine_mb


def needs(config: EdgeTAMConfig, mode: Mode, updates: int, measured: Measuring) -> Needs:
    """What a fit of this model takes.

    Args:
        config: of the model.
        mode: what of it learns.
        updates: of the weights.
        measured: what old and new version are measured on.
    """
    cost = _SMALL if config.image_size <= SMALL_INPUT else _LARGE
    speed = min(cores(), MOST_CORES) / MEASURED_CORES
    measuring = measured.seconds(cost)
    seconds = cost.fixed_s + updates * cost.update_s[mode] + measuring
    return Needs(
        seconds=round(seconds / speed, 1),
        memory_mb=cost.memory_mb[mode],
        machine_mb=machine_memory_mb(),
        measuring=round(measuring / speed, 1),
        updates=measuring / cost.update_s[mode],
    )


def config_of(weights: str | Path) -> EdgeTAMConfig:
    """The sizes of a model by what `load_model` takes, without reading or fetching its numbers.

    What cannot be told before it is loaded counts as the published size: rather too much than too little.
    """
    shipped, cached = Path(__file__).parents[1] / "data" / "nano.safetensors", cache_dir() / "weights"
    name = str(weights)
    if name == "auto":
        name = PUBLISHED.name if (cached / f"{PUBLISHED.name}.safetensors").is_file() else "default"
    if name == "default":
        return _config_in(shipped)
    imported = cached / f"{name}.safetensors"
    return _config_in(imported if imported.is_file() else Path(weights).expanduser())


def in_words(seconds: float) -> str:
    """A rough time for people: "about 6 minutes"."""
    if seconds < 50:
        return f"about {max(10, round(seconds, -1)):.0f} seconds"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"about {minutes} minute{'s' * (minutes != 1)}"
    return f"about {seconds / 3600:.1f} hours"


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_memory_mb() -> int | None:
    """Of the whole machine, in 10⁶ bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 10**6
    except (AttributeError, ValueError, OSError):  # not on every system
        return None


def peak_memory_mb() -> int | None:
    """The most that this process ever had, in 10⁶ bytes; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 10**6


def _walks(task: AnnotatedTask) -> list[range]:
    """Frames that each object of a video is followed over, its first one included."""
    found = []
    for each in task.objects:
        frames = [seen.frame for seen in each.sightings] + [gone.start for gone in each.absent if gone]
        first = each.sightings[0].frame
        found.append(range(first, min(max(frames), first + MOST_FRAMES) + 1))
    return found


def _config_in(path: Path) -> EdgeTAMConfig:
    """The config that a weights file carries."""
    try:
        with safe_open(path, framework="numpy") as file:
            return EdgeTAMConfig.from_dict(json.loads((file.metadata() or {})["config"]))
    except (SafetensorError, OSError, LookupError, ValueError, InputError):
        return CONFIGS["edgetam"]
