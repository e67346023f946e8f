"""Which memories a frame gets, in which order, and that their number is bounded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.config import CONFIGS
from edgetam_model.memory import CONDITIONING, Memory, MemoryBank, Recall, gather, nearest_conditioning
from tests.models import tiny_model

CONFIG = CONFIGS["tiny"]


def memory(frame: int) -> Memory:
    """A memory that carries its frame's number in every value."""
    shape = (CONFIG.latents, CONFIG.memory_width)
    return Memory(frame, torch.full((CONFIG.width,), float(frame)), torch.full(shape, float(frame)))


def bank(conditioning: list[int], recent: list[int], *, reverse: bool = False) -> MemoryBank:
    made = MemoryBank(CONFIG, CONFIG.recent_memories)
    made.conditioning = {frame: memory(frame) for frame in conditioning}
    for frame in recent:
        made.remember(memory(frame), reverse=reverse)
    return made


def frames_of(recall: Recall) -> list[int]:
    return [int(latents[0, 0]) for latents in recall.latents]


def pointers_of(recall: Recall) -> list[int]:
    return [int(pointer[0]) for pointer in recall.pointers]


def test_conditioning_frames_come_first_then_recent_ones_oldest_first() -> None:
    recall = bank([0], list(range(1, 20))).recall(20, reverse=False, max_conditioning=4)
    assert frames_of(recall) == [0, 14, 15, 16, 17, 18, 19]
    assert recall.ages == [CONDITIONING, 6, 5, 4, 3, 2, 1]
    assert pointers_of(recall) == [0, *range(19, 4, -1)], "conditioning, then 15 frames, nearest first"


def test_tracking_backward_mirrors_it() -> None:
    recall = bank([30], list(range(29, 10, -1)), reverse=True).recall(10, reverse=True, max_conditioning=4)
    assert frames_of(recall) == [30, 16, 15, 14, 13, 12, 11]
    assert pointers_of(recall) == [30, *range(11, 26)]


def test_pointers_of_conditioning_frames_still_to_come_are_left_out() -> None:
    made = bank([0, 50], [1, 2])
    assert pointers_of(made.recall(3, reverse=False, max_conditioning=4)) == [0, 2, 1]
    assert frames_of(made.recall(3, reverse=False, max_conditioning=4)) == [0, 50, 1, 2]


def test_a_conditioning_frame_that_is_not_selected_serves_as_a_recent_one() -> None:
    made = bank([0, 7, 8, 9, 10, 40], [])
    recall = made.recall(12, reverse=False, max_conditioning=4)
    assert frames_of(recall) == [8, 9, 10, 40, 7]
    assert recall.ages == [0, 0, 0, 0, 5]


@given(st.sets(st.integers(0, 100), min_size=1), st.integers(0, 100), st.integers(2, 6))
def test_the_nearest_before_and_after_are_always_among_those_selected(
    frames: set[int], frame: int, limit: int
) -> None:
    chosen = nearest_conditioning(sorted(frames), frame, limit)
    assert len(chosen) == min(limit, len(frames))
    assert chosen == sorted(set(chosen) & frames)
    before, after = [f for f in frames if f < frame], [f for f in frames if f >= frame]
    assert not before or max(before) in chosen
    assert not after or min(after) in chosen


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 200), st.booleans()), max_size=8))
def test_the_number_of_memories_is_bounded_whatever_is_tracked(runs: list[tuple[int, int, bool]]) -> None:
    made = bank([0], [])
    for start, length, reverse in runs:
        for i in range(length):
            made.remember(memory(start - i if reverse else start + i), reverse=reverse)
    windows = 4 * CONFIG.max_pointers  # two directions, each around its head and its frontier
    assert sum(len(direction) for direction in made.recent.values()) <= windows + 4
    with_latents = [m for d in made.recent.values() for m in d.values() if m.latents is not None]
    assert len(with_latents) <= 4 * (2 * CONFIG.recent_memories)


def test_the_frontier_keeps_its_memories_while_an_earlier_stretch_is_redone() -> None:
    made = bank([0, 50], list(range(1, 61)))
    made.forget(range(1, 50), prompted=())
    for frame in range(31, 50):
        made.remember(memory(frame), reverse=False)
    assert frames_of(made.recall(61, reverse=False, max_conditioning=4))[2:] == [55, 56, 57, 58, 59, 60]


def test_shorter_histories_leave_slots_that_are_masked_out() -> None:
    recalls = [
        bank([0], [1, 2, 3]).recall(4, reverse=False, max_conditioning=4),
        bank([3], []).recall(4, reverse=False, max_conditioning=4),
    ]
    memories = tiny_model().memories(gather(tiny_model(), recalls))
    latents, pointers = 4 * CONFIG.latents, 4 * CONFIG.pointer_tokens
    assert memories.valid is not None
    assert memories.valid.shape == (2, latents + pointers)
    assert memories.valid[0].all()
    assert memories.valid[1].sum() == CONFIG.latents + CONFIG.pointer_tokens
    assert tiny_model().memories(gather(tiny_model(), recalls[:1])).valid is None


def test_temporal_encodings_follow_the_published_order() -> None:
    model = tiny_model()
    recall = bank([0], list(range(1, 7))).recall(7, reverse=False, max_conditioning=4)
    memories = model.memories(gather(model, [recall]))
    temporal = memories.position[0, :, 0] - model.spatial_perceiver.latents_position[0, 0]
    rows = [6, 5, 4, 3, 2, 1, 0]  # conditioning, then ages 6 … 1
    torch.testing.assert_close(temporal, model.maskmem_tpos_enc[rows, 0, 0])


@pytest.mark.parametrize("extra", [1, 3])
def test_masked_slots_change_nothing(extra: int) -> None:
    """An object's features are the same alone and beside one with a longer history."""
    model = tiny_model()
    generator = torch.Generator().manual_seed(0)

    def random_recall(count: int) -> Recall:
        shape = (CONFIG.latents, CONFIG.memory_width)
        latents = [torch.randn(shape, generator=generator) for _ in range(count)]
        pointers = [torch.randn(CONFIG.width, generator=generator) for _ in range(count)]
        return Recall(latents, list(range(count)), pointers)

    short, long = random_recall(2), random_recall(2 + extra)
    image = model.encode_image(torch.randn(1, 3, 128, 128, generator=generator))
    with torch.inference_mode():
        alone = model.with_memory(image, gather(model, [short]))
        beside = model.with_memory(image, gather(model, [short, long]))
    torch.testing.assert_close(alone[0], beside[0], atol=1e-5, rtol=0)
