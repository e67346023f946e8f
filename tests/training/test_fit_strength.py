"""Which share of a change a version takes: all that does not forget, measured once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from edgetam_model.model import EdgeTAM
from edgetam_model.training.fit_folder import FitFolder
from edgetam_model.training.fit_progress import FitCancelledError, FitProgress
from edgetam_model.training.fit_strength import STRENGTHS, Kept, Weighed, weigh
from edgetam_model.training.forgetting import ForgettingSet
from edgetam_model.weights import load_model
from edgetam_model.weights_file import read_weights, save_weights
from tests.training.fit_jobs import Listener, small_weights

KNOWN = (0.9, 0.8)
MOVED = "obj_ptr_proj.layers.2.bias"  # by 1, for a model's place on the way to be read from it


@dataclass(frozen=True)
class Scripted(ForgettingSet):
    """Loses so much on the way from where it begins, and notes when it is asked."""

    begins: float = 0.0
    loses: Callable[[float], float] = abs
    asked: list[float] = field(default_factory=list)

    def score(self, model: EdgeTAM, tick: Callable[[], None] | None = None) -> tuple[float, ...]:
        moved = float(model.state_dict()[MOVED][0]) - self.begins
        self.asked.append(round(moved, 3))
        if tick is not None:
            tick()
        return tuple(j - self.loses(moved) for j in KNOWN)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> EdgeTAM:
    return load_model(small_weights(tmp_path_factory.mktemp("before") / "before.safetensors"), "cpu")


@pytest.fixture
def learned(tmp_path: Path, before: EdgeTAM) -> Path:
    state = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    state[MOVED] += 1
    save_weights(tmp_path / "weights.safetensors", state, before.config, licence="MIT", source="a team")
    return tmp_path / "weights.safetensors"


def weighed(before: EdgeTAM, learned: Path, kept: Scripted, listener: Listener | None = None) -> Weighed:
    progress = FitProgress(listener or Listener())
    return weigh(before.state_dict(), learned, KNOWN, Kept(kept, FitFolder(learned.parent)), progress, "cpu")


def scripted(before: EdgeTAM, loses: Callable[[float], float]) -> Scripted:
    return Scripted(clips=2, begins=float(before.state_dict()[MOVED][0]), loses=loses)


def test_all_of_it_where_nothing_is_forgotten(before: EdgeTAM, learned: Path) -> None:
    kept = scripted(before, lambda moved: 0.01 * moved)
    found = weighed(before, learned, kept)
    assert (found.strength, found.weights, found.note) == (1.0, learned, "")
    assert found.model.fused
    assert kept.asked == [1.0]


def test_the_largest_share_that_keeps_enough(before: EdgeTAM, learned: Path) -> None:
    kept = scripted(before, lambda moved: 0.018 * moved)
    found = weighed(before, learned, kept)
    assert found.strength == 0.5
    assert found.note == (
        "50% of the learned change is taken: with all of it, mean J on the forgetting set fell by 0.018"
    )
    assert kept.asked == [1.0, 0.75, 0.5]
    halfway, start, end = read_weights(found.weights), before.state_dict(), read_weights(learned)
    assert (halfway.licence, halfway.source, halfway.config) == ("MIT", "a team", end.config)
    assert found.model.fingerprint() == halfway.fingerprint
    for name, tensor in halfway.state.items():
        torch.testing.assert_close(
            tensor, (start[name] + end.state[name]) / 2 if name == MOVED else start[name]
        )


def test_where_every_share_forgets_all_of_it_is_judged(before: EdgeTAM, learned: Path) -> None:
    kept = scripted(before, lambda moved: 0.3)
    found = weighed(before, learned, kept)
    assert (found.strength, found.weights, found.note) == (1.0, learned, "")
    assert kept.asked == [*STRENGTHS]


def test_a_second_run_asks_no_model_again_that_was_done(before: EdgeTAM, learned: Path) -> None:
    kept = scripted(before, lambda moved: 0.018 * moved)

    def enough(note: str) -> bool:
        return note.startswith("measuring what 75% of the change")

    with pytest.raises(FitCancelledError):
        weighed(before, learned, kept, Listener(cancel=enough))
    assert kept.asked == [1.0, 0.75]
    assert weighed(before, learned, kept).strength == 0.5
    assert kept.asked == [1.0, 0.75, 0.75, 0.5]


def test_scores_that_were_damaged_are_found_anew(before: EdgeTAM, learned: Path) -> None:
    kept = scripted(before, lambda moved: 0.0)
    weighed(before, learned, kept)
    (note,) = learned.parent.glob("kept-*.json")
    note.write_text('["a"]')
    assert weighed(before, learned, kept).strength == 1.0
    assert kept.asked == [1.0, 1.0]
