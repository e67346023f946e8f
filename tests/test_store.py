"""Finished frames come back with the very same mask, stay small, and cost no memory that grows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgetam_model.errors import CheckpointError
from edgetam_model.store import CORNERS, HEADER, STEP, FrameRecord, FrameStore, pack, unpack
from edgetam_model.windows import Window


def record(logits: np.ndarray, **changes: object) -> FrameRecord:
    facts = {"iou": 0.75, "object_score": 2.5, "state": "visible", "prompted": False, "reverse": True}
    return FrameRecord(logits, doubtful=3, **(facts | changes))  # type: ignore[arg-type]


def smooth_logits(seed: int, side: int = 256) -> np.ndarray:
    """What a trained decoder gives: blobs with soft edges and some noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 12, (9, 9)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC) + rng.normal(
        0, 0.05, (side, side)
    ).astype(np.float32)


def masks_at_sizes(logits: np.ndarray) -> list[np.ndarray]:
    sizes = [(640, 360), (1920, 1080), (100, 37), (logits.shape[1], logits.shape[0])]
    return [cv2.resize(logits, size, interpolation=cv2.INTER_LINEAR) > 0 for size in sizes]


@given(
    npst.arrays(np.float32, (16, 16), elements=st.floats(-40, 40, width=32)),
    st.sampled_from(["visible", "absent", "lost"]),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_compact_frames_give_the_same_mask_at_every_size(
    logits: np.ndarray, state: str, prompted: bool
) -> None:
    back = unpack(pack(record(logits, state=state, prompted=prompted), exact=False))
    assert (back.state, back.prompted, back.reverse, back.doubtful) == (state, prompted, True, 3)
    assert (back.iou, back.object_score) == (0.75, 2.5)
    for expected, mask in zip(masks_at_sizes(logits), masks_at_sizes(back.logits), strict=True):
        assert np.array_equal(expected, mask)
    inside = np.abs(logits) < 127 * STEP
    assert np.abs(back.logits - logits)[inside].max(initial=0) <= STEP


@pytest.mark.parametrize("seed", range(5))
def test_compact_frames_are_small(seed: int) -> None:
    logits = smooth_logits(seed)
    blob = pack(record(logits), exact=False)
    assert len(blob) < logits.nbytes / 5
    for expected, mask in zip(masks_at_sizes(logits), masks_at_sizes(unpack(blob).logits), strict=True):
        assert np.array_equal(expected, mask)


def test_exact_frames_are_exact_and_absent_ones_take_a_few_bytes() -> None:
    logits = smooth_logits(1)
    assert unpack(pack(record(logits), exact=True)).logits.tobytes() == logits.tobytes()
    absent = np.full((256, 256), -1024, np.float32)
    blob = pack(record(absent), exact=False)
    assert len(blob) < 40
    assert np.array_equal(unpack(blob).logits, absent)


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(blob: bytes) -> None:
    try:
        unpack(blob)
    except CheckpointError:
        return
    assert len(blob) >= 16, "only a whole header can pass"


@given(st.integers(0, 10_000), st.integers(0, 255))
@settings(deadline=None)
def test_a_damaged_frame_is_refused_or_read_never_worse(position: int, value: int) -> None:
    blob = bytearray(pack(record(smooth_logits(2, 32)), exact=False))
    blob[position % len(blob)] = value
    try:
        unpack(bytes(blob))
    except CheckpointError:
        return


def test_the_store_keeps_exact_logits_while_there_is_room() -> None:
    logits = [smooth_logits(i, 32) for i in range(4)]
    store = FrameStore(exact_bytes=2 * logits[0].nbytes)
    for frame, values in enumerate(logits):
        store.put(1, frame, record(values))
    exact = [np.array_equal(store.get(1, f).logits, logits[f]) for f in range(4)]
    assert exact == [True, True, False, False]
    assert np.array_equal(store.get(1, 3).logits > 0, logits[3] > 0)
    assert unpack(store.get_packed(1, 0)).logits.shape == (32, 32)


def test_frames_are_replaced_discarded_and_listed() -> None:
    store = FrameStore(exact_bytes=0)
    for frame in (5, 1, 3):
        store.put(7, frame, record(smooth_logits(frame, 16)))
    store.put(7, 3, record(smooth_logits(99, 16), iou=0.5))
    assert store.frames(7) == [1, 3, 5]
    assert store.get(7, 3).iou == 0.5
    store.discard(7, (1, 2))
    assert (store.has(7, 1), store.has(7, 5), store.has(8, 5)) == (False, True, False)
    with pytest.raises(KeyError):
        store.get(7, 1)


def test_the_file_is_written_anew_when_most_of_it_is_waste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetam_model.store.WASTE_LIMIT", 20_000)
    store = FrameStore(exact_bytes=1 << 20)
    kept = record(smooth_logits(0, 32))
    store.put(1, 0, kept)
    for i in range(40):
        store.put(1, 1, record(smooth_logits(i, 32)))
    assert store._end < 40_000, "40 frames of 5 KB were written"
    assert np.array_equal(store.get(1, 0).logits, kept.logits)
    assert np.array_equal(store.get(1, 1).logits, smooth_logits(39, 32))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("logits", [smooth_logits(3, 32), np.full((32, 32), -1024, np.float32)])
def test_windows_stand_in_the_header_and_cost_nothing_where_there_are_none(
    exact: bool, logits: np.ndarray
) -> None:
    plain = pack(record(logits), exact=exact)
    assert unpack(plain).window is None
    window = Window(3, 70_000, 1920, 70_010)
    blob = pack(record(logits, window=window), exact=exact)
    assert len(blob) == len(plain) + CORNERS.size
    back = unpack(blob)
    assert back.window == window
    assert back.logits.tobytes() == unpack(plain).logits.tobytes()
    store = FrameStore(exact_bytes=1 << 20)
    store.put(1, 0, record(logits, window=window))
    assert store.get(1, 0).window == window
    damaged = blob[: HEADER.size] + CORNERS.pack(9, 0, 9, 5) + blob[HEADER.size + CORNERS.size :]
    with pytest.raises(CheckpointError, match="damaged"):
        unpack(damaged)
