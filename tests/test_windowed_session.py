"""A session whose model sees each object through a window of its own keeps a session's promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgetam_model.errors import InputError
from edgetam_model.options import TrackerOptions
from edgetam_model.prompts import Prompt
from edgetam_model.results import FrameResult
from edgetam_model.session import VideoSession
from edgetam_model.traces import traced_mask
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.windows import Window, next_window, window_around
from tests.models import clip, windowed_model

FRAMES = 12
SIZE = (90, 160)
SCALE = windowed_model().config.window_scale


def disc(frame: int) -> np.ndarray:
    """The disc of `clip`, which moves by a pixel a frame."""
    y, x = np.mgrid[:90, :160]
    return (x - 40 - frame) ** 2 + (y - 40) ** 2 < 15**2


def square(frame: int) -> np.ndarray:
    y, x = np.mgrid[:90, :160]
    return (abs(x - 110 + frame) < 12) & (abs(y - 60) < 12)


def open_session(frames: int = FRAMES, **options: object) -> VideoSession:
    return VideoTracker(windowed_model(), TrackerOptions(**options)).open(clip(frames))  # type: ignore[arg-type]


def prompted(**options: object) -> VideoSession:
    session = open_session(FRAMES, **options)
    session.add_prompt(0, 1, Prompt(mask=disc(0)))
    session.add_prompt(0, 2, Prompt(mask=square(0)))
    return session


def run(session: VideoSession, **arguments: object) -> dict[int, FrameResult]:
    return {result.frame: result for result in session.propagate(**arguments)}  # type: ignore[arg-type]


def facts(results: Mapping[int, FrameResult], object_id: int) -> list[tuple[object, ...]]:
    found = [(frame, results[frame].objects[object_id]) for frame in sorted(results)]
    return [(f, o.window, o.state, o.mask.tobytes()) for f, o in found]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_each_object_is_followed_in_a_window_of_its_own() -> None:
    results = run(prompted())
    for frame in range(FRAMES):
        for object_id, truth in ((1, disc(frame)), (2, square(frame))):
            found = results[frame].objects[object_id]
            assert found.window is not None
            assert found.logits.shape == (64, 64)
            assert max(found.window.size) < 90, "a part of the frame"
            ys, xs = np.nonzero(found.mask)
            assert found.window.contains(np.stack((xs, ys), axis=1))
            assert iou(found.mask, truth) > 0.4, (frame, object_id)
    first, last = (results[f].objects[1].window for f in (0, FRAMES - 1))
    assert first == window_around(np.array((26, 26, 55, 55)), SIZE, SCALE)
    assert last is not None
    assert first is not None
    assert last.x0 > first.x0, "the disc moves to the right"


def test_the_next_window_comes_from_the_memory_alone() -> None:
    session = prompted()
    results = run(session, stop=5)
    memory = session.objects[1].bank.recent[False][5]
    shown = results[5].objects[1]
    assert memory.trace is not None
    assert memory.trace.window.tolist() == list(shown.window.corners)  # type: ignore[union-attr]
    assert (traced_mask(memory.trace) != (shown.logits > 0)).mean() < 0.01, "but for the holes filled"
    expected = next_window(shown.window, traced_mask(memory.trace), SIZE, SCALE)  # type: ignore[arg-type]
    assert run(session, stop=6)[6].objects[1].window == expected


@pytest.mark.parametrize("object_batch", [1, 16])
def test_objects_do_not_touch_each_other(object_batch: int) -> None:
    together = run(prompted(object_batch=object_batch))
    for object_id, truth in ((1, disc(0)), (2, square(0))):
        alone = open_session()
        alone.add_prompt(0, object_id, Prompt(mask=truth))
        for frame, result in run(alone).items():
            one, other = result.objects[object_id], together[frame].objects[object_id]
            assert one.window == other.window
            assert np.abs(one.logits - other.logits).max() <= 1e-4


def test_tracking_backward_follows_too() -> None:
    session = open_session()
    session.add_prompt(FRAMES - 1, 1, Prompt(mask=disc(FRAMES - 1)))
    results = run(session, reverse=True)
    assert list(results) == list(range(FRAMES - 1, -1, -1))
    assert all(iou(results[f].objects[1].mask, disc(f)) > 0.4 for f in range(FRAMES))


def test_a_resumed_session_ends_in_the_same_masks() -> None:
    expected = run(prompted())
    session = prompted()
    run(session, stop=4)
    resumed = VideoTracker(windowed_model()).resume(session.checkpoint(), clip(FRAMES))
    after = run(resumed)
    assert [facts(after, i) for i in (1, 2)] == [facts(expected, i) for i in (1, 2)]
    assert resumed.objects[1].prompts[0].window is None


def test_corrections_are_made_where_the_object_was_seen_and_go_on_after_a_resume() -> None:
    session = prompted(exact_bytes=0)  # a checkpoint has compact logits, and clicks refine those
    before = run(session)
    blob = session.checkpoint()
    click = Prompt(points=[[46, 40]], labels=[1])
    window = before[6].objects[1].window
    resumed = VideoTracker(windowed_model()).resume(blob, clip(FRAMES))
    corrected = [made.add_prompt(6, 1, click) for made in (session, resumed)]
    assert [c.window for c in corrected] == [window, window]
    after, again = run(session), run(resumed)
    assert facts(after, 1) == facts(again, 1)
    assert facts(after, 1) != facts(before, 1)
    assert facts(after, 2) == facts(before, 2)
    far = session.add_prompt(8, 1, Prompt(points=[[150, 80]], labels=[0]))
    assert far.window is not None
    assert far.window.contains(np.array([[150, 80]]))


def test_clicks_can_be_added_and_refined_logits_travel_in_checkpoints() -> None:
    session = open_session()
    first = session.add_prompt(0, 1, Prompt(points=[[40, 40]], labels=[1]))
    second = session.add_prompt(0, 1, Prompt(points=[[35, 45]], labels=[1]), extend=True)
    assert second.window is not None
    assert first.window is not None
    assert second.window.contains(np.array(first.window.corners).reshape(2, 2))
    refining = Prompt(points=[[40, 42]], labels=[1]).refining(first)
    session.add_prompt(0, 1, refining)
    resumed = VideoTracker(windowed_model()).resume(session.checkpoint(), clip(FRAMES))
    assert resumed.objects[1].prompts[0].window == first.window
    assert facts(run(resumed), 1) == facts(run(session), 1)
    with pytest.raises(InputError, match="window: expected one inside"):
        session.add_prompt(
            0, 1, Prompt(points=[[9, 9]], labels=[1], logits=first.logits, window=[0, 0, 9, 99])
        )


def test_masks_do_not_overlap_when_asked() -> None:
    both = np.zeros(SIZE, bool)
    both[30:60, 35:75] = True
    sessions = open_session(), open_session(non_overlapping=True)
    for session in sessions:
        session.add_prompt(0, 1, Prompt(mask=disc(0)))
        session.add_prompt(0, 2, Prompt(mask=both))
    plain, parted = (run(session) for session in sessions)
    assert any((r.objects[1].mask & r.objects[2].mask).any() for r in plain.values()), (
        "else this shows nothing"
    )
    for frame, result in parted.items():
        one, other = result.objects[1].mask, result.objects[2].mask
        assert not (one & other).any()
        assert np.array_equal(one | other, plain[frame].objects[1].mask | plain[frame].objects[2].mask)


def test_an_object_that_is_gone_is_looked_for_further_and_further_away() -> None:
    session = prompted()
    session.remember_prompts()
    bank = session.objects[1].bank
    memory = bank.conditioning[0]
    assert memory.trace is not None
    gone = replace(memory.trace, labels=torch.full_like(memory.trace.labels, -1))
    bank.conditioning[0] = replace(memory, trace=gone)
    results = run(session)
    sides = [max(results[f].objects[1].window.size) for f in range(3)]  # type: ignore[union-attr]
    assert not results[1].objects[1].mask.any(), "nothing was remembered that could be carried on"
    assert sides[0] * 1.2 <= sides[1] <= sides[0] * 1.2 + 2
    assert sides[1] * 1.2 <= sides[2] <= sides[1] * 1.2 + 2
    nothing = session.add_prompt(3, 3, Prompt(mask=np.zeros(SIZE)))
    assert (nothing.state, nothing.window) == ("absent", Window.whole(SIZE))
