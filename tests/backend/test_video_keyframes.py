"""What the editor shows of a written track is what was found, on every frame."""

import math
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.frame_map import FrameMap
from backend.video_keyframes import (
    KeyframeOptions,
    TrackedBox,
    build_track,
    doubtful_score,
    prediction_json,
    region_json,
    thinned,
)
from edgetam_model import InputError
from edgetam_model.timetable import TimeTable
from tests.backend.video_json import (
    COUNT,
    FRAMES,
    SIZE,
    keyframe,
    moving,
    plan,
    region,
    sequence,
    shown,
    tracked,
)

LOST = TrackedBox(None, 0.1, "lost")
ABSENT = TrackedBox(None, 0.9, "absent")
ROUNDING = 0.001  # pixels: 4 decimals of percent of 400 pixels, twice


def edges(shape: tuple[float, float, float, float]) -> list[float]:
    """Percent x, y, width, height → pixels x0, y0, x1, y1."""
    x, y, w, h = shape
    return [x * 4, y * 2, (x + w) * 4, (y + h) * 2]


def frames_shown(item: dict[str, Any]) -> list[int]:
    return [n for n in range(1, COUNT + 1) if shown(item, n) is not None]


@dataclass(frozen=True)
class Walk:
    """A wandering box, lost here and there; tracked from `first` to `last` only."""

    seed: int
    wander: float
    gaps: tuple[tuple[int, int], ...]  # (first frame, how many)
    first: int
    last: int

    def results(self) -> dict[int, TrackedBox]:
        rng = np.random.default_rng(self.seed)
        steps = rng.normal(0, self.wander, (COUNT, 4)).cumsum(axis=0)
        centre = np.clip(np.array([150, 80]) + steps[:, :2], 45, 150)  # the box stays in the frame
        half = np.clip(20 + steps[:, 2:], 1, 40)
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        hidden = {n for first, length in self.gaps for n in range(first, first + length)}
        every = [LOST if i in hidden else TrackedBox(tuple(box), 0.8) for i, box in enumerate(boxes.tolist())]
        return {i: every[i] for i in range(self.first, self.last + 1)}


WALKS = st.builds(
    Walk,
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.3, 3.0]),
    st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(1, 60)), max_size=4).map(tuple),
    st.sampled_from([0, 0, 0, 20]),
    st.integers(150, COUNT - 1),
)
TEXTS = st.sampled_from([None, "both", "back", "track 60", "both 33", "to 120"])


@given(WALKS, st.sets(st.integers(1, COUNT), min_size=1, max_size=4), TEXTS, st.sampled_from([0, 0.5, 2, 8]))
@settings(max_examples=60, deadline=None)
def test_the_editor_shows_what_was_found(
    walk: Walk, drawn: set[int], text: str | None, tolerance: float
) -> None:
    results = walk.results()
    item = region(*(keyframe(n, 10 + n / 10) for n in sorted(drawn)))
    made = plan(item, text)
    answer = tracked(item, results, text, KeyframeOptions(tolerance))
    numbers = [k["frame"] for k in sequence(answer)]
    assert numbers == sorted(set(numbers))
    assert numbers[0] >= 1
    assert numbers[-1] <= COUNT
    for stretch in made.stretches:
        for number in stretch.numbers:
            result = results.get(number - 1)
            if result is None:
                break  # the tracking has come so far
            shape = shown(answer, number)
            if result.box is None:
                assert shape is None, f"lost on {number}"
            else:
                assert shape is not None, f"visible on {number}"
                assert edges(shape) == pytest.approx(result.box, abs=tolerance + ROUNDING)
    for before in sequence(item):
        after = next(k for k in sequence(answer) if k["frame"] == before["frame"])
        assert {k: v for k, v in after.items() if k not in {"edgetam", "enabled"}} == {
            k: v for k, v in before.items() if k != "enabled"
        }
    assert plan(answer, text).key(1) == made.key(1)


@given(WALKS, st.integers(10, 140), st.sampled_from([0, 1, 4]))
@settings(max_examples=30, deadline=None)
def test_a_track_in_two_answers_shows_the_same_as_in_one(walk: Walk, cut: int, tolerance: float) -> None:
    item, options = region(keyframe(1)), KeyframeOptions(tolerance)
    whole = dict.fromkeys(range(COUNT), LOST) | walk.results()
    once = tracked(item, whole, options=options)
    first = tracked(item, {i: r for i, r in whole.items() if i < cut}, options=options)
    since = {i: r for i, r in whole.items() if i >= cut}
    again = tracked(first, whole, options=options)
    later = tracked(first, since, options=options)
    assert again == once
    for answer in (first, once, later):
        for number in range(2, cut + 1 if answer is first else COUNT + 1):
            shape, result = shown(answer, number), whole[number - 1]
            assert (shape is None) == (result.box is None)
            assert shape is None or edges(shape) == pytest.approx(result.box, abs=tolerance + ROUNDING)
    assert plan(later).settled
    assert plan(once).settled


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=60),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.01, 0.5, 3.0]),
)
def test_thinning_stays_within_the_tolerance(gaps: list[int], seed: int, tolerance: float) -> None:
    numbers = np.cumsum(gaps)
    rng = np.random.default_rng(seed)
    boxes = rng.normal(0, 1, (len(numbers), 4)).cumsum(axis=0)
    tolerances = rng.uniform(0.1, 1, len(numbers)) * tolerance
    keep = thinned(numbers, boxes, tolerances)
    assert keep[0] == 0
    assert keep[-1] == len(numbers) - 1
    assert keep == sorted(set(keep))
    for edge in range(4):
        drawn = np.interp(numbers, numbers[keep], boxes[keep, edge])
        assert (np.abs(drawn - boxes[:, edge]) <= tolerances + 1e-9).all()


def test_a_small_box_is_thinned_less() -> None:
    """A pixel is nothing to a box of 40 × 60, and much to a ball of 6 × 6."""
    for side, most in ((60.0, 2.0), (6.0, 0.3)):
        wave = {i: 50 + 5 * np.sin(i / 9) for i in range(300)}
        results = {i: TrackedBox((x, 40, x + side, 40 + side), 0.9) for i, x in wave.items()}
        answer = tracked(region(keyframe(1)), results, options=KeyframeOptions(2.0))
        errors = [abs(edges(shown(answer, n + 1) or (0, 0, 0, 0))[0] - wave[n]) for n in range(1, 300)]
        assert max(errors) <= most + ROUNDING
        assert len(sequence(answer)) < 100


def test_thinning_leaves_little_of_a_straight_line() -> None:
    numbers = np.arange(1, 5001)
    straight = np.stack([numbers * 0.25] * 4, axis=1)
    assert thinned(numbers, straight, np.full(len(numbers), 0.5)) == [0, 4999]
    wave = 40 * np.sin(straight / 20)
    kept = thinned(numbers, wave, np.full(len(numbers), 0.5))
    assert 20 < len(kept) < 700
    assert len(kept) > len(thinned(numbers, wave, np.full(len(numbers), 3))) > 20


def test_thinning_a_long_noisy_track_takes_no_time_worth_telling() -> None:
    numbers = np.arange(20_000)
    boxes = np.random.default_rng(1).normal(0, 0.4, (20_000, 4))
    begun = time.process_time()
    thinned(numbers, boxes, np.full(len(numbers), 1.0))
    assert time.process_time() - begun < 5


def test_a_loss_and_a_return() -> None:
    results = moving(0, 99) | dict.fromkeys(range(100, 150), LOST) | moving(150, 299)
    answer = tracked(region(keyframe(1)), results, options=KeyframeOptions(1))
    assert frames_shown(answer) == [*range(1, 101), *range(151, 301)]
    flags = {k["frame"]: k["enabled"] for k in sequence(answer)}
    assert not flags[100]
    assert flags[151]
    assert flags[300]
    assert len(flags) < 20


def test_a_lost_object_is_not_held_to_the_end() -> None:
    answer = tracked(region(keyframe(1)), moving(0, 99) | dict.fromkeys(range(100, 300), ABSENT))
    assert frames_shown(answer) == list(range(1, 101))
    assert plan(answer).settled


def test_an_object_lost_at_once_hides_the_persons_box_until_it_is_found() -> None:
    item = region(keyframe(10))
    lost = tracked(item, dict.fromkeys(range(9, 300), LOST))
    assert frames_shown(lost) == [10]
    assert plan(lost).settled
    assert lost["score"] == pytest.approx(0.1)
    sequence(lost)[0]["enabled"] = True  # the person wants it after all
    assert [(s.anchor, s.stop, s.done) for s in plan(lost).stretches] == [(10, 300, 10)]
    half = tracked(item, dict.fromkeys(range(9, 50), LOST))
    assert frames_shown(half) == [10]
    found_again = tracked(half, moving(50, 299))
    assert frames_shown(found_again) == [10, *range(51, 301)]
    otherwise = tracked(half, moving(9, 299))
    assert frames_shown(otherwise) == list(range(10, 301))
    assert sequence(otherwise)[0]["enabled"]


def test_the_end_of_a_bounded_track_is_hidden_or_held() -> None:
    item = region(keyframe(1))
    assert frames_shown(tracked(item, moving(0, 299), "track 50")) == list(range(1, 52))
    held = tracked(item, moving(0, 299), "track 50", KeyframeOptions(hold_end=True))
    assert frames_shown(held) == list(range(1, 301))
    longer = tracked(held, moving(50, 99) | dict.fromkeys(range(100, 300), LOST))
    assert frames_shown(longer) == list(range(1, 101))


def test_a_backward_loss_hides_what_an_earlier_box_would_show() -> None:
    results = moving(0, 299) | dict.fromkeys(range(150, 180), LOST)
    answer = tracked(region(keyframe(100), keyframe(200)), results, "back")
    assert frames_shown(answer) == [*range(1, 151), *range(181, 301)]


def test_a_rotated_box_stays_and_what_follows_is_upright() -> None:
    answer = tracked(region(keyframe(5, rotation=30)), moving(0, 299), options=KeyframeOptions(5))
    rotations = {k["frame"]: k["rotation"] for k in sequence(answer)}
    assert rotations[5] == 30
    assert rotations[6] == 0  # no straight line turns the boxes in between
    assert set(rotations.values()) == {0, 30}


def test_keyframes_carry_their_confidence_and_the_region_its_doubt() -> None:
    results = moving(0, 299) | moving(200, 249, score=0.25)
    answer = tracked(region(keyframe(1)), results)
    scores = {k["frame"]: k["edgetam"]["score"] for k in sequence(answer)[1:]}
    assert scores[100] == 0.9
    assert scores[201] == 0.25
    assert sequence(answer)[100]["edgetam"]["job"] == "j"
    assert answer["score"] == pytest.approx(0.25)
    assert doubtful_score([0.1] + [0.9] * 99) == pytest.approx(0.9)
    assert doubtful_score([]) == 0


def test_a_region_comes_back_with_its_id_names_labels_and_notes() -> None:
    item = region(keyframe(1), name="xyz", labels=("Ball",)) | {"meta": {"text": ["mine"]}, "more": 1}
    answer = tracked(item, moving(0, 299))
    for key in ("id", "from_name", "to_name", "type", "origin", "meta", "more"):
        assert answer[key] == item[key]
    assert answer["value"] | {"sequence": 0} == item["value"] | {"sequence": 0}
    times = [k["time"] for k in sequence(answer)]
    assert times == [pytest.approx(k["frame"] / 25) for k in sequence(answer)]
    assert all(
        set(k) >= {"frame", "enabled", "rotation", "x", "y", "width", "height"} for k in sequence(answer)
    )


def test_regions_that_are_not_tracked_come_back_as_they_were() -> None:
    messy = region(keyframe(9), keyframe(3), keyframe(3, 50), labels=())
    assert tracked(messy, moving(0, 299)) == messy
    assert tracked(region(keyframe(9)), moving(0, 299), "stop") == region(keyframe(9))


def test_boxes_outside_the_frame_are_cut() -> None:
    outside = {i: TrackedBox((-20.0, -5.0, 450.0, 230.0), 0.5) for i in range(300)}
    box = sequence(tracked(region(keyframe(1)), outside))[5]
    assert (box["x"], box["y"], box["width"], box["height"]) == (0, 0, 100, 100)


def test_every_number_that_shows_a_frame_has_its_box() -> None:
    """At 60 numbers a second of a 25 Hz file each frame is seen under two or three numbers."""
    frames = FrameMap(TimeTable.constant(50, 25), Fraction(60), 120)
    answer = tracked(region(keyframe(1)), moving(0, 49), frames=frames)
    for number in range(2, 121):
        expected = moving(0, 49)[frames.source_of(number)].box
        shape = shown(answer, number)
        assert shape is not None
        assert edges(shape) == pytest.approx(expected, abs=ROUNDING)


def test_a_gap_on_frames_that_are_never_shown_is_not_seen() -> None:
    frames = FrameMap(TimeTable.constant(300, 60), Fraction(25), 125)
    unseen = next(i for i in range(300) if not frames.numbers_of(i))
    answer = tracked(region(keyframe(1)), moving(0, 299) | {unseen: LOST}, frames=frames)
    assert len(sequence(answer)) == 125
    assert all(k["enabled"] for k in sequence(answer))


def test_a_prediction_is_as_doubtful_as_its_worst_region() -> None:
    plans = [plan(region(keyframe(1), name=name)) for name in "ab"]
    untouched = plan(region(keyframe(1), name="c", labels=()))
    tracks = [build_track(p, moving(0, 299, s), FRAMES, SIZE) for p, s in zip(plans, (0.9, 0.4), strict=True)]
    pairs = [*zip(plans, tracks, strict=True), (untouched, build_track(untouched, {}, FRAMES, SIZE))]
    answer = prediction_json(pairs, FRAMES, "v1")
    assert answer["model_version"] == "v1"
    assert answer["score"] == pytest.approx(0.4)
    assert [r["id"] for r in answer["result"]] == ["a", "b", "c"]
    assert prediction_json([], FRAMES, "v1")["score"] == 0


def test_regions_of_other_tools_get_what_they_lack() -> None:
    item = region(keyframe(1))
    del item["origin"], item["from_name"], item["value"]["framesCount"]
    made = plan(item)
    answer = region_json(made, build_track(made, moving(0, 299), FRAMES, SIZE), FRAMES)
    assert (answer["origin"], answer["from_name"], answer["value"]["framesCount"]) == (
        "prediction",
        "box",
        300,
    )


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan])
def test_scores_that_make_no_sense_are_refused(score: float) -> None:
    with pytest.raises(InputError, match="score: expected 0 to 1"):
        TrackedBox((0, 0, 1, 1), score)
    with pytest.raises(InputError, match="tolerance: expected"):
        KeyframeOptions(tolerance=-1)
