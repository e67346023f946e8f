"""What is to be tracked: directions, lengths, corrections, and what is done already."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from backend.frame_map import FrameMap
from backend.video_keyframes import KeyframeOptions, TrackedBox
from backend.video_plan import Passes, plan_request
from edgetam_model import InputError
from edgetam_model.timetable import TimeTable
from tests.backend.video_json import (
    FRAMES,
    SIZE,
    command,
    keyframe,
    moving,
    plan,
    read,
    region,
    sequence,
    shown,
    tracked,
)

TWO = region(keyframe(100), keyframe(200))


def stretches(item: dict[str, Any], text: str | None = None) -> list[tuple[int, int, int]]:
    return [(s.anchor, s.stop, s.done) for s in plan(item, text).stretches]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, [(100, 199), (200, 300)]),
        ("track 50", [(100, 150), (200, 250)]),
        ("track 1000", [(100, 199), (200, 300)]),
        ("back", [(100, 1), (200, 101)]),
        ("back 30", [(100, 70), (200, 170)]),
        ("both", [(100, 199), (200, 300), (100, 1)]),
        ("both 30", [(100, 130), (200, 230), (100, 70), (200, 170)]),
        ("both 70", [(100, 170), (200, 270), (100, 30), (200, 171)]),
        ("to 250", [(100, 199), (200, 250)]),
        ("to 150", [(100, 150)]),
        ("to 40", [(100, 40)]),
        ("to 5000", [(100, 199), (200, 300)]),
        ("to 100", []),
        ("stop", []),
    ],
)
def test_commands_on_two_drawn_boxes(text: str | None, expected: list[tuple[int, int]]) -> None:
    assert stretches(TWO, text) == [(anchor, stop, anchor) for anchor, stop in expected]
    assert plan(TWO, text).stop == (text == "stop")


def test_the_prompts_are_the_drawn_boxes_on_the_frames_that_show_them() -> None:
    item = region(keyframe(100), keyframe(200, rotation=90))
    assert plan(item).prompts == {99: (40, 40, 80, 100), 199: pytest.approx((0, 40, 40, 80))}
    assert plan(item, "back").passes(FRAMES) == Passes(None, (199, 0))
    assert plan(item, "both").passes(FRAMES) == Passes((99, 299), (99, 0))


def test_numbers_are_mapped_to_the_frames_of_the_file() -> None:
    ntsc = FrameMap(TimeTable.constant(400, Fraction(30000, 1001)), Fraction(25), 333)
    made = plan(region(keyframe(101)), "track 10", ntsc)
    assert list(made.prompts) == [ntsc.source_of(101)] == [119]
    assert made.passes(ntsc) == Passes((119, ntsc.source_of(111)), None)


def test_a_box_after_which_a_person_hides_the_region_is_not_followed() -> None:
    item = region(keyframe(100), keyframe(150, enabled=False), keyframe(200))
    assert stretches(item) == [(100, 149, 100), (200, 300, 200)]
    assert stretches(region(keyframe(100, enabled=False))) == []


def test_frames_outside_the_video_are_clamped_and_boxes_outside_the_frame_are_no_prompts() -> None:
    made = plan(region(keyframe(-4), keyframe(0, 30), keyframe(9999)))
    assert [k.frame for k in made.keyframes] == [1, 300]
    assert list(made.prompts) == [0, 299]
    assert stretches(region(keyframe(5, x=200), keyframe(10, width=0))) == []
    assert stretches(region(keyframe(1), keyframe(10, width=0))) == [(1, 9, 1)]
    assert stretches(region()) == []


def test_a_request_without_labels_tracks_nothing() -> None:
    item = region(keyframe(1), labels=())
    assert plan(item).settled
    assert not plan(item).wanted
    assert stretches(item, "track 5") == [(1, 6, 1)]  # unless it was asked for in words


def test_a_command_beside_one_region_leaves_the_others_alone() -> None:
    items = (region(keyframe(1)), region(keyframe(5), name="b"), command("track 3", "b"))
    first, second = plan_request(read(*items), FRAMES, SIZE)
    assert first.settled
    assert [(s.anchor, s.stop) for s in second.stretches] == [(5, 8)]
    with pytest.raises(InputError, match=r"^cmd: "):
        plan_request(read(region(keyframe(1)), command("fly")), FRAMES, SIZE)


def test_a_finished_track_is_left_as_it_is() -> None:
    done = tracked(region(keyframe(1)), moving(0, 299))
    assert plan(done).settled
    assert tracked(done, {}) == done
    assert stretches(done, "back") == []
    assert stretches(done, "track 20") == []


def test_an_unfinished_track_goes_on_where_it_stopped() -> None:
    half = tracked(region(keyframe(1)), moving(0, 99))
    assert stretches(half) == [(1, 300, 100)]
    assert stretches(half, "track 50") == [(1, 300, 100)]  # the earlier request is not forgotten


def test_a_backward_track_is_finished_by_a_plain_press_too() -> None:
    half = tracked(region(keyframe(200)), moving(180, 199), "back 50")
    assert [k["frame"] for k in sequence(half)] == list(range(181, 201))
    assert stretches(half) == [(200, 300, 200), (200, 150, 181)]


def test_a_correction_drops_what_follows_up_to_the_next_drawn_box() -> None:
    done = tracked(region(keyframe(1), keyframe(200)), moving(0, 299))
    at_50 = sequence(done)[49]
    assert at_50["frame"] == 50
    at_50["x"] += 5  # dragged: the extra keys stay
    made = plan(done)
    assert [(s.anchor, s.stop, s.done) for s in made.stretches] == [(50, 199, 50)]
    assert [k.frame for k in made.keyframes] == [*range(1, 51), *range(200, 301)]
    assert [k.frame for k in made.keyframes if not k.tracked] == [1, 50, 200]
    assert list(made.prompts) == [0, 49, 199]
    assert made.dropped


def test_a_correction_of_a_backward_track_drops_what_comes_before() -> None:
    done = tracked(region(keyframe(100)), moving(0, 99), "back")
    sequence(done)[69]["width"] = 22
    made = plan(done)
    assert [k.frame for k in made.keyframes] == list(range(70, 101))
    # Backward again as far as it went, and forward because a plain press asks for that.
    assert [(s.anchor, s.stop) for s in made.stretches] == [(100, 300), (70, 1)]


def test_a_correction_keeps_its_own_way_back() -> None:
    done = tracked(region(keyframe(1)), moving(0, 299))
    sequence(done)[149]["x"] += 5
    assert stretches(done, "back 30") == [(150, 300, 150), (150, 120, 150)]


def test_moving_the_first_box_makes_everything_stale() -> None:
    done = tracked(region(keyframe(1)), moving(0, 299))
    sequence(done)[0]["x"] = 12
    made = plan(done)
    assert [k.frame for k in made.keyframes] == [1]
    assert [(s.anchor, s.stop, s.done) for s in made.stretches] == [(1, 300, 1)]


def test_deleting_a_correction_makes_its_track_stale() -> None:
    done = tracked(region(keyframe(1), keyframe(100)), moving(0, 299))
    del sequence(done)[99]
    assert stretches(done) == [(1, 300, 99)]


def test_deleting_every_drawn_box_leaves_the_first_of_ours_as_the_prompt() -> None:
    done = tracked(region(keyframe(1)), moving(0, 299))
    del sequence(done)[:20]
    made = plan(done)
    assert [k.frame for k in made.keyframes] == [21]
    assert [(s.anchor, s.stop) for s in made.stretches] == [(21, 300)]


def test_deleting_one_tracked_keyframe_is_respected_and_deleting_all_begins_anew() -> None:
    done = tracked(region(keyframe(1)), moving(0, 299))
    del sequence(done)[40]
    assert plan(done).settled
    del sequence(done)[1:]
    assert stretches(done) == [(1, 300, 1)]


def test_hiding_a_tracked_box_ends_the_track_there() -> None:
    done = tracked(region(keyframe(1)), moving(0, 299))
    sequence(done)[59]["enabled"] = False
    made = plan(done)
    assert not made.stretches
    assert made.dropped
    again = tracked(done, {})
    assert [k["frame"] for k in sequence(again)] == list(range(1, 61))
    assert not sequence(again)[-1]["enabled"]
    assert plan(again).settled


def test_hiding_the_drawn_box_itself_drops_its_track() -> None:
    done = tracked(region(keyframe(1), keyframe(100)), moving(0, 299))
    sequence(done)[0]["enabled"] = False
    made = plan(done)
    assert [k.frame for k in made.keyframes] == [1, *range(100, 301)]
    assert not made.stretches


def test_back_cuts_the_forward_work_that_is_unfinished() -> None:
    half = tracked(region(keyframe(1), keyframe(200)), moving(0, 59))
    assert stretches(half, "back 50") == [(1, 149, 60), (200, 300, 200), (200, 150, 200)]


def test_a_hole_in_the_results_ends_what_is_done() -> None:
    half = tracked(region(keyframe(1)), moving(0, 99) | moving(120, 299))
    assert stretches(half) == [(1, 300, 100)]
    assert tracked(half, moving(50, 80, 0.5)) == half  # neither from the drawn box on, nor anything new


def test_a_box_that_we_hid_is_shown_again_where_its_track_is_gone() -> None:
    lost = {i: TrackedBox(None, 0.1, "lost") for i in range(9, 50)}
    done = tracked(region(keyframe(10)), lost | moving(50, 299))
    assert not plan(done).keyframes[0].enabled
    del sequence(done)[1:]
    assert [k.enabled for k in plan(done).keyframes] == [True]
    assert stretches(done) == [(10, 300, 10)]


def test_a_box_drawn_where_we_had_hidden_the_region_is_followed() -> None:
    lost = {i: TrackedBox(None, 0.1, "lost") for i in range(60, 300)}
    done = tracked(region(keyframe(1)), moving(0, 59) | lost)
    assert plan(done).settled
    # Label Studio makes the new keyframe hidden, as the one before it is.
    sequence(done).append(keyframe(200, 50, enabled=False))
    assert stretches(done) == [(200, 300, 200)]
    again = tracked(done, moving(199, 299))
    assert next(k for k in sequence(again) if k["frame"] == 200)["enabled"]
    next(k for k in sequence(again) if k["frame"] == 200)["enabled"] = False
    assert stretches(again) == []  # hidden by hand afterwards: that is meant


@pytest.mark.parametrize("tolerance", [0.0, 2.0])
@pytest.mark.parametrize(("text", "anchor"), [(None, 1), ("back", 300)])
def test_a_correction_leaves_what_was_shown_before_it(
    tolerance: float, text: str | None, anchor: int
) -> None:
    """Thinned, a steady track has no keyframe near: a line would run from its start to the new box."""
    options = KeyframeOptions(tolerance)
    x = 10.0 if anchor == 1 else (40 + 299 / 2) / 4  # where `moving` is then, in percent
    done = tracked(region(keyframe(anchor, x)), moving(0, 299), text, options)
    assert (len(sequence(done)) < 5) == (tolerance > 0)
    before = {n: shown(done, n) for n in range(1, 301)}
    kept = [k for k in sequence(done) if k["frame"] not in (150, 200)]
    drawn = [keyframe(150, 70), keyframe(200, 70)]
    done["value"]["sequence"] = sorted([*kept, *drawn], key=lambda k: k["frame"])
    again = tracked(done, {}, text, options)
    safe = range(1, 150) if anchor == 1 else range(201, 301)
    for number in safe:
        assert shown(again, number) == pytest.approx(before[number], abs=0.001), number
    assert shown(again, 150)[0] == 70  # type: ignore[index]
    assert plan(again, text).keyframes == plan(tracked(again, {}, text, options), text).keyframes


def test_a_box_drawn_into_a_gap_shows_nothing_before_it() -> None:
    gap = {i: TrackedBox(None, 0.1, "lost") for i in range(60, 149)}
    options = KeyframeOptions(2.0)
    done = tracked(region(keyframe(1)), moving(0, 299) | gap, options=options)
    place = next(i for i, k in enumerate(sequence(done)) if k["frame"] > 60)
    sequence(done).insert(place, keyframe(100, 70, enabled=False))
    again = tracked(done, {}, options=options)
    assert [n for n in range(1, 101) if shown(again, n)] == [*range(1, 61), 100]
    assert stretches(done) == [(100, 300, 100)]


def test_several_boxes_drawn_where_we_had_hidden_the_region_are_all_followed() -> None:
    lost = {i: TrackedBox(None, 0.1, "lost") for i in range(60, 300)}
    done = tracked(region(keyframe(1)), moving(0, 59) | lost)
    sequence(done).extend(keyframe(frame, 50, enabled=False) for frame in (150, 200, 250))
    assert stretches(done) == [(150, 199, 150), (200, 249, 200), (250, 300, 250)]


def test_a_box_drawn_where_a_person_had_hidden_the_region_shows_on_its_frame_alone() -> None:
    item = region(keyframe(1), keyframe(60, enabled=False), keyframe(200, 50, enabled=False))
    assert stretches(item) == [(1, 59, 1)]
    again = tracked(item, moving(0, 299))
    assert [n for n in range(1, 301) if shown(again, n)] == [*range(1, 61), 200]
    sequence(again)[-1]["enabled"] = True
    assert stretches(again) == [(200, 300, 200)]


@pytest.mark.parametrize("first_lost", [60, 1])  # the box corrected is a tracked one, or the drawn one
def test_a_box_that_is_corrected_where_the_object_was_lost_is_followed(first_lost: int) -> None:
    lost = {i: TrackedBox(None, 0.1, "lost") for i in range(first_lost, 300)}
    done = tracked(region(keyframe(1)), moving(0, first_lost - 1) | lost)
    last = sequence(done)[-1]
    assert (last["frame"], last["enabled"]) == (first_lost, False)
    last["x"] += 3
    assert stretches(done)[-1] == (first_lost, 300, first_lost)
    last["enabled"] = True  # and where it was switched on as well
    assert stretches(done)[-1] == (first_lost, 300, first_lost)


def test_the_key_is_the_same_for_the_same_work_only() -> None:
    item = region(keyframe(1))
    key = plan(item).key(7)
    half = tracked(item, moving(0, 99))
    assert plan(half).key(7) == key  # a press while the job runs
    lost = {i: TrackedBox(None, 0.1, "lost") for i in range(50)}
    assert plan(tracked(item, lost)).key(7) == key  # which has hidden the drawn box
    assert plan(item, "track 299").key(7) == key
    moved, more = region(keyframe(1, 11)), region(keyframe(1), keyframe(9))
    others = [plan(i).key(7) for i in (moved, more, region(keyframe(1), name="b"))]
    others += [plan(item).key(8), plan(item).key(7, "model 2"), plan(item, "back").key(7)]
    others += [plan(item, "track 5").key(7)]
    assert len({key, *others}) == 8


def test_what_the_key_of_a_correction_is_stays_while_it_is_tracked() -> None:
    done = tracked(region(keyframe(100)), moving(0, 99), "back")
    sequence(done)[69]["width"] = 22
    half = tracked(done, moving(60, 150))
    assert plan(half).key(1) == plan(done).key(1)
    assert stretches(half) == [(100, 300, 151), (70, 1, 61)]


def test_random_histories_never_leave_the_video_or_the_neighbours() -> None:
    """Draw, track a part, correct, delete, in any order: stretches stay between drawn boxes, and end."""
    rng = np.random.default_rng(0)
    texts = [None, "back", "both", "both 20", "track 40", "back 25", "to 120"]
    for _ in range(20):
        item = region(*(keyframe(int(n)) for n in rng.choice(300, 2, replace=False) + 1))
        for _ in range(4):
            text = texts[rng.integers(len(texts))]
            made = plan(item, text)
            drawn = [k.frame for k in made.keyframes if not k.tracked]
            for stretch in made.stretches:
                assert not set(drawn) & set(stretch.numbers)
                assert all(1 <= n <= 300 for n in (stretch.stop, stretch.done))
            first, last = sorted(rng.integers(0, 300, 2).tolist())
            tracked(item, moving(first, last), text)
            item = tracked(item, moving(0, 299), text)
            assert plan(item, text).settled
            pick = int(rng.integers(len(sequence(item))))
            if rng.random() < 0.7:
                sequence(item)[pick]["y"] = float(rng.uniform(0, 50))
            elif len(sequence(item)) > 1:
                del sequence(item)[pick]
