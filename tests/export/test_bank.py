"""The host's memories are the tracker's, whatever is remembered, prompted and forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model import memory
from edgetam_model.config import CONFIGS
from edgetam_model.export import bank
from edgetam_model.nn import evidence
from edgetam_model.traces import traced_mask
from edgetam_model.windows import Window
from tests.parts_cases import place

CONFIG = CONFIGS["nano"]
FRAMES = st.integers(0, 24)


@dataclass
class Pair:
    """One object's memories twice; every memory's numbers are its frame."""

    torch: memory.MemoryBank
    numpy: bank.MemoryBank

    def remember(self, frame: int, reverse: bool) -> None:
        self.torch.remember(torch_memory(frame), reverse=reverse)
        self.numpy.remember(numpy_memory(frame), reverse=reverse)

    def prompt(self, frame: int) -> None:
        self.torch.conditioning[frame] = torch_memory(frame)
        self.numpy.conditioning[frame] = numpy_memory(frame)

    def forget(self, start: int, stop: int) -> None:
        for one in (self.torch, self.numpy):
            one.forget(range(start, stop), one.conditioning)


def torch_memory(frame: int) -> memory.Memory:
    number = torch.full((1,), float(frame))
    return memory.Memory(frame, number, number, evidence.Trace(number, number, number))


def numpy_memory(frame: int) -> bank.Memory:
    number = np.full(1, frame, np.float32)
    trace = bank.Trace(number, number, Window(0, 0, frame + 1, 1))
    return bank.Memory(frame, number, frame % 2 == 0, number, trace)


def numbers(arrays: list[Any]) -> list[float]:
    return [float(one[0]) for one in arrays]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("remember"), FRAMES, st.booleans()),
        st.tuples(st.just("prompt"), FRAMES),
        st.tuples(st.just("forget"), FRAMES, FRAMES),
        st.tuples(st.just("run"), FRAMES, st.booleans()),
    ),
    max_size=30,
)


@given(STEPS, FRAMES, st.booleans(), st.integers(2, 4))
def test_every_history_is_recalled_alike(
    steps: list[tuple[Any, ...]], frame: int, reverse: bool, limit: int
) -> None:
    pair = Pair(memory.MemoryBank(CONFIG, CONFIG.recent_memories), bank.MemoryBank(CONFIG))
    for name, *arguments in steps:
        if name == "run":
            start, backward = arguments
            for frame_now in range(start, max(start - 12, -1), -1) if backward else range(start, start + 12):
                pair.remember(frame_now, backward)
        else:
            getattr(pair, name)(*arguments)
    wanted = pair.torch.recall(frame, reverse=reverse, max_conditioning=limit)
    found = pair.numpy.recall(frame, reverse=reverse, max_conditioning=limit)
    assert numbers(found.latents) == numbers(wanted.latents)
    assert found.ages == wanted.ages
    assert numbers(found.pointers) == numbers(wanted.pointers)
    assert found.present == [number % 2 == 0 for number in numbers(found.pointers)]
    for one, other in ((found.recent, wanted.recent), (found.shown, wanted.shown)):
        assert (one is None) == (other is None)
        assert one is None or other is None or float(one.keys[0]) == float(other.keys[0])


def test_a_traces_mask_and_place() -> None:
    labels = np.random.default_rng(0).standard_normal((16, 8, 8)).astype(np.float32)
    trace = bank.Trace(labels, labels, Window(10, 20, 50, 100))
    same = evidence.Trace(torch.zeros(1), torch.from_numpy(labels), torch.zeros(4))
    assert np.array_equal(trace.mask, traced_mask(same))
    window = Window(4, 8, 36, 72)
    corners = (torch.tensor([one.corners], dtype=torch.float32) for one in (trace.window, window))
    assert np.array_equal(trace.place(window), place(*corners)[0].numpy())
