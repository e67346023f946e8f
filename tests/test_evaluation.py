"""Evaluation: a tracker that knows the truth gets what it deserves, and a real one gets through."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgetam_model.annotated_clips import LabelledClip, read_clips
from edgetam_model.errors import InputError, MediaError
from edgetam_model.evaluation import PROMPTS, PromptKind, evaluate_clip, evaluate_floor
from edgetam_model.floors import copy_first
from edgetam_model.options import TrackerOptions
from edgetam_model.scores import Evaluation, worst_frames
from edgetam_model.scoring import region_similarity
from edgetam_model.video_tracker import VideoTracker
from tests.annotated import Oracle, two_objects, write_davis, write_plain
from tests.models import tiny_model


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledClip]:
    """`late`: 9 frames, object 2 from frame 3 on. `steady`: 9 frames with both objects."""
    root = tmp_path_factory.mktemp("davis")
    write_davis(root, "late", two_objects(9, late=3))
    write_davis(root, "steady", two_objects(9))
    return read_clips(root)


def test_a_perfect_tracker(clips: list[LabelledClip]) -> None:
    oracle = Oracle(clips[0])
    steps: list[tuple[str, int, int]] = []
    score = evaluate_clip(oracle.as_tracker(), clips[0], "mask", lambda *step: steps.append(step))
    assert [found.frames for found in score.objects] == [tuple(range(1, 8)), tuple(range(4, 8))]
    assert (score.summary.jf, score.summary.region.recall, score.summary.region.decay) == (1, 1, 0)
    assert (score.summary.first_iou, score.summary.early) == (1, 1)
    assert set(oracle.sessions[0].prompts) == {(0, 1), (3, 2)}  # one session, each object's own first frame
    assert (score.frames, steps[-1]) == (9, ("late", 8, 9))


def test_means_go_over_frames_then_objects_then_clips(clips: list[LabelledClip]) -> None:
    """Right for 5 frames after the prompt: 5/7 of object 1's frames, 4/4 of the late object 2's."""
    scores = tuple(evaluate_clip(Oracle(clip, reach=5).as_tracker(), clip, "box") for clip in clips)
    late, steady = scores
    assert [found.summary.region.mean for found in late.objects] == pytest.approx([5 / 7, 1])
    assert [found.summary.region.mean for found in steady.objects] == pytest.approx([5 / 7, 5 / 7])
    evaluation = Evaluation("oracle", "box", (late, steady))
    assert evaluation.summary.region.mean == pytest.approx(((5 / 7 + 1) / 2 + 5 / 7) / 2)
    single = Evaluation("oracle", "box", (late, late, steady))
    assert single.over_objects.region.mean == pytest.approx((2 * 5 / 7 + 2 + 2 * 5 / 7) / 6)
    assert late.objects[0].summary.region.decay == pytest.approx(1 - 0 / 2)
    assert late.objects[0].summary.region.recall == pytest.approx(5 / 7)


@pytest.mark.parametrize(("kind", "clicks"), [("click", 1), ("3clicks", 3)])
def test_clicks_are_simulated(clips: list[LabelledClip], kind: PromptKind, clicks: int) -> None:
    oracle = Oracle(clips[1], clicks_needed=3)
    score = evaluate_clip(oracle.as_tracker(), clips[1], kind)
    prompt = oracle.sessions[0].prompts[0, 1]
    assert prompt.labels.tolist() == [1] * clicks
    assert prompt.points[0].tolist() == [40, 40]  # the disc's middle
    assert (score.summary.region.mean == 1) == (clicks == 3)


def test_no_more_clicks_than_errors(clips: list[LabelledClip]) -> None:
    oracle = Oracle(clips[1])
    evaluate_clip(oracle.as_tracker(), clips[1], "3clicks")
    assert len(oracle.sessions[0].prompts[0, 1].points) == 1


def test_frames_without_a_mask_are_tracked_and_not_scored(tmp_path: Path) -> None:
    truth = two_objects(12)
    write_plain(tmp_path, "toy", {n: truth[n] for n in (2, 5, 8, 11)}, frames=12)
    (clip,) = read_clips(tmp_path)
    tracker = VideoTracker(tiny_model())
    score = evaluate_clip(tracker, clip, "mask")
    assert (score.objects[0].frames, score.frames) == ((5, 8), 10)


@pytest.mark.parametrize("kind", PROMPTS)
def test_a_real_model_gets_through(clips: list[LabelledClip], kind: PromptKind) -> None:
    tracker = VideoTracker(tiny_model(), TrackerOptions(non_overlapping=True))
    score = evaluate_clip(tracker, clips[0], kind)
    assert [found.object_id for found in score.objects] == [1, 2]
    assert score.fps > 0
    document = json.loads(json.dumps(score.to_dict()))
    assert (document["name"], len(document["objects"][0]["per_frame"]["j"])) == ("late", 7)
    if kind == "mask":  # it comes back through a grid of 32 × 32 cells
        assert all(found.first_iou > 0.7 for found in score.objects)


def test_void_pixels_do_not_count(tmp_path: Path) -> None:
    truth = two_objects(5)
    for labels in truth[1:]:
        labels[labels == 1] = 255
    write_davis(tmp_path, "toys", truth)
    (clip,) = read_clips(tmp_path)
    score = evaluate_floor(clip, "copy", copy_first)
    mask, void = clip.truth(2, 1)
    first, _ = clip.truth(0, 1)
    assert score.objects[0].j[1] == region_similarity(first, mask, void)
    assert void is not None
    assert (first & ~void).any()


def test_an_unknown_prompt_is_refused(clips: list[LabelledClip]) -> None:
    with pytest.raises(InputError, match="prompt: expected mask, box"):
        evaluate_clip(Oracle(clips[0]).as_tracker(), clips[0], "lasso")  # type: ignore[arg-type]


def test_a_clip_that_ends_early_is_an_error(clips: list[LabelledClip]) -> None:
    with pytest.raises(MediaError, match="late: frame 4 of 9 cannot be decoded"):
        evaluate_clip(Oracle(clips[0], ends_after=3).as_tracker(), clips[0], "mask")


def test_what_progress_raises_stops_and_closes(clips: list[LabelledClip]) -> None:
    oracle = Oracle(clips[0])

    def stop(title: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_clip(oracle.as_tracker(), clips[0], "mask", stop)
    with pytest.raises(MediaError, match="closed"):
        oracle.sessions[0].source.read(0)


def test_the_worst_frames_lie_apart(clips: list[LabelledClip]) -> None:
    scores = tuple(evaluate_clip(Oracle(clip, reach=2).as_tracker(), clip, "mask") for clip in clips)
    worst = worst_frames(Evaluation("oracle", "mask", scores), 5, apart=3)
    assert [(w.clip, w.object_id, w.frame, w.j) for w in worst] == [
        ("late", 1, 3, 0),
        ("late", 1, 6, 0),
        ("late", 2, 6, 0),
        ("steady", 1, 3, 0),
        ("steady", 1, 6, 0),
    ]
    assert not worst[0].mask.any()


def test_a_floor_runs_from_each_objects_first_frame(clips: list[LabelledClip]) -> None:
    steps: list[tuple[str, int, int]] = []
    score = evaluate_floor(clips[0], "copy", copy_first, lambda *step: steps.append(step))
    expected = [
        [region_similarity(clips[0].truth(first, i)[0], clips[0].truth(t, i)[0]) for t in frames]
        for i, first, frames in ((1, 0, range(1, 8)), (2, 3, range(4, 8)))
    ]
    assert [list(found.j) for found in score.objects] == expected
    assert np.diff(expected[0]).max() < 0  # the disc moves away from its copy
    assert (steps[-1], score.frames) == (("late, copy", 15, 15), 9)
