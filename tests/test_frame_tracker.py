"""An object is tracked frame by frame from the bytes of its state alone, to the masks of a session."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.config import CONFIGS, EdgeTAMConfig
from edgetam_model.errors import InputError, PromptError, StateError
from edgetam_model.frame_tracker import Followed, FrameTracker
from edgetam_model.masks import mask_iou
from edgetam_model.memory import Memory
from edgetam_model.model import EdgeTAM
from edgetam_model.nn.evidence import LABELS, Trace
from edgetam_model.object_state import ObjectState, read_state
from edgetam_model.options import TrackerOptions
from edgetam_model.packing import seal, unseal
from edgetam_model.prompts import Prompt
from edgetam_model.video_tracker import VideoTracker
from tests.models import clip, tiny_model, windowed_model

FRAMES = 24  # beyond the reach of the pointers
SQUARE = np.zeros((90, 160), bool)
SQUARE[48:73, 98:123] = True
PROMPTS = [
    Prompt(box=[25, 25, 56, 56]),
    Prompt(mask=SQUARE),
    Prompt(points=[[40, 40], [100, 20]], labels=[1, 0]),
]
MODELS = {"whole frames": tiny_model, "windows": windowed_model}

each_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


def carry(tracker: FrameTracker, followed: Sequence[Followed | None]) -> list[ObjectState]:
    """States as they arrive with the next request."""
    assert all(one is not None for one in followed)
    return [tracker.restore(one.state.to_bytes()) for one in followed if one is not None]


def run(
    tracker: FrameTracker, frames: Sequence[np.ndarray], prompts: Sequence[Prompt]
) -> list[list[Followed]]:
    steps = [tracker.start(frames[0], prompts)]
    for frame in frames[1:]:
        after = tracker.step(frame, carry(tracker, steps[-1]))
        steps.append([one for one in after if one is not None])
    return steps


def facts(one: Followed) -> tuple[object, ...]:
    found = one.result
    return found.mask.tobytes(), found.state, found.window, found.iou, found.object_score


@each_model
@pytest.mark.parametrize("options", [TrackerOptions(), TrackerOptions(lost_iou=2.0, non_overlapping=True)])
def test_the_masks_are_those_of_a_session(make: Callable[[], EdgeTAM], options: TrackerOptions) -> None:
    frames = clip(FRAMES)
    steps = run(FrameTracker(make(), options, "float32"), frames, PROMPTS)
    with VideoTracker(make(), options).open(frames) as session:
        for i, prompt in enumerate(PROMPTS):
            session.add_prompt(0, i, prompt)
        for result, step in zip(session.propagate(), steps, strict=True):
            for i, one in enumerate(step):
                expected = result.objects[i]
                assert facts(one)[:3] == (expected.mask.tobytes(), expected.state, expected.window)
                assert one.result.prompted == expected.prompted
                assert one.state.frames == result.frame + 1
    seen = {one.result.state for step in steps for one in step}
    assert seen == ({"visible"} if options.lost_iou < 2 else {"visible", "lost"})


@each_model
def test_rounding_costs_a_few_pixels(make: Callable[[], EdgeTAM]) -> None:
    frames = clip(FRAMES)
    exact, small = (run(FrameTracker(make(), None, p), frames, PROMPTS) for p in ("float32", "float16"))
    ious = [
        mask_iou(a.result.mask, b.result.mask)
        for one, other in zip(exact, small, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    assert np.mean(ious) > 0.995


@each_model
def test_a_state_comes_back_to_the_last_bit_and_stops_growing(make: Callable[[], EdgeTAM]) -> None:
    tracker = FrameTracker(make())
    sizes = []
    for step in run(tracker, clip(FRAMES), PROMPTS[:1]):
        state = step[0].state
        blob = state.to_bytes()
        back = tracker.restore(blob)
        assert back.to_bytes() == blob
        assert (back.frames, back.size, back.doubtful, back.box) == (
            *(state.frames, state.size),
            *(state.doubtful, state.box),
        )
        assert [m.frame for m in back.memories] == [m.frame for m in state.memories]
        sizes.append(len(blob))
    assert sizes[-1] - sizes[-4] < 10, "but for the digits of a frame's number"


@each_model
def test_objects_of_different_histories_go_as_one_batch(make: Callable[[], EdgeTAM]) -> None:
    frames = clip(10)
    tracker = FrameTracker(make())
    old = run(tracker, frames[:9], PROMPTS[:1])[-1][0].state
    middle = run(tracker, frames[6:9], PROMPTS[1:2])[-1][0].state
    new = tracker.start(frames[8], PROMPTS[2:])[0].state
    states = [new, old, middle]
    together = tracker.step(frames[9], states)
    for state, one in zip(states, together, strict=True):
        (alone,) = tracker.step(frames[9], [state])
        assert one is not None
        assert alone is not None
        assert np.abs(one.result.logits - alone.result.logits).max() <= 1e-4
        assert one.state.frames == state.frames + 1


@each_model
def test_the_same_step_again_gives_the_same_answer(make: Callable[[], EdgeTAM]) -> None:
    frames = clip(6)
    tracker = FrameTracker(make())
    states = carry(tracker, run(tracker, frames[:4], PROMPTS)[-1])
    before = [state.to_bytes() for state in states]
    first = tracker.step(frames[4], states)
    tracker.step(frames[5], carry(tracker, first))
    again = FrameTracker(make()).step(frames[4], states)
    assert [state.to_bytes() for state in states] == before
    for one, other in zip(first, again, strict=True):
        assert one is not None
        assert other is not None
        assert one.state.to_bytes() == other.state.to_bytes()
        assert facts(one) == facts(other)


def test_another_process_goes_on(tmp_path: Path) -> None:
    frames = clip(5)
    tracker = FrameTracker(windowed_model())
    states = carry(tracker, run(tracker, frames[:4], PROMPTS)[-1])
    for i, state in enumerate(states):
        (tmp_path / str(i)).write_bytes(state.to_bytes())
    expected = hashlib.sha256()
    for one in tracker.step(frames[4], states):
        assert one is not None
        expected.update(one.state.to_bytes())
    script = """
import hashlib, sys
from pathlib import Path
from tests.test_frame_tracker import *
tracker = FrameTracker(windowed_model())
states = [tracker.restore(path.read_bytes()) for path in sorted(Path(sys.argv[1]).iterdir())]
digest = hashlib.sha256()
for one in tracker.step(clip(5)[4], states):
    digest.update(one.state.to_bytes())
print(digest.hexdigest())
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    root = Path(__file__).parent.parent
    out = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == expected.hexdigest()


def full_state(config: EdgeTAMConfig, model: str) -> ObjectState:
    """A state as large as they get, of noise."""

    def memory(frame: int) -> Memory:
        side, keys = config.low_res, config.evidence_width
        window = torch.tensor([0.0, 0.0, 1920.0, 1080.0])
        trace = Trace(torch.randn(keys, side, side).half(), torch.randn(LABELS, side, side).half(), window)
        latents = torch.randn(config.latents, config.memory_width).half()
        return Memory(frame, torch.randn(config.width).half(), latents, trace if keys else None)

    state = ObjectState(model, (1080, 1920), 1, (memory(0),), 0, (0, 0, 1920, 1080))
    for frame in range(1, 40):
        state = state.after(memory(frame), 0, config)
    return state


@pytest.mark.parametrize("name", ["edgetam", "nano", "nano at 192"])
def test_a_state_is_at_most_a_megabyte_of_base64(name: str) -> None:
    config = CONFIGS[name.split(maxsplit=1)[0]]
    if name == "nano at 192":  # what ships
        config = replace(config, image_size=192)
    model = EdgeTAM(config)
    blob = full_state(config, "f").to_bytes()
    assert 100_000 < len(base64.b64encode(blob)) <= 1_000_000
    assert read_state(blob, "f", model).to_bytes() == blob


def forged(state: ObjectState, **changes: object) -> bytes:
    """A state whose header or tensors say something else, under a checksum that is right."""
    header, tensors = unseal("state", state.to_bytes())
    for name, value in changes.items():
        if name in tensors:
            assert isinstance(value, torch.Tensor)
            tensors[name] = value
        else:
            header[name] = value
    return seal("state", header, tensors)


def tracked_state(frames: int = 3) -> ObjectState:
    return run(FrameTracker(windowed_model()), clip(frames), PROMPTS[:1])[-1][0].state


def test_what_is_no_state_of_this_tracker_is_refused() -> None:
    state = tracked_state()
    tracker = FrameTracker(windowed_model())
    tracker.restore(forged(state))
    with pytest.raises(StateError, match=r"^state: expected one of version 1, got 2: start tracking anew"):
        tracker.restore(forged(state, version=2))
    with pytest.raises(StateError, match="other weights"):
        FrameTracker(windowed_model(seed=1)).restore(state.to_bytes())
    with pytest.raises(StateError, match=r"^states\[1\]: made with other weights"):
        tracker.step(clip(4)[3], [state, replace(state, model="another")])
    with pytest.raises(StateError, match=r"^states\[0\]: made on an image of 160×90 pixels, .* 120×80"):
        tracker.step(clip(4, 80, 120)[3], [state])
    blob = state.to_bytes()
    for damaged in (b"", b"short", blob[:-1], blob[:-40], blob[:100] + b"x" + blob[101:], blob + b"x"):
        with pytest.raises(StateError, match="damaged"):
            tracker.restore(damaged)


def test_a_forged_state_is_refused_before_it_is_used() -> None:
    state = tracked_state()
    tracker = FrameTracker(windowed_model())
    _, tensors = unseal("state", state.to_bytes())
    values: dict[str, tuple[object, ...]] = {
        "frames": (0, -1, 2, 4, 2**40, "3", None, 1.5),
        "size": ([90], [], "90", [20, 20], [-90, -160], None),
        "box": ([0, 0, 0, 0], [0, 0, 161, 90], [5, 5, 1, 1], "box", [1, 2, 3]),
        "doubtful": (-1, "many", None),
    }
    wrong: list[dict[str, object]] = [
        *({name: value} for name, several in values.items() for value in several),
        {"model": 5},
        {"surprise": 1},
        {"windows": tensors["windows"] * 100},
        {"windows": -tensors["windows"]},
        {"labels": tensors["labels"] * float("nan")},
        {"latents": tensors["latents"] * float("inf")},
        {"keys": tensors["keys"].to(torch.float64)},
        {"keys": tensors["keys"].to(torch.int16)},
        {"pointers": tensors["pointers"][:-1]},
        {"latents": tensors["latents"][:, :-1].contiguous()},
        {"labels": tensors["labels"].transpose(0, 1).contiguous()},
    ]
    for changes in wrong:
        with pytest.raises(StateError, match=r"^state: "):
            tracker.restore(forged(state, **changes))
    with pytest.raises(StateError, match="not the bytes of a state"):
        tracker.restore(seal("session", {"version": 1}, tensors))
    header, _ = unseal("state", state.to_bytes())
    fewer = seal("state", header, {name: tensor for name, tensor in tensors.items() if name != "keys"})
    with pytest.raises(StateError, match="wrong sizes"):
        tracker.restore(fewer)


@given(st.binary(max_size=300), st.integers(0, 2**20), st.booleans())
def test_bytes_are_a_state_or_a_state_error(noise: bytes, at: int, sealed: bool) -> None:
    tracker = FrameTracker(tiny_model())
    blob = bytearray(full_tiny_state())
    at %= len(blob)
    blob[at : at + len(noise)] = noise
    body = bytes(blob)
    if sealed:
        body = body[:-32] + hashlib.sha256(body[:-32]).digest()
    with suppress(StateError):
        tracker.restore(body)


@cache
def full_tiny_state() -> bytes:
    return run(FrameTracker(tiny_model()), clip(3), PROMPTS[:1])[-1][0].state.to_bytes()


@each_model
def test_an_object_without_finite_numbers_does_not_touch_the_others(make: Callable[[], EdgeTAM]) -> None:
    frames = clip(5)
    tracker = FrameTracker(make())
    good, other, _ = carry(tracker, run(tracker, frames[:4], PROMPTS)[-1])
    shown, *recent = other.memories
    huge = replace(shown, latents=torch.full_like(shown.latents, 3e38, dtype=torch.float32))  # type: ignore[arg-type]
    broken = replace(other, memories=(huge, *recent))
    first, second = tracker.step(frames[4], [broken, good])
    (alone,) = tracker.step(frames[4], [good])
    assert first is None
    assert second is not None
    assert alone is not None
    assert np.abs(second.result.logits - alone.result.logits).max() <= 1e-4


def test_the_box_is_where_the_object_was_last_seen() -> None:
    frames = clip(8)
    tracker = FrameTracker(windowed_model())
    steps = run(tracker, frames, PROMPTS[1:2])
    assert all(step[0].state.box == step[0].result.box for step in steps)
    options = TrackerOptions(lost_iou=2.0, lost_after=3)
    tracker = FrameTracker(windowed_model(), options)
    steps = run(tracker, frames, PROMPTS[1:2])
    assert [step[0].result.state for step in steps[2:5]] == ["visible", "lost", "lost"]
    assert steps[-1][0].state.box == steps[2][0].result.box
    assert steps[-1][0].result.box is None


def test_bad_frames_and_prompts_are_refused() -> None:
    tracker = FrameTracker(tiny_model())
    frame = clip(1)[0]
    with pytest.raises(InputError, match="image"):
        tracker.start(frame[..., 0], PROMPTS[:1])
    with pytest.raises(InputError, match="image"):
        tracker.step(frame.astype(np.float32), [])
    with pytest.raises(PromptError, match="box"):
        tracker.start(frame, [*PROMPTS, Prompt(box=[200, 200, 210, 210])])
    with pytest.raises(PromptError, match="positive"):
        tracker.start(frame, [Prompt(points=[[5, 5]], labels=[0])])
    assert tracker.start(frame, []) == []
    assert tracker.step(frame, []) == []
