"""Figures on held-out clips: counted on hand-made masks, and with a real tracker at its smallest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetam_model.masks import Mask
from edgetam_model.prompts import Prompt
from edgetam_model.results import FrameResult, ObjectResult
from edgetam_model.training import held_out
from edgetam_model.training.held_out import (
    Reentry,
    ReturnedClip,
    RolledClip,
    RollOut,
    follow,
    reentries,
    roll_outs,
    score_return,
    score_roll_out,
)
from edgetam_model.training.held_out_clips import Absence, HeldOutClip, HeldOutOptions, ReturningClip, Way
from edgetam_model.training.textures import TextureBank, load_textures
from edgetam_model.video_tracker import VideoTracker
from tests.models import tiny_model

SIDE = 8


def columns(first: int, count: int) -> Mask:
    """(8, 8): some columns of a frame."""
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[:, first : first + count] = True
    return mask


def made(truth: list[Mask], number: int = 7) -> HeldOutClip:
    return HeldOutClip(number, np.zeros((len(truth), SIDE, SIDE, 3), np.uint8), np.stack(truth))


@dataclass
class Script:
    """Stands in for a `VideoTracker` and its session: shows given masks, whatever the frames are."""

    masks: list[Mask]
    prompts: list[tuple[int, Prompt]] = field(default_factory=list)
    seen: list[NDArray[np.uint8]] = field(default_factory=list)

    def open(self, source: NDArray[np.uint8]) -> Self:
        self.seen.append(source)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def add_prompt(self, frame: int, object_id: int, prompt: Prompt) -> None:
        self.prompts.append((frame, prompt))
        self.object_id = object_id

    def propagate(self) -> Iterator[FrameResult]:
        for frame, mask in enumerate(self.masks):
            result = ObjectResult(np.where(mask, 1, -1).astype(np.float32), mask.shape, 1.0, 1.0)
            yield FrameResult(frame, frame / 25, {self.object_id: result})

    def as_tracker(self) -> VideoTracker:
        return cast(VideoTracker, self)


def test_a_clip_is_followed_from_the_true_mask_of_frame_0() -> None:
    clip = made([columns(0, 4), columns(2, 4)])
    script = Script([columns(0, 4), columns(1, 4)])
    masks = follow(script.as_tracker(), clip)
    assert np.array_equal(masks, script.masks)
    assert script.seen[0] is clip.frames
    ((frame, prompt),) = script.prompts
    assert frame == 0
    assert np.array_equal(prompt.mask, clip.truth[0])


def test_a_roll_out_is_scored_from_frame_1_on_beside_a_mask_that_stands_still() -> None:
    clip = made([columns(0, 4), columns(2, 4), columns(4, 4)])
    scored = score_roll_out(clip, [columns(0, 8), columns(2, 4), columns(4, 2)])
    assert (scored.number, scored.j) == (7, (1.0, 0.5))
    assert scored.still == pytest.approx((1 / 3, 0.0))


def test_roll_outs_are_averaged_by_frame() -> None:
    rollout = RollOut((RolledClip(0, (1.0, 0.5), (0.5, 0.0)), RolledClip(3, (0.5, 0.0), (0.3, 0.2))))
    assert rollout.per_frame == (0.75, 0.25)
    assert rollout.still == pytest.approx((0.4, 0.1))
    assert (rollout.mean, rollout.last) == (0.5, 0.25)
    document = rollout.to_dict()
    assert (document["mean"], document["last"], document["per_frame"]) == (0.5, 0.25, [0.75, 0.25])
    assert document["clips"][1] == {"number": 3, "j": [0.5, 0.0]}


def back_after(hidden: int, chances: tuple[int, ...]) -> ReturningClip:
    """A clip that shows an object on its frame 0 and on the five after its absence."""
    truth = [columns(0, 4), *[columns(0, 0)] * hidden, *[columns(4, 4)] * 5]
    return ReturningClip(made(truth), "behind", Absence(range(1, 1 + hidden), chances))


@pytest.mark.parametrize(
    ("late", "overlap", "found"),
    [(0, 4, True), (3, 2, True), (3, 1, False), (4, 4, False)],  # the last: after the last chance
)
def test_found_again_means_half_right_on_one_of_the_chances(late: int, overlap: int, found: bool) -> None:
    clip = back_after(10, chances=(11, 12, 13, 14))
    masks = [columns(0, 0)] * 16
    masks[0] = columns(0, 4)
    masks[11 + late] = columns(4, overlap)
    scored = score_return(clip, masks)
    assert scored.found is found
    assert len(scored.j) == 4
    assert max(scored.j) == (overlap / 4 if late < 4 else 0)


def test_masks_while_the_object_is_away_are_counted() -> None:
    clip = back_after(10, chances=(11, 12, 13))
    masks = [columns(0, 4)] * 16
    assert score_return(clip, masks).false_masks == 10
    masks[1:8] = [columns(0, 0)] * 7
    assert score_return(clip, masks) == ReturnedClip(7, "behind", 10, 3, (0.0, 0.0, 0.0))
    masks[1] = columns(0, 0)
    masks[1][3, 3] = True  # a single pixel is a mask too
    assert score_return(clip, masks).false_masks == 4


def returned(way: Way, hidden: int, false_masks: int, best: float) -> ReturnedClip:
    return ReturnedClip(0, way, hidden, false_masks, (0.0, best, 0.1))


def test_shares_are_of_clips_and_of_frames() -> None:
    clips = (
        returned("outside", 10, 10, 0.5),
        returned("outside", 12, 0, 0.49),
        returned("outside", 10, 0, 0.9),
        returned("behind", 12, 1, 0.2),
    )
    reentry = Reentry(clips)
    assert (reentry.found, reentry.false_masks) == (0.5, 11 / 44)
    assert {way: part.found for way, part in reentry.by_way.items()} == {"outside": 2 / 3, "behind": 0.0}
    assert reentry.by_way["behind"].false_masks == 1 / 12
    document = reentry.to_dict()
    assert (document["count"], document["found"], document["false_masks"]) == (4, 0.5, 0.25)
    assert document["by_way"]["outside"] == {"count": 3, "found": 2 / 3, "false_masks": 10 / 32}
    assert [clip["found"] for clip in document["clips"]] == [True, False, True, False]
    assert Reentry(clips[:1]).by_way.keys() == {"outside"}


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return load_textures(procedural=24)


def test_a_real_tracker_on_real_clips(bank: TextureBank) -> None:
    options = HeldOutOptions(clips=2, frames=3, size=64)
    tracker = VideoTracker(tiny_model())
    rolled = list(roll_outs(tracker, options, bank))
    assert [len(clip.j) for clip in rolled] == [2, 2]
    assert all(0 <= j <= 1 for clip in rolled for j in clip.j)
    assert RollOut(tuple(rolled)) == RollOut(tuple(roll_outs(tracker, options, bank)))
    back = list(reentries(tracker, options, bank))
    assert [clip.way for clip in back] == ["outside", "behind"]
    assert all(10 <= clip.hidden <= 12 and 3 <= len(clip.j) <= 5 for clip in back)


def test_a_tracker_that_knows_the_truth_scores_in_full(
    bank: TextureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "follow", lambda tracker, clip: list(clip.truth))
    options = HeldOutOptions(clips=2, frames=3, size=64)
    nobody = Script([]).as_tracker()
    rollout = RollOut(tuple(roll_outs(nobody, options, bank)))
    assert (rollout.mean, rollout.last) == (1.0, 1.0)
    assert min(rollout.still) < 1
    reentry = Reentry(tuple(reentries(nobody, options, bank)))
    assert (reentry.found, reentry.false_masks) == (1.0, 0.0)
