"""Results make their masks when read, and never overlap when parted."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgetam_model.results import MaskResult, ObjectResult, State, without_overlap

LOGITS = npst.arrays(np.float32, (8, 8), elements=st.floats(-40, 40, width=32))


def result(logits: np.ndarray, size: tuple[int, int] = (30, 50), state: State = "visible") -> ObjectResult:
    return ObjectResult(logits, size, 0.5, 1.0, state)


@given(LOGITS, st.integers(1, 70), st.integers(1, 70))
@settings(deadline=None)
def test_masks_go_back_to_the_image_as_the_published_code_resizes_them(
    logits: np.ndarray, height: int, width: int
) -> None:
    expected = F.interpolate(torch.from_numpy(logits)[None, None], size=(height, width), mode="bilinear")
    assert np.abs(result(logits, (height, width)).logits_at_size() - expected[0, 0].numpy()).max() < 1e-4


def test_only_visible_objects_have_a_mask_and_a_box() -> None:
    logits = np.full((8, 8), -3, np.float32)
    logits[2:4, 2:6] = 5
    assert result(logits, (8, 8)).box == (2, 2, 6, 4)
    for state in ("absent", "lost"):
        assert not result(logits, state=state).mask.any()
        assert result(logits, state=state).box is None
    assert MaskResult(logits, (8, 8), 0.5, 1.0).candidates == ()


@given(st.lists(LOGITS, min_size=2, max_size=4), st.integers(1, 90), st.integers(1, 90))
@settings(deadline=None)
def test_parted_masks_do_not_overlap_at_any_size_and_lose_nothing_else(
    logits: list[np.ndarray], height: int, width: int
) -> None:
    results = {i: result(values, (height, width)) for i, values in enumerate(logits)}
    parted = without_overlap(results)
    covered = np.stack([r.mask.astype(int) for r in parted.values()]).sum(axis=0)
    assert covered.max() <= 1
    everywhere = np.stack([r.logits for r in results.values()]).max(axis=0)
    assert np.array_equal(np.stack([r.logits for r in parted.values()]).max(axis=0), everywhere)


def test_objects_that_are_not_visible_take_no_pixels() -> None:
    full = np.full((8, 8), 9, np.float32)
    results = {1: result(full / 3), 2: result(full, state="lost")}
    assert without_overlap(results)[1].mask.all()
