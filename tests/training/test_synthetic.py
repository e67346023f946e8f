"""The clip generator: same seeds same bits, masks that are what is seen, hidden things that are hidden."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetam_model.errors import InputError
from edgetam_model.training.synthetic.clips import SyntheticClips
from edgetam_model.training.synthetic.compose import compose
from edgetam_model.training.synthetic.draws import Draws
from edgetam_model.training.synthetic.optics import compress
from edgetam_model.training.synthetic.options import SyntheticOptions
from edgetam_model.training.textures import TextureBank, load_textures

SWITCHES = [field.name for field in fields(SyntheticOptions) if field.name.startswith("p_")]


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return load_textures(procedural=24)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def plain(**changes: Any) -> SyntheticOptions:
    """Nothing happens but what is asked for."""
    off: dict[str, Any] = dict.fromkeys(SWITCHES, 0.0)
    return replace(SyntheticOptions(size=64, frames=6, **off), **changes)


def test_a_clip_is_the_same_alone_and_among_others(bank: TextureBank) -> None:
    clips = SyntheticClips(SyntheticOptions(size=64), bank)
    many = clips.batch(seed=3, start=2, count=12)
    for index in (2, 7, 13):
        alone = clips.make(3, np.array([index]))
        assert torch.equal(alone.frames[0], many.frames[index - 2])
        assert torch.equal(alone.masks[0], many.masks[index - 2])
        assert alone.objects[0] == many.objects[index - 2]


def test_clips_drawn_in_one_pass_are_those_drawn_one_by_one(
    bank: TextureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = SyntheticClips(SyntheticOptions(size=64), bank)
    single = clips.batch(seed=4, start=0, count=6)
    monkeypatch.setattr("edgetam_model.training.synthetic.clips._ON_CPU", 4)  # as on a GPU
    together = clips.batch(seed=4, start=0, count=6)
    assert torch.equal(single.masks, together.masks)
    assert (single.frames.int() - together.frames.int()).abs().max() <= 1


def test_clips_differ_by_seed_and_by_number(bank: TextureBank) -> None:
    clips = SyntheticClips(SyntheticOptions(size=64), bank)
    frames = clips.batch(0, 0, 3).frames
    assert not torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], clips.batch(1, 0, 1).frames[0])
    assert torch.equal(frames, clips.batch(0, 0, 3).frames)


def test_shapes_and_types(bank: TextureBank) -> None:
    batch = SyntheticClips(SyntheticOptions(size=96, frames=5, objects=2), bank).batch(0, 0, 3)
    assert batch.frames.shape == (3, 5, 3, 96, 96)
    assert batch.frames.dtype == torch.uint8
    assert batch.masks.shape == (3, 5, 2, 96, 96)
    assert batch.masks.dtype == torch.bool
    assert torch.equal(batch.present, batch.masks.any(-1).any(-1))
    assert batch.indices.tolist() == [0, 1, 2]
    assert len(batch) == 3


def test_objects_beyond_their_number_are_nowhere_and_no_pixel_has_two(bank: TextureBank) -> None:
    batch = SyntheticClips(SyntheticOptions(size=64, p_occluder=1.0), bank).batch(5, 0, 16)
    assert set(batch.objects.tolist()) == {1, 2, 3}
    for present, count in zip(batch.present, batch.objects.tolist(), strict=True):
        assert not present[:, count:].any()
    assert (batch.masks.sum(dim=2) <= 1).all()
    assert batch.present[:, :, 0].float().mean() > 0.85


def test_masks_are_the_pixels_that_change_with_their_object(bank: TextureBank) -> None:
    """Painted another colour, an object changes the frame where it is seen, and nowhere else."""
    clips = SyntheticClips(plain(objects=3, p_occluder=1.0, p_articulated=1.0, p_part=1.0), bank)
    checked = 0
    for index in range(6):
        times = np.arange(6.0)[None]
        script = clips._write(Draws(8, np.array([index])), times)
        script = replace(script, action=replace(script.action, opacity=torch.ones(1, 6, 5)))
        before = compose(script.canvas, script.sprites, script.action, script.view)
        for thing in range(int(script.cast.active[0, :3].sum())):
            recoloured = script.sprites.pixels.clone()
            recoloured[:, thing, :3] += 1
            limbs = script.action.colours.clone()
            limbs[:, thing] += 1
            sprites = replace(script.sprites, pixels=recoloured)
            after = compose(script.canvas, sprites, replace(script.action, colours=limbs), script.view)
            change = (after.colours - before.colours).abs().amax(dim=1)
            seen = before.visible[:, thing]
            assert (change[seen < 1e-6] < 1e-5).all()
            assert (change[seen > 0.5] > 0.25).all()  # limbs darken what they are painted with
            checked += int((seen > 0.5).sum())
    assert checked > 2000


def test_a_flat_object_has_its_colour_where_its_mask_is(bank: TextureBank) -> None:
    black = replace(bank, tiles=torch.zeros_like(bank.tiles))
    clips = SyntheticClips(plain(objects=1), black)
    script = clips._write(Draws(1, np.array([0])), np.arange(6.0)[None])
    white = script.sprites.pixels.clone()
    white[:, :, :3] = 1
    script = replace(script, sprites=replace(script.sprites, pixels=white), canvas=script.canvas * 0)
    picture = compose(script.canvas, script.sprites, script.action, script.view)
    mask = picture.visible[:, 0] > 0.5
    assert mask.any()
    assert torch.equal(picture.colours[:, 0] > 0.5, mask)


@pytest.mark.parametrize("by_occluder", [0.0, 1.0])
def test_what_leaves_is_hidden_for_as_long_and_comes_back(bank: TextureBank, by_occluder: float) -> None:
    options = SyntheticOptions(
        size=64,
        frames=16,
        p_leave=1.0,
        p_hidden_by_occluder=by_occluder,
        hidden_frames=(10, 10),
        p_close=1.0,
        speed=(0.001, 0.005),
        p_camera=0.3,
        p_motion_blur=0.0,
    )
    main = SyntheticClips(options, bank).batch(2, 0, 12).present[:, :, 0]
    assert ((~main).sum(dim=1) >= 10).all()
    seen_first = main[:, 0]
    assert seen_first.float().mean() > 0.9
    assert main[seen_first, -2:].any(dim=1).float().mean() > 0.7


def test_short_clips_and_stills_can_leave_too(bank: TextureBank) -> None:
    for frames in (1, 2, 3):
        options = SyntheticOptions(size=32, frames=frames, p_leave=1.0, p_motion_blur=0.5)
        assert SyntheticClips(options, bank).batch(0, 0, 4).frames.shape[1] == frames


@pytest.mark.parametrize("name", SWITCHES)
def test_every_probability_may_be_0_and_1(bank: TextureBank, name: str) -> None:
    for value in (0.0, 1.0):
        changed: dict[str, Any] = {name: value}
        options = replace(SyntheticOptions(size=32, frames=3), **changed)
        batch = SyntheticClips(options, bank).batch(0, 0, 2)
        assert batch.frames.float().std() > 1


# What shows in the frames at once; the others change what is drawn or happen over time.
@pytest.mark.parametrize(
    "name", ["p_noise", "p_compression", "p_soft", "p_haze", "p_shade", "p_illumination", "p_contact_shadow"]
)
def test_what_the_camera_adds_can_be_turned_off_and_leaves_the_masks(bank: TextureBank, name: str) -> None:
    off = SyntheticClips(plain(), bank).batch(0, 0, 3)
    on = SyntheticClips(plain(**{name: 1.0}), bank).batch(0, 0, 3)
    assert torch.equal(on.masks, off.masks)
    assert not torch.equal(on.frames, off.frames)


def test_without_movement_all_frames_are_one(bank: TextureBank) -> None:
    still = plain(speed=(1e-5, 1e-5), objects=1)
    frames = SyntheticClips(still, bank).batch(0, 0, 3).frames.int()
    assert (frames - frames[:, :1]).abs().float().mean() < 0.5
    moving = SyntheticClips(replace(still, p_camera=1.0, pan=(0.03, 0.03)), bank).batch(0, 0, 3).frames.int()
    assert (moving - moving[:, :1]).abs().float().mean() > 2


def test_motion_blur_smears_what_moves(bank: TextureBank) -> None:
    fast = plain(speed=(0.05, 0.05), p_camera=1.0, pan=(0.03, 0.03))
    sharp = SyntheticClips(fast, bank).batch(0, 0, 6).frames.float()
    blurred = SyntheticClips(replace(fast, p_motion_blur=1.0, exposure=(0.8, 0.8)), bank).batch(0, 0, 6)
    edges = [(f[..., 1:] - f[..., :-1]).abs().mean() for f in (sharp, blurred.frames.float())]
    assert edges[1] < 0.93 * edges[0]


def test_a_turning_objects_surface_slides_within_its_outline(bank: TextureBank) -> None:
    still = plain(p_photograph=1.0)
    turning = replace(still, p_turn=1.0, turn=(0.2, 0.2))
    made = [SyntheticClips(options, bank).batch(seed=8, start=0, count=6) for options in (still, turning)]
    assert torch.equal(made[0].masks, made[1].masks)
    assert torch.equal(made[0].frames[:, 0], made[1].frames[:, 0]), "it begins where it would be"
    change = (made[0].frames.int() - made[1].frames.int()).abs().amax(2)[:, 1:]
    inside = made[0].masks.any(2)[:, 1:]
    assert (change[inside] > 8).float().mean() > 0.3
    edge = torch.nn.functional.max_pool2d(inside.float(), 5, stride=1, padding=2) > 0
    assert int(change[~edge].max()) <= 1


def test_growth_and_fading(bank: TextureBank) -> None:
    grown = plain(p_growth=1.0, growth=(4.0, 4.0), close_size=(0.3, 0.3), p_close=1.0, objects=1)
    area = SyntheticClips(grown, bank).batch(0, 0, 8).masks[:, :, 0].float().mean((2, 3))
    ratio = area[:, -1] / area[:, 0]
    assert ((ratio > 3) | (ratio < 1 / 3)).float().mean() > 0.7
    faded = plain(p_fade=1.0, fade=(0.05, 0.05), speed=(1e-5, 1e-5), objects=1)
    kept = plain(speed=(1e-5, 1e-5), objects=1)
    one, other = (SyntheticClips(o, bank).batch(0, 0, 4) for o in (faded, kept))
    assert torch.equal(one.masks, other.masks)
    assert not torch.equal(one.frames, other.frames)


def test_compression_keeps_grey_and_loses_more_at_lower_quality() -> None:
    torch.manual_seed(0)
    grey = torch.full((1, 1, 3, 32, 32), 0.5)
    assert torch.allclose(compress(grey, torch.tensor([50.0])), grey, atol=1e-4)
    noisy = torch.rand(2, 1, 3, 32, 32)
    errors = [(compress(noisy, torch.full((2,), q)) - noisy).abs().mean() for q in (20.0, 60.0, 95.0)]
    assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 100),
        ("size", 0),
        ("size", 64.0),
        ("frames", 0),
        ("objects", 9),
        ("subframes", 1),
        ("p_leave", 1.5),
        ("p_noise", float("nan")),
        ("speed", (0.1, 0.01)),
        ("speed", (0.0, 0.1)),
        ("growth", (0.5, 2.0)),
        ("hidden_frames", 3),
        ("quality", (0.0, 50.0)),
        ("noise", ("a", "b")),
        ("zoom", -0.1),
    ],
)
def test_options_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        SyntheticOptions(**{field: value})
    assert caught.value.field == field


def test_batches_of_nothing_are_refused(bank: TextureBank) -> None:
    clips = SyntheticClips(SyntheticOptions(size=32), bank)
    for start, count in ((-1, 1), (0, 0)):
        with pytest.raises(InputError):
            clips.batch(0, start, count)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(-(2**70), 2**70), indices=st.lists(st.integers(0, 2**62), min_size=1, max_size=8))
def test_draws_depend_on_seed_and_index_alone(seed: int, indices: list[int]) -> None:
    many = Draws(seed, np.array(indices))
    first, second = many.uniform(3, 2), many.uniform(5)
    for row, index in enumerate(indices):
        alone = Draws(seed, np.array([index]))
        assert (alone.uniform(3, 2)[0] == first[row]).all()
        assert (alone.uniform(5)[0] == second[row]).all()
    assert ((first >= 0) & (first < 1)).all()


def test_a_stream_beside_another_leaves_it_alone() -> None:
    draws, untouched = (Draws(3, np.arange(4)) for _ in range(2))
    other = draws.beside(17)
    assert not np.array_equal(other.uniform(5), untouched.beside(18).uniform(5))
    assert np.array_equal(draws.uniform(5), untouched.uniform(5))


def test_draws_are_even_and_independent() -> None:
    draws = Draws(0, np.arange(20000))
    values, later = draws.uniform(2), draws.uniform(1)
    assert np.allclose(values.mean(axis=0), 0.5, atol=0.01)
    assert np.allclose(values.std(axis=0), 12**-0.5, atol=0.01)
    table = np.corrcoef(np.concatenate((values, later), axis=1).T)
    assert np.abs(table - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(values[1:, 0], values[:-1, 0])[0, 1]) < 0.03
    normal = draws.normal(1)
    assert abs(normal.mean()) < 0.03
    assert abs(normal.std() - 1) < 0.03
    assert np.bincount(draws.integers(4, 1)[:, 0], minlength=4).min() > 4700
    assert (np.sort(draws.order(5), axis=1) == np.arange(5)).all()
