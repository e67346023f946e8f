"""How much of what was learned a version takes: all of it, or less where all of it forgets.

Weights on the line between a model and its fine-tuned copy forget less and keep most of what was gained.
Measured on microscopy-like pictures (docs/log.md): half the change has two thirds of the gain and tracks as
well as before, all of it loses .025.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from edgetam_model.model import EdgeTAM
from edgetam_model.training.fit_folder import FitFolder
from edgetam_model.training.fit_progress import FitProgress, Step
from edgetam_model.training.forgetting import ForgettingSet
from edgetam_model.training.interpolation import interpolated
from edgetam_model.training.judging import Forgetting, Rules
from edgetam_model.weights import load_model
from edgetam_model.weights_file import read_weights, save_weights

STRENGTHS = (1.0, 0.75, 0.5, 0.25)  # each costs a look at the forgetting set, 9 s for `nano`

_SCORES = TypeAdapter(tuple[float, ...])


@dataclass(frozen=True)
class Kept:
    """What models make of a forgetting set; each is asked once, over all runs of a fit."""

    clips: ForgettingSet
    folder: FitFolder

    def of(self, model: EdgeTAM, tick: Callable[[], None] | None = None) -> tuple[float, ...]:
        """As `ForgettingSet.score`."""
        name = f"kept-{model.fingerprint()[:24]}"
        try:
            return _SCORES.validate_python(self.folder.noted(name))
        except ValidationError:
            scores = self.clips.score(model, tick)
            self.folder.note(name, list(scores))
            return scores


@dataclass(frozen=True, eq=False)
class Weighed:
    """The weights that are judged.

    Attributes:
        model: with them, fused.
        weights: their file.
        strength: the share of the change that they take, above 0, at most 1.
        note: why that is not all of it, for people; "" where it is.
    """

    model: EdgeTAM
    weights: Path
    strength: float = 1.0
    note: str = ""


def weigh(
    before: Mapping[str, Tensor],
    learned: Path,
    known: tuple[float, ...],
    kept: Kept,
    progress: FitProgress,
    device: str,
) -> Weighed:
    """The largest share of the change that forgets no more than the rules allow; all of it where none does.

    Args:
        before: the weights that training began with, as files have them.
        learned: the file that it ended in.
        known: J of the forgetting set's clips that is to be kept.
        kept: to score with.
        progress: told after every clip.
        device: to score on.

    Raises:
        WeightsError: a file that cannot be written.
        FitCancelledError: the listener wants no more.
    """
    falls: list[float] = []
    for turn, strength in enumerate(STRENGTHS):
        weights = learned if strength == 1 else _partly(before, learned, strength)
        model = load_model(weights, device).fuse()
        what = f"measuring what {strength:.0%} of the change forgot, clip"
        forgetting = Forgetting.of(
            known, kept.of(model, progress.counter(*_span(turn), kept.clips.clips, what))
        )
        falls.append(forgetting.fall)
        if Rules().keeps(forgetting):
            return Weighed(model, weights, strength, _why(strength, falls[0]))
    return Weighed(load_model(learned, device).fuse(), learned)


def _span(turn: int) -> tuple[Step, tuple[float, float]]:
    """Where the measuring of a strength stands in all measuring: between the old version and the new one."""
    return "judging", (0.45 + 0.15 * turn / len(STRENGTHS), 0.45 + 0.15 * (turn + 1) / len(STRENGTHS))


def _why(strength: float, fall: float) -> str:
    if strength == 1:
        return ""
    lost = f"with all of it, mean J on the forgetting set fell by {fall:.3f}"
    return f"{strength:.0%} of the learned change is taken: {lost}"


def _partly(before: Mapping[str, Tensor], learned: Path, strength: float) -> Path:
    """The file of the weights so far on the way, beside those at its end."""
    end = read_weights(learned)
    state = interpolated({name: tensor.cpu() for name, tensor in before.items()}, end.state, strength)
    path = learned.with_name(f"weights-{strength:.0%}.safetensors".replace("%", ""))
    save_weights(path, state, end.config, licence=end.licence, source=end.source)
    return path
