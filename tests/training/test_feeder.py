"""Batches come in order, made ahead, and used again only in another guise."""

from __future__ import annotations

import threading

import pytest
import torch

from edgetam_model.training.feeder import BLOCK, Feeder, changed
from edgetam_model.training.prompting import random_for
from edgetam_model.training.synthetic.clips import ClipBatch
from tests.training.clips import Discs


class Counted:
    """Tiny clips that know when and where they were made."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.threads: set[str] = set()

    def batch(self, seed: int, start: int, count: int) -> ClipBatch:
        self.starts.append(start)
        self.threads.add(threading.current_thread().name)
        return Discs(2, 8).batch(seed, start, count)


def numbers(feeder: Feeder, turns: range) -> list[int]:
    return [int(feeder.batch(turn, random_for(turn)).indices[0]) for turn in turns]


def test_without_reuse_every_clip_is_new() -> None:
    source = Counted()
    feeder = Feeder(source, 0, 3, 1)
    assert numbers(feeder, range(20)) == [3 * turn for turn in range(20)]
    feeder.close()
    made = [3 * turn for turn in range(21)]
    assert source.starts in (made, made[:-1]), "one ahead, unless it was not begun; none twice"
    assert "MainThread" not in source.threads


def test_turns_that_others_take_are_not_made() -> None:
    """The third of three processes: also what is made ahead is its own."""
    source = Counted()
    feeder = Feeder(source, 0, 2, 1, stride=3)
    assert numbers(feeder, range(2, 20, 3)) == [2 * turn for turn in range(2, 20, 3)]
    feeder.close()
    made = [2 * turn for turn in range(2, 23, 3)]
    assert source.starts in (made, made[:-1])


def test_with_reuse_a_block_goes_round() -> None:
    source = Counted()
    feeder = Feeder(source, 0, 1, 2)
    once = list(range(BLOCK))
    assert numbers(feeder, range(3 * BLOCK)) == once + once + [n + BLOCK for n in once]
    feeder.close()
    assert len(source.starts) == len(set(source.starts))


def test_beginning_in_the_middle_gives_the_same_batches() -> None:
    whole, resumed = Feeder(Counted(), 0, 2, 3), Feeder(Counted(), 0, 2, 3)
    numbers(whole, range(BLOCK + 5))
    for turn in range(BLOCK + 5, BLOCK + 12):
        one, other = whole.batch(turn, random_for(turn)), resumed.batch(turn, random_for(turn))
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.masks, other.masks)
    whole.close()
    resumed.close()


def test_what_is_wrong_with_the_clips_reaches_the_caller() -> None:
    class Broken:
        def batch(self, seed: int, start: int, count: int) -> ClipBatch:
            raise ValueError("no clips")

    feeder = Feeder(Broken(), 0, 1, 1)
    with pytest.raises(ValueError, match="no clips"):
        feeder.batch(0, random_for(0))
    feeder.close()


def test_frames_masks_and_presence_change_together() -> None:
    batch = Discs(3, 16).batch(0, 0, 2)
    seen = set()
    for number in range(30):
        other = changed(batch, random_for(number))
        assert torch.equal(other.masks.any(-1).any(-1), other.present)
        backwards = bool(other.present[0, -1, 1])  # the square is there on the first frame only
        mirrored = bool(other.masks[:, :, 1, :, 0].any())  # and touches the right edge
        axes = [-1] * mirrored + [1] * backwards
        assert torch.equal(other.frames.flip(axes), batch.frames)
        seen.add((mirrored, backwards))
    assert len(seen) == 4
