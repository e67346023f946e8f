"""Results make their masks when read, and never overlap when parted."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgetam_model.results import MaskResult, ObjectResult, State, without_overlap
from edgetam_model.windows import OUTSIDE_LOGIT, Window

LOGITS = npst.arrays(np.float32, (8, 8), elements=st.floats(-40, 40, width=32))


def result(
    logits: np.ndarray,
    size: tuple[int, int] = (30, 50),
    state: State = "visible",
    window: Window | None = None,
) -> ObjectResult:
    return ObjectResult(logits, size, 0.5, 1.0, state, window=window)


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


def test_a_mask_lies_where_its_window_is() -> None:
    logits = np.full((8, 8), -3, np.float32)
    logits[2:4, 1:6] = 5
    placed = result(logits, (90, 160), window=Window(100, 40, 116, 72))  # 2 × 4 pixels of the frame per logit
    assert placed.box == (102, 48, 112, 56)
    assert placed.mask[48:56, 102:112].mean() > 0.7, "bilinear edges move by less than a pixel"
    at_size = placed.logits_at_size()
    inside = np.zeros((90, 160), bool)
    inside[40:72, 100:116] = True
    assert (at_size[~inside] == OUTSIDE_LOGIT).all()
    assert np.array_equal(at_size[40:72, 100:116], result(logits, (32, 16)).logits_at_size())
    whole = result(logits, window=Window(0, 0, 50, 30))
    assert np.array_equal(whole.logits_at_size(), result(logits).logits_at_size())
    assert not result(logits, (90, 160), "lost", Window(100, 40, 116, 72)).mask.any()


WINDOWS = st.builds(
    lambda x, y, w, h: Window(x, y, min(x + w, 60), min(y + h, 40)),
    *(st.integers(0, 59), st.integers(0, 39), st.integers(1, 60), st.integers(1, 40)),
)


@given(st.lists(st.tuples(LOGITS, st.none() | WINDOWS), min_size=2, max_size=4))
@settings(deadline=None)
def test_objects_with_windows_of_their_own_do_not_overlap_and_lose_nothing_else(
    drawn: list[tuple[np.ndarray, Window | None]],
) -> None:
    results = {i: result(logits, (40, 60), window=window) for i, (logits, window) in enumerate(drawn)}
    parted = without_overlap(results)
    covered = np.stack([r.mask.astype(int) for r in parted.values()]).sum(axis=0)
    anywhere = np.stack([r.mask for r in results.values()]).any(axis=0)
    assert covered.max() <= 1
    if any(window is not None for _, window in drawn):
        assert np.array_equal(covered > 0, anywhere)
        highest = np.stack([r.logits_at_size() for r in results.values()]).argmax(axis=0)
        for row, (i, one) in enumerate(parted.items()):
            assert np.array_equal(one.mask, results[i].mask & (highest == row))
            assert one.logits is results[i].logits
