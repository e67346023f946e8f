"""How long a fit takes and how much memory it needs, said beforehand. No torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from edgetam_model.config import CONFIGS, EdgeTAMConfig
from edgetam_model.errors import InputError
from edgetam_model.hub import PUBLISHED, cache_dir

if TYPE_CHECKING:
    from edgetam_model.training.fit_recipe import Mode

SMALL_INPUT = 256  # side of the input up to which a model counts as small, as in `fit_recipe`
MEASURED_CORES = 2
MOST_CORES = 8  # more bring little: batches are small


@dataclass(frozen=True)
class _Cost:
    """On two cores: times rounded up from one core's, memory as measured.

    Attributes:
        update_s: seconds of an update of the weights, by mode.
        judge_s: seconds to answer one held-out prompt.
        track_s: seconds to track the forgetting set once.
        fixed_s: seconds for loading, the last validation, the report.
        memory_mb: most memory of the process, by mode.
    """

    update_s: Mapping[Mode, float]
    judge_s: float
    track_s: float
    fixed_s: float
    memory_mb: Mapping[Mode, int]


_SMALL = _Cost(
    update_s={"adapter": 1.4, "decoder": 1.2, "full": 1.5},
    judge_s=0.06,
    track_s=5.0,
    fixed_s=10.0,
    memory_mb={"adapter": 1800, "decoder": 1800, "full": 2000},
)
_LARGE = _Cost(
    update_s={"adapter": 11.0, "decoder": 10.0, "full": 12.0},
    judge_s=1.3,
    track_s=20.0,
    fixed_s=30.0,
    memory_mb={"adapter": 3400, "decoder": 3300, "full": 4000},
)


@dataclass(frozen=True)
class Needs:
    """What a fit will take on this machine.

    Attributes:
        seconds: from start to end, roughly.
        memory_mb: of the process at most, roughly.
        machine_mb: what the machine has, None where it does not say.
    """

    seconds: float
    memory_mb: int
    machine_mb: int | None

    def __str__(self) -> str:
        """For people."""
        has = f"; this machine has {self.machine_mb / 1000:.0f} GB" if self.machine_mb else ""
        return f"{in_words(self.seconds)} on this machine, {self.memory_mb / 1000:.1f} GB of memory{has}"

    @property
    def is_tight(self) -> bool:
        """Whether the machine has too little memory."""
        return self.machine_mb is not None and self.memory_mb > 0.9 * self.machine_mb


def needs(config: EdgeTAMConfig, mode: Mode, updates: int, prompts: int) -> Needs:
    """What a fit of this model takes.

    Args:
        config: of the model.
        mode: what of it learns.
        updates: of the weights.
        prompts: held-out ones that are answered by the old and the new version.
    """
    cost = _SMALL if config.image_size <= SMALL_INPUT else _LARGE
    speed = min(cores(), MOST_CORES) / MEASURED_CORES
    judging = 2 * (prompts * cost.judge_s + cost.track_s)
    seconds = (cost.fixed_s + updates * cost.update_s[mode] + judging) / speed
    return Needs(round(seconds, 1), cost.memory_mb[mode], machine_memory_mb())


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


def _config_in(path: Path) -> EdgeTAMConfig:
    """The config that a weights file carries."""
    try:
        with safe_open(path, framework="numpy") as file:
            return EdgeTAMConfig.from_dict(json.loads((file.metadata() or {})["config"]))
    except (SafetensorError, OSError, LookupError, ValueError, InputError):
        return CONFIGS["edgetam"]
