"""What is known of a video's object is what Label Studio shows, and who said so."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.demo_results import box_iou
from backend.fit_tracks import video_numbers, video_objects
from backend.video_keyframes import KeyframeOptions, TrackedBox
from edgetam_model import InputError
from edgetam_model.masks import mask_iou
from edgetam_model.training.annotations import AnnotatedObject, BoxShape, ReadOptions
from tests.backend.video_json import COUNT, FRAMES, SIZE, keyframe, moving, region, shown, tracked

NUMBERS = st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True).map(sorted)
PERCENT = st.floats(0, 60)


def read(*items: Any, interpolated: bool = False) -> tuple[AnnotatedObject, ...]:
    ignored: Counter[str] = Counter()
    return video_objects(list(items), {}, ReadOptions(interpolated), ignored)


def origins(each: AnnotatedObject) -> dict[int, str]:
    return {seen.frame: seen.origin for seen in each.sightings}


def test_key_frames_count_from_zero_and_are_a_persons() -> None:
    (each,) = read(region(keyframe(1), keyframe(5, x=20)))
    assert each.labels == ("Player",)
    assert origins(each) == {0: "human", 4: "human"}
    told = each.sightings[1].given
    assert told is not None
    prompt = told.prompt(SIZE)
    assert prompt is not None
    assert prompt.box.tolist() == [80, 40, 120, 100]


def test_tracked_key_frames_are_the_models_until_a_person_moves_them() -> None:
    item = tracked(region(keyframe(1)), moving(0, 20))
    (each,) = read(item)
    assert origins(each) == {0: "human"} | dict.fromkeys(range(1, 21), "model")
    assert each.sightings[3].given is None
    item["value"]["sequence"][7]["x"] += 3
    (corrected,) = read(item)
    assert origins(corrected)[7] == "human"


def test_what_the_tracker_wrote_comes_back() -> None:
    """Through the product's own encoder, a keyframe on every frame: boxes of masks have whole edges."""
    results = {i: TrackedBox((40 + 3 * i, 40 + i, 80 + 2 * i, 100), 0.9) for i in range(31)}
    (each,) = read(tracked(region(keyframe(1)), results))
    for seen in each.sightings[1:]:
        x0, y0, x1, y1 = (int(edge) for edge in results[seen.frame].box or (0, 0, 0, 0))
        truth = np.zeros(SIZE, np.bool_)
        truth[y0:y1, x0:x1] = True
        assert mask_iou(seen.shape.mask(SIZE), truth) >= 0.99


@given(st.integers(2, 30), st.floats(0.5, 10), st.floats(0, 5))
def test_thinned_tracks_come_back_within_their_tolerance(last: int, step: float, tolerance: float) -> None:
    results = {i: TrackedBox((40 + i * step, 40, 80 + i * step, 100), 0.9) for i in range(last + 1)}
    options = KeyframeOptions(tolerance=tolerance, hold_end=True)
    (each,) = read(tracked(region(keyframe(1)), results, options=options), interpolated=True)
    assert [seen.frame for seen in each.sightings] == list(results)
    for seen in each.sightings[1:]:
        assert isinstance(seen.shape, BoxShape)
        assert box_iou(seen.shape.box(SIZE), results[seen.frame].box) >= 0.8


@given(NUMBERS, st.data())
def test_interpolated_boxes_are_those_on_the_screen(numbers: list[int], data: st.DataObject) -> None:
    item = region(*(keyframe(n, x=data.draw(PERCENT), enabled=data.draw(st.booleans())) for n in numbers))
    (each,) = read(item, interpolated=True)
    for number in range(1, numbers[-1] + 1):
        seen, box = each.sighting_on(number - 1), shown(item, number)
        assert (seen is None) == (box is None)
        if seen is not None and box is not None:
            assert isinstance(seen.shape, BoxShape)
            assert (seen.shape.x, seen.shape.y, seen.shape.width, seen.shape.height) == pytest.approx(box)
            assert (seen.origin == "interpolated") == (number not in numbers)
    assert each.known_among(range(numbers[-1])) == tuple(range(numbers[0] - 1, numbers[-1]))
    (keys,) = read(item)
    assert [seen.frame + 1 for seen in keys.sightings] == numbers


def test_turns_go_the_shorter_way() -> None:
    (each,) = read(region(keyframe(1, rotation=350), keyframe(3, rotation=10)), interpolated=True)
    middle = each.sightings[1].shape
    assert isinstance(middle, BoxShape)
    assert middle.rotation % 360 == pytest.approx(0)


def test_a_person_hides_an_object_the_tracker_only_loses_it() -> None:
    (each,) = read(region(keyframe(1), keyframe(5, enabled=False), keyframe(9)))
    assert each.absent == (range(5, 8),)
    (gone,) = read(region(keyframe(1), keyframe(5, enabled=False)))
    assert gone.absent == (range(5, COUNT),)
    lost = tracked(region(keyframe(1)), moving(0, 5) | {6: TrackedBox(None, 0.1, "absent")})
    assert lost["value"]["sequence"][-1]["enabled"] is False
    assert read(lost)[0].absent == ()


def test_key_frames_that_an_export_made_up_are_no_persons() -> None:
    a, b = keyframe(1, x=10), keyframe(5, x=30)
    made_up = [keyframe(n, x=10 + 5 * (n - 1), auto=True) for n in (2, 3, 4)]
    assert [seen.frame for seen in read(region(a, *made_up, b))[0].sightings] == [0, 4]
    made_up[1]["x"] += 4  # dragged: the mark stays, the box does not
    (each,) = read(region(a, *made_up, b))
    assert origins(each) == {0: "human", 2: "human", 4: "human"}


def test_damage_costs_a_region_and_is_counted() -> None:
    ignored: Counter[str] = Counter()
    endless = region(keyframe(1), keyframe(10**8))
    items = [region({"frame": "x"}), region(keyframe(0)), region(keyframe(1, width=0)), {}, endless]
    (each,) = video_objects([*items, region(keyframe(2))], {}, ReadOptions(interpolated=True), ignored)
    assert each.id == 1
    assert ignored == {"damaged regions": 3, "tracks without a box": 2}


def test_numbers_mean_the_same_frames_as_on_the_screen() -> None:
    item = region(keyframe(1))
    numbers = video_numbers([item], "$fps", {"fps": "30"})
    assert numbers.rate == 30
    for number in (1, 2, 7, COUNT):
        at_25 = video_numbers([item], "25", {}).frame(number - 1, FRAMES.table)
        assert at_25 == FRAMES.source_of(number)
    assert video_numbers([item], None, {}).rate == 24
    assert video_numbers([item], "$", {}).rate == Fraction(25)  # 300 frames in 12 s
    with pytest.raises(InputError, match="frameRate"):
        video_numbers([item], "fast", {})


def test_buttons_are_no_classes() -> None:
    pressed = region(keyframe(2), labels=("Track",))
    both = region(keyframe(2), name="b", labels=("Track", "Player"))
    found = video_objects([pressed, both], {"a": ("Ball",)}, ReadOptions(), Counter(), ("Track",))
    assert [each.labels for each in found] == [("Ball",), ("Player",)]
