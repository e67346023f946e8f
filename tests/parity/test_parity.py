"""The product's model against golden numbers of the published code, on weights anyone can make again.

Two of the published code's outputs are ill-conditioned with these weights: the mask decoder's
token-to-image attention is saturated, so that a change of one unit in the last place of the features moves
its masks by about 1e-3, and two processors' convolutions differ by more than that. Where this matters the
tolerance is the spread of the same fp32 computation done in two more ways (batch norms fused, which changes
the rounding and not the function; inputs changed by one rounding), measured in the same run, and a cap
keeps it far below what any slip would give. `docs/log.md` has the numbers.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity.inputs import sampled
from tests.parity.modules import modules, modules_by_conditioning
from tests.parity.references import (
    CAP,
    GOLDEN_ARRAYS,
    MODULES,
    SPREAD,
    VIDEO,
    RollOut,
    error,
    fused,
    golden,
    history_of,
    independent_errors,
    layout,
    like_the_independent_one,
    published,
    tame,
    worst_by_history,
)


def test_the_layout_is_the_published_one() -> None:
    own = {name: list(value.shape) for name, value in published().state_dict().items()}
    assert own == layout()
    assert len(own) == 982
    assert sum(p.numel() for p in published().parameters()) == 13_895_794


@pytest.mark.parametrize("name", modules_by_conditioning()[0])
def test_modules(name: str) -> None:
    assert error(modules()[0], golden(), name) <= MODULES


@pytest.mark.parametrize("name", modules_by_conditioning()[1])
def test_modules_that_amplify_rounding(name: str) -> None:
    ours, others = modules()
    spread = max(error(other, {name: sampled(ours[name], golden()[name].size)}, name) for other in others)
    assert error(ours, golden(), name) <= min(CAP, max(MODULES, SPREAD * spread))


@pytest.mark.parametrize("name", [f"trunk.{i}" for i in range(4)] + [f"features.{i}" for i in range(3)])
def test_fusing_keeps_the_numbers(name: str) -> None:
    ours, (with_fusing, *_) = modules()
    assert np.abs(with_fusing[name] - ours[name]).max() <= MODULES


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("roll_out", list(GOLDEN_ARRAYS), ids=lambda f: f.__name__)
def test_videos(roll_out: RollOut) -> None:
    ours = roll_out(published())
    runs = {history_of(name) for name in ours}
    names = [name for name in golden() if name.startswith("video.") and history_of(name) in runs]
    assert len(names) == GOLDEN_ARRAYS[roll_out]
    errors = worst_by_history({name: error(ours, golden(), name) for name in names})
    allowed = dict.fromkeys(errors, VIDEO)
    if any(found > VIDEO for found in errors.values()):  # a spread costs a second run: only where it is asked
        other, kept = roll_out(fused()), {n: sampled(ours[n], golden()[n].size) for n in names}
        spreads = worst_by_history({name: error(other, kept, name) for name in names})
        allowed = {h: min(CAP, max(VIDEO, SPREAD * spread)) for h, spread in spreads.items()}
        print(f"spread {spreads}")  # noqa: T201 - for docs/log.md
    print(f"error {errors}")  # noqa: T201
    assert all(errors[history] <= allowed[history] for history in errors), (errors, allowed)


def test_every_video_array_is_compared() -> None:
    assert sum(GOLDEN_ARRAYS.values()) == sum(name.startswith("video.") for name in golden())


def test_videos_of_an_independent_implementation() -> None:
    """Where the decoder does not amplify rounding, whole roll-outs hold the tolerance of single modules."""
    errors = independent_errors(like_the_independent_one(tame()))
    assert len(errors) == 18
    assert max(errors.values()) <= MODULES, errors
