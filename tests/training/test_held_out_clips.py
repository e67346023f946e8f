"""Which made-up clips are measured on: an object in view all the time, or away for ten frames and back."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetam_model.errors import InputError
from edgetam_model.training import held_out_clips
from edgetam_model.training.held_out_clips import (
    Absence,
    HeldOutOptions,
    find_absence,
    is_steady,
    returning_clips,
    steady_clips,
)
from edgetam_model.training.synthetic.clips import SyntheticClips
from edgetam_model.training.synthetic.options import SyntheticOptions
from edgetam_model.training.textures import TextureBank, load_textures

PIXELS = 10_000  # of a frame; 20 are the least that an object must show
SMALL = HeldOutOptions(clips=3, frames=4, size=64)


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return load_textures(procedural=24)


def areas(*runs: tuple[int, int]) -> held_out_clips.Areas:
    """(area, frames) after each other."""
    return np.concatenate([np.full(frames, area, np.int64) for area, frames in runs])


def test_an_object_is_steady_while_it_shows_a_five_hundredth_of_the_frame() -> None:
    assert is_steady(areas((20, 3), (900, 2)), PIXELS)
    assert not is_steady(areas((900, 3), (19, 1), (900, 2)), PIXELS)


@pytest.mark.parametrize("hidden", [10, 12])
def test_an_absence_and_the_first_five_whole_frames_after_it(hidden: int) -> None:
    shown = areas((100, 2), (30, 1), (0, hidden), (49, 1), (50, 2), (10, 1), (300, 6))
    back = 3 + hidden
    chances = (back + 1, back + 2, back + 4, back + 5, back + 6)
    assert find_absence(shown, PIXELS) == Absence(range(3, back), chances)


@pytest.mark.parametrize(
    ("why", "shown"),
    [
        ("too short", areas((100, 3), (0, 9), (100, 6))),
        ("too long", areas((100, 3), (0, 13), (100, 6))),
        ("never", areas((100, 20))),
        ("twice", areas((100, 3), (0, 6), (100, 1), (0, 5), (100, 6))),
        ("leaves again", areas((100, 3), (0, 10), (100, 6), (0, 1))),
        ("does not return", areas((100, 8), (0, 10))),
        ("returns in part", areas((100, 3), (0, 10), (49, 6), (100, 2))),
        ("not there first", areas((0, 10), (100, 6))),
        ("hardly there first", areas((19, 3), (0, 10), (19, 6))),
    ],
)
def test_what_is_not_asked_for(why: str, shown: held_out_clips.Areas) -> None:
    assert find_absence(shown, PIXELS) is None, why


@given(st.lists(st.tuples(st.sampled_from([0, 10, 20, 60, 100]), st.integers(1, 13)), min_size=1, max_size=6))
def test_an_absence_is_what_its_docstring_says(runs: list[tuple[int, int]]) -> None:
    shown = areas(*runs)
    found = find_absence(shown, PIXELS)
    if found is None:
        return
    assert 10 <= len(found.hidden) <= 12
    assert [t for t in range(len(shown)) if shown[t] == 0] == list(found.hidden)
    assert 3 <= len(found.chances) <= 5
    assert found.hidden.start > 0
    assert min(found.chances) >= found.hidden.stop
    assert all(shown[t] >= shown[0] / 2 >= 10 for t in found.chances)


def test_steady_clips_are_the_generators_and_stay_in_view(bank: TextureBank) -> None:
    clips = list(steady_clips(SMALL, bank))
    assert len(clips) == 3
    look = SyntheticOptions(size=64, frames=4, p_leave=0)
    for clip in clips:
        assert clip.frames.shape == (4, 64, 64, 3)
        assert (clip.areas >= 0.002 * 64**2).all()
        made = SyntheticClips(look, bank).batch(SMALL.seed, clip.number, 1)
        assert torch.equal(torch.from_numpy(clip.frames).permute(0, 3, 1, 2), made.frames[0])
        assert torch.equal(torch.from_numpy(clip.truth), made.masks[0, :, 0])
    other = next(steady_clips(replace(SMALL, seed=1), bank))
    assert not np.array_equal(other.frames, clips[0].frames)


def test_returning_clips_hide_their_object_in_both_ways(bank: TextureBank) -> None:
    clips = list(returning_clips(replace(SMALL, clips=3), bank))
    assert [returning.way for returning in clips] == ["outside", "behind", "outside"]
    for returning in clips:
        shown = returning.clip.areas
        assert len(shown) == 24
        assert np.flatnonzero(shown == 0).tolist() == list(returning.absence.hidden)
        assert find_absence(shown, 64**2) == returning.absence


def test_giving_up_when_no_clip_is_fit(bank: TextureBank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out_clips, "PATIENCE", 3)
    monkeypatch.setattr(held_out_clips, "is_steady", lambda areas, pixels: False)
    with pytest.raises(InputError, match="clips: 3 in a row of 4 frames show too little"):
        list(steady_clips(SMALL, bank))


def test_patience_counts_clips_in_a_row(bank: TextureBank, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def every_third(areas: held_out_clips.Areas, pixels: int) -> bool:
        asked.append(pixels)
        return len(asked) % 3 == 0

    monkeypatch.setattr(held_out_clips, "PATIENCE", 3)
    monkeypatch.setattr(held_out_clips, "is_steady", every_third)
    numbers = [clip.number for clip in islice(steady_clips(replace(SMALL, frames=2), bank), 3)]
    assert (numbers, set(asked)) == ([2, 5, 8], {64**2})


@settings(max_examples=30)
@given(st.integers(-5, 300), st.integers(-5, 300), st.integers(-5, 1100), st.integers(-5, 5))
def test_options_are_refused_by_name(clips: int, frames: int, size: int, seed: int) -> None:
    good = {
        "clips": clips >= 1,
        "frames": 2 <= frames <= 256,
        "seed": seed >= 0,
        "size": 16 <= size <= 1024 and size % 16 == 0,
    }
    if all(good.values()):
        HeldOutOptions(clips, frames, size, seed)
        return
    with pytest.raises(InputError) as caught:
        HeldOutOptions(clips, frames, size, seed)
    assert not good[caught.value.field]
