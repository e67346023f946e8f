"""The torch-free host gives `VideoTracker`'s tracks, whatever is prompted and corrected."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from edgetam_model.errors import InputError, PromptError, SessionError
from edgetam_model.export.host import HostSession, HostTracker
from edgetam_model.masks import mask_iou
from edgetam_model.model import EdgeTAM
from edgetam_model.options import TrackerOptions
from edgetam_model.prompts import Prompt
from edgetam_model.results import FrameResult
from edgetam_model.session import VideoSession
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.weights import load_model
from tests.export.exports import torch_runtime
from tests.models import clip, tiny_model, windowed_model
from tests.returning import BOX, returning_disc

FRAMES = 12
MODELS = {"tiny": tiny_model, "windowed": windowed_model}
CLOSE = 1e-3  # logits of a few units, after many frames of rounding

Session = VideoSession | HostSession
Script = Callable[[Session], Iterable[FrameResult]]


def disc(frame: int) -> np.ndarray:
    y, x = np.mgrid[:90, :160]
    return (x - 40 - frame) ** 2 + (y - 40) ** 2 < 15**2


def both(model: EdgeTAM, objects: int = 1, **options: Any) -> tuple[VideoSession, HostSession]:
    runtime, chosen = torch_runtime(model, objects), TrackerOptions(**options)
    video = VideoTracker(model, chosen).open(clip(FRAMES))
    return video, HostTracker(runtime, runtime.manifest, chosen).open(clip(FRAMES))


def assert_same(expected: Iterable[FrameResult], found: Iterable[FrameResult]) -> None:
    seen = 0
    for one, other in zip(expected, found, strict=True):
        assert (one.frame, one.time, set(one.objects)) == (other.frame, other.time, set(other.objects))
        for object_id, wanted in one.objects.items():
            got = other.objects[object_id]
            where = (one.frame, object_id)
            assert (got.window, got.state, got.prompted) == (wanted.window, wanted.state, wanted.prompted), (
                where
            )
            assert np.abs(got.logits - wanted.logits).max() <= CLOSE, where
            assert abs(got.iou - wanted.iou) <= CLOSE, where
            assert abs(got.object_score - wanted.object_score) <= CLOSE, where
            assert mask_iou(got.mask, wanted.mask) >= 0.99, where
            seen += bool(wanted.mask.any())
    assert seen > FRAMES / 2, "else this shows nothing"


def corrected(session: Session) -> Iterable[FrameResult]:
    """Two objects, one that comes later, a correction in the middle, and more on prompted frames."""
    session.add_prompt(0, 1, Prompt(mask=disc(0)))
    session.add_prompt(0, 7, Prompt(box=[97, 47, 123, 73]))
    list(session.propagate())
    session.add_prompt(6, 1, Prompt(points=[[46, 40], [60, 42]], labels=[1, 0]))
    session.add_prompt(6, 1, Prompt(points=[[44, 44]], labels=[1]), extend=True)
    session.add_prompt(3, 9, Prompt(points=[[107, 60]], labels=[1]))
    return session.propagate()


def backward(session: Session) -> Iterable[FrameResult]:
    session.add_prompt(FRAMES - 1, 1, Prompt(mask=disc(FRAMES - 1)))
    session.add_prompt(5, 1, Prompt(box=[30, 25, 61, 56], points=[[45, 40]], labels=[1]))
    return session.propagate(reverse=True)


def many_conditioning(session: Session) -> Iterable[FrameResult]:
    """More prompted frames than a frame reads, one of them taken back."""
    for frame in (0, 2, 4, 7, 9, 11):
        session.add_prompt(frame, 1, Prompt(mask=disc(frame)))
    list(session.propagate())
    session.remove_prompt(4, 1)
    session.add_prompt(5, 1, Prompt(points=[[45, 40]], labels=[1]))
    return session.propagate()


def refined(session: Session) -> Iterable[FrameResult]:
    first = session.add_prompt(0, 1, Prompt(points=[[40, 40]], labels=[1]))
    session.add_prompt(0, 1, Prompt(points=[[44, 36]], labels=[1]).refining(first))
    session.add_prompt(0, 2, Prompt(mask=np.zeros((90, 160), bool)))
    return session.propagate()


SCRIPTS: dict[str, Script] = {one.__name__: one for one in (corrected, backward, many_conditioning, refined)}


@pytest.mark.parametrize("objects", [1, 2])
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("name", MODELS)
def test_the_host_gives_the_trackers_tracks(name: str, script: str, objects: int) -> None:
    video, host = both(MODELS[name](), objects)
    assert_same(SCRIPTS[script](video), SCRIPTS[script](host))


@pytest.mark.parametrize("name", MODELS)
def test_options_are_the_trackers(name: str) -> None:
    video, host = both(
        MODELS[name](),
        dynamic_multimask=False,
        binarize_prompted_memory=False,
        fill_hole_area=0,
        island_area=4,
        non_overlapping=True,
        lost_iou=0.55,
        lost_after=2,
        verify=False,
        max_conditioning_frames=2,
    )
    assert_same(corrected(video), corrected(host))


def test_what_comes_back_is_found_where_the_tracker_finds_it() -> None:
    """With the weights that ship, whose further looks are believed."""
    model, frames = load_model("default"), returning_disc()
    runtime = torch_runtime(model)
    sessions = (
        VideoTracker(model).open(frames),
        HostTracker(runtime, runtime.manifest, TrackerOptions()).open(frames),
    )
    tracks = []
    for session in sessions:
        session.add_prompt(0, 1, Prompt(box=BOX))
        tracks.append(list(session.propagate()))
    assert_same(*tracks)
    assert tracks[0][6].objects[1].state != "visible"
    assert tracks[0][-1].objects[1].state == "visible"


def test_what_is_finished_stays_and_the_small_attention_serves_while_it_suffices() -> None:
    runtime = torch_runtime(tiny_model())
    session = HostTracker(runtime, runtime.manifest).open(clip(FRAMES))
    session.add_prompt(0, 1, Prompt(mask=disc(0)))
    runtime.calls.clear()
    steps: list[tuple[int, int]] = []
    list(session.propagate(stop=8, progress=lambda *step: steps.append(step)))
    assert steps[-1] == (8, 8)
    assert {call for call in runtime.calls if "attention" in call} == {"memory_attention_1"}
    runtime.calls.clear()
    list(session.propagate(stop=8))
    assert runtime.calls == []
    for frame in (3, 5):
        session.add_prompt(frame, 1, Prompt(mask=disc(frame)))
    list(session.propagate())
    assert "memory_attention_4" in runtime.calls
    assert session.result(8).objects[1].state == "visible"
    session.remove_object(1)
    assert session.result(8).objects == {}


def test_what_cannot_be_done_is_refused_by_name() -> None:
    runtime = torch_runtime(tiny_model())
    tracker = HostTracker(runtime, runtime.manifest)
    with tracker.open(clip(FRAMES)) as session:
        with pytest.raises(SessionError, match="nothing is prompted"):
            session.propagate()
        with pytest.raises(PromptError, match="at most 8 clicks"):
            session.add_prompt(0, 1, Prompt(points=[[40, 40]] * 9, labels=[1] * 9))
        with pytest.raises(PromptError, match="labels: expected a positive click"):
            session.add_prompt(0, 1, Prompt(points=[[40, 40]], labels=[0]))
        with pytest.raises(InputError, match="frame: expected a frame from 0 to 11"):
            session.add_prompt(12, 1, Prompt(points=[[40, 40]], labels=[1]))
        session.add_prompt(0, 1, Prompt(points=[[40, 40]], labels=[1]))
        with pytest.raises(SessionError, match="the only prompt"):
            session.remove_prompt(0, 1)
        with pytest.raises(InputError, match="stop: expected one on the way from 0"):
            session.propagate(start=0, stop=4, reverse=True)
    with pytest.raises(InputError, match="corrections_as_conditioning"):
        HostTracker(runtime, runtime.manifest, TrackerOptions(corrections_as_conditioning=False))
    with pytest.raises(InputError, match="max_conditioning_frames: expected at most 4"):
        HostTracker(runtime, runtime.manifest, TrackerOptions(max_conditioning_frames=5))
