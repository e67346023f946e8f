"""Whether a tracked mask is believed, rule by rule, and what the engine makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.credence import COLLAPSE, USUAL_LIKENESS, Sighting, closer_window
from edgetam_model.model import ABSENT_LOGIT
from edgetam_model.model_io import Decoded
from edgetam_model.options import TrackerOptions
from edgetam_model.outlines import Outline
from edgetam_model.prompts import Prompt
from edgetam_model.results import ObjectResult
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.weights import load_model
from edgetam_model.windows import Window
from tests.models import tiny_model
from tests.returning import BOX, returning_disc

USUAL = Sighting(
    object_score=5.0,
    iou=0.95,
    area=1000.0,
    last_area=1050.0,
    overlap=0.5,
    likeness=0.95,
    last_likeness=0.97,
    shown_area=1000.0,
)
FOUND = replace(
    USUAL,
    object_score=1.5,
    iou=0.75,
    area=900.0,
    last_area=0.0,
    overlap=0.0,
    likeness=0.85,
    last_likeness=0.0,
)

SCORES = st.floats(-8, 10)
IOUS = st.floats(0, 1)
AREAS = st.floats(0, 5000)


def test_a_plainly_visible_object_is_believed_however_its_mask_changes() -> None:
    assert USUAL.credible
    assert replace(USUAL, area=10.0, iou=0.3).credible  # going behind something


def test_a_mask_with_neither_the_colours_nor_the_size_of_the_prompted_object_is_not_believed() -> None:
    unlike = replace(USUAL, likeness=0.45, last_likeness=0.46)
    assert unlike.credible
    assert replace(USUAL, shown_area=300.0).credible, "it came nearer"
    assert not replace(unlike, shown_area=300.0).credible
    assert not replace(unlike, shown_area=2500.0).credible
    assert replace(unlike, shown_area=0.0).credible, "nothing was shown to compare with"


def test_a_mask_that_swells_at_once_is_not_believed_however_strong_its_score() -> None:
    assert replace(USUAL, area=2.9 * 1050).credible
    assert not replace(USUAL, area=3.1 * 1050).credible


def test_a_weak_score_alone_is_believed() -> None:
    assert replace(USUAL, object_score=0.5, iou=0.8).credible


@pytest.mark.parametrize("change", [{"iou": 0.2}, {"area": 1050 * COLLAPSE - 1}])
def test_a_weak_score_with_a_poor_or_collapsed_mask_is_not(change: dict[str, float]) -> None:
    assert not replace(USUAL, object_score=1.2, **change).credible


def test_a_return_needs_a_score_a_mask_and_colours_that_go_together() -> None:
    assert FOUND.returning
    assert FOUND.credible
    assert not replace(FOUND, iou=0.6).credible
    assert not replace(FOUND, likeness=0.7).credible, "the colours of something else"
    assert replace(FOUND, likeness=0.7, object_score=2.5).credible
    assert replace(FOUND, likeness=0.1, object_score=3.1).credible, "another side of it"
    assert replace(FOUND, object_score=1.0, iou=0.95).credible, "a disc that comes out from behind a post"
    assert not replace(FOUND, object_score=-1.0).returning


def test_a_return_of_another_size_needs_more() -> None:
    assert replace(FOUND, area=501.0).merit == FOUND.merit == replace(FOUND, area=1990.0).merit
    assert not replace(FOUND, area=50.0).credible, "a speck"
    assert not replace(FOUND, area=30_000.0).credible, "what hides it"
    assert replace(FOUND, area=50.0, object_score=4.5).credible
    assert replace(FOUND, area=50.0, shown_area=0.0).merit == FOUND.merit, "nothing was shown"


def test_of_several_looks_the_best_credible_one_counts() -> None:
    better = replace(FOUND, object_score=3.0)
    assert FOUND.outdoes(None)
    assert better.outdoes(FOUND)
    assert not FOUND.outdoes(better)
    assert not replace(FOUND, iou=0.1).outdoes(None)


def test_what_is_followed_gives_way_to_what_is_plainly_more_like_the_object() -> None:
    followed, elsewhere = replace(USUAL, likeness=0.8), replace(FOUND, likeness=0.9)
    assert elsewhere.outdoes(followed)
    assert not elsewhere.outdoes(replace(followed, likeness=0.83))
    assert not replace(elsewhere, likeness=0.79).outdoes(replace(followed, likeness=0.2))
    assert not replace(elsewhere, object_score=-0.1, iou=1.0, likeness=1.0).outdoes(followed)


def test_a_mask_whose_colours_turn_at_once_is_not_believed_however_strong_its_score() -> None:
    turned = replace(USUAL, likeness=0.45, overlap=0.9)
    assert not turned.credible
    assert replace(turned, last_likeness=0.85).credible, "light that changes slowly"
    assert replace(turned, likeness=0.1, last_likeness=0.59).credible, "a ball that rolls"


def test_a_mask_that_stays_where_it_was_outlives_a_weak_score() -> None:
    staying = replace(USUAL, object_score=-0.5, iou=0.1, overlap=0.7)
    assert staying.credible
    assert not replace(staying, object_score=-1.5).credible
    assert not replace(staying, overlap=0.5).credible
    assert not replace(staying, area=400.0).credible
    assert not replace(staying, area=2000.0).credible


def test_a_mask_that_jumps_needs_a_plain_object() -> None:
    jumped = replace(USUAL, overlap=0.02)
    assert jumped.credible
    assert not replace(jumped, object_score=2.9).credible
    assert replace(jumped, object_score=2.9, overlap=0.2).credible


def test_a_mask_that_jumps_onto_something_small_has_to_be_a_good_one_too() -> None:
    small = replace(USUAL, overlap=0.02, area=1050 * COLLAPSE - 1)
    assert small.credible
    assert not replace(small, iou=0.79).credible
    assert replace(small, iou=0.79, area=1050 * COLLAPSE + 1).credible


@given(SCORES, IOUS, IOUS, IOUS, AREAS, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_better_mask_is_never_believed_less(
    score: float, iou: float, shared: float, alike: float, area: float, more: float, better: float, away: bool
) -> None:
    one = Sighting(score, iou, area, 0.0 if away else 1000.0, shared, alike, 0.9, 1000.0)
    better_iou, better_overlap = min(iou + better, 1.0), min(shared + better, 1.0)
    other = replace(one, object_score=score + more, iou=better_iou, overlap=better_overlap)
    other = replace(other, likeness=min(alike + better, 1.0))
    assert other.credible or not one.credible


def test_a_sighting_compares_with_the_last_mask_and_the_prompted_one() -> None:
    mask = np.zeros((64, 64), np.bool_)
    mask[16:48, 16:48] = True
    grey, red = np.zeros((3, 16, 16)), np.zeros((3, 16, 16))
    red[0] = 2.0
    now, last = Outline(mask, Window(40, 40, 104, 104), grey), Outline(mask, Window(8, 8, 136, 136), red)
    found = Sighting.of(2.0, 0.5, now, last, replace(now, window=last.window))
    assert (found.area, found.last_area) == (1024, 4096)
    assert found.overlap == now.overlap(last)
    assert found.likeness == pytest.approx(1.0)
    assert found.last_likeness == pytest.approx(0.0)
    nothing = replace(now, mask=np.zeros_like(mask))
    assert Sighting.of(2.0, 0.5, nothing, nothing, last).likeness == 0
    alike = Sighting.of(2.0, 0.5, now, last, nothing)
    assert (alike.likeness, alike.last_likeness) == (USUAL_LIKENESS, USUAL_LIKENESS), (
        "nothing to compare with"
    )


def test_what_a_search_finds_is_looked_at_from_near() -> None:
    mask = np.zeros((64, 64), np.bool_)
    mask[30:34, 20:24] = True
    near = closer_window(Window(0, 0, 320, 320), mask, (320, 320), 1.7)
    assert near is not None
    assert near.contains(np.array([[100, 150], [120, 170]], np.float32))
    assert max(near.size) < 50
    filling = np.zeros((64, 64), np.bool_)
    filling[14:50, 14:50] = True  # as `near` shows what was found
    assert closer_window(near, filling, (320, 320), 1.7) is None
    assert closer_window(near, np.zeros((64, 64), np.bool_), (320, 320), 1.7) is None


def test_what_is_denied_counts_as_absent() -> None:
    model = tiny_model()
    decoded = Decoded(
        logits=torch.ones(2, 4, 4),
        raw=torch.ones(2, 4, 4),
        iou=torch.tensor([0.9, 0.8]),
        pointer=torch.ones(2, model.config.width),
        object_score=torch.tensor([3.0, -2.0]),
        candidates=torch.ones(2, 1, 4, 4),
        candidate_ious=torch.ones(2, 1),
    )
    first = model.believe(decoded, torch.tensor([False, True]))
    assert (first.logits[0] == ABSENT_LOGIT).all()
    assert torch.equal(first.logits[1], decoded.logits[1])
    assert torch.equal(first.pointer[0], model.no_obj_ptr[0])
    assert first.object_score[0] <= 0
    assert first.object_score[1] > 0  # believed in spite of its score
    neither = model.believe(decoded, torch.tensor([False, False]))
    assert neither.object_score[1] == -2.0  # what was absent stays as absent as it was


def test_an_object_that_is_taken_away_is_not_seen_in_its_neighbour() -> None:
    """A disc vanishes beside another one, and comes back elsewhere."""
    frames = returning_disc()
    results = followed(frames, TrackerOptions())
    assert [r.state for r in results[4:10]].count("visible") <= 1
    assert all(r.mask.sum() > 0 for r in results[:4])
    box = results[-1].box
    assert box is not None
    assert box == pytest.approx((138, 38, 163, 63), abs=4)
    back, plain = (first_return(frames, TrackerOptions(verify=verify)) for verify in (True, False))
    assert back.window is not None
    assert plain.window is not None
    assert max(back.window.size) < 60 < max(plain.window.size)  # seen from near at once


def first_return(frames: list[np.ndarray], options: TrackerOptions) -> ObjectResult:
    return next(result for result in followed(frames, options)[10:] if result.state == "visible")


def followed(frames: list[np.ndarray], options: TrackerOptions) -> list[ObjectResult]:
    with VideoTracker(load_model("default"), options).open(frames) as session:
        session.add_prompt(0, 1, Prompt(box=BOX))
        return [result.objects[1] for result in session.propagate()]
