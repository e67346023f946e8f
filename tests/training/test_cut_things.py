"""Cut-outs in synthetic clips: they play where the bank has some, and change nothing where it has none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgetam_model.errors import InputError
from edgetam_model.training.cutouts import cut_thing
from edgetam_model.training.synthetic.clips import Script, SyntheticClips
from edgetam_model.training.synthetic.draws import Draws
from edgetam_model.training.synthetic.events import MAIN
from edgetam_model.training.synthetic.options import SyntheticOptions
from edgetam_model.training.textures import TextureBank, load_textures
from tests.training.test_cutouts import disc
from tests.training.test_synthetic import plain


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    """Two things: a disc, and one with a step in it."""
    step = disc(128, 60, 64, 64)
    step[:64, :64, 3] = 0
    things = [cut_thing(disc(128, 50, 64, 64)), cut_thing(step)]
    cutouts = torch.from_numpy(np.stack([thing for thing in things if thing is not None]))
    return replace(load_textures(procedural=24), cutouts=cutouts)


def script_of(bank: TextureBank, options: SyntheticOptions, index: int = 0) -> Script:
    return SyntheticClips(options, bank)._write(Draws(2, np.array([index])), np.arange(4.0)[None])


def test_a_bank_without_cutouts_gives_the_clips_it_gave(bank: TextureBank) -> None:
    plain_bank = load_textures(procedural=24)
    never = SyntheticClips(SyntheticOptions(size=64, p_cutout=0.0), bank).batch(1, 0, 4)
    without = SyntheticClips(SyntheticOptions(size=64, p_cutout=1.0), plain_bank).batch(1, 0, 4)
    assert torch.equal(never.frames, without.frames)
    assert torch.equal(never.masks, without.masks)


def test_clips_with_cutouts_are_the_same_alone_and_together(
    bank: TextureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = SyntheticClips(SyntheticOptions(size=64, p_cutout=0.5), bank)
    single = clips.batch(4, 0, 6)
    assert torch.equal(single.frames[3], clips.make(4, np.array([3])).frames[0])
    monkeypatch.setattr("edgetam_model.training.synthetic.clips._ON_CPU", 4)
    together = clips.batch(4, 0, 6)
    assert (single.masks != together.masks).float().mean() < 1e-4  # sums of another order, at the outline
    assert (single.frames.int() - together.frames.int()).abs().float().mean() < 0.01


def test_a_cutout_has_its_shape_and_no_limbs(bank: TextureBank) -> None:
    script = script_of(bank, plain(objects=1, p_cutout=1.0, p_articulated=1.0))
    assert (script.cast.cuts.which >= 0).all()
    assert not script.cast.limbed.any()
    inside = script.sprites.pixels[0, MAIN, 3] > 0.5
    share = float(inside.float().mean())
    full = np.pi * 0.9**2 / 2.6**2  # the disc's, of a sprite
    step = script.cast.cuts.which[0, MAIN] == 1
    assert share == pytest.approx(full * (0.75 if step else 1), rel=0.45)  # stretched, and scaled to its box


def test_slim_cutouts_fill_less_of_their_place(bank: TextureBank) -> None:
    def shares(p_slim: float) -> float:
        options = plain(objects=1, p_cutout=1.0, p_slim=p_slim, slim=(3.0, 3.0))
        scripts = [script_of(bank, options, index) for index in range(8)]
        return sum(float((s.sprites.pixels[0, MAIN, 3] > 0.5).float().mean()) for s in scripts)

    assert shares(1.0) == pytest.approx(shares(0.0) / 3, rel=0.3)


def test_limbs_of_cutouts_make_them_larger(bank: TextureBank) -> None:
    """And leave the rest of the clip as it was; longer limbs reach farther."""

    def masks(p_limbs: float, length: float) -> torch.Tensor:
        options = plain(objects=1, p_cutout=1.0, p_articulated=1.0, p_cutout_limbs=p_limbs)
        options = replace(options, limb_length=(length, length))
        return SyntheticClips(options, bank).batch(3, 0, 8).masks[:, 0, 0]

    without, short, long = masks(0.0, 0.2), masks(1.0, 0.2), masks(1.0, 0.8)
    assert not (without & ~short).any()
    assert without.sum() < short.sum() < long.sum()


def test_a_twin_is_what_the_main_thing_is(bank: TextureBank) -> None:
    for index in range(6):
        cuts = script_of(bank, plain(objects=1, p_cutout=0.5, p_twin=1.0), index).cast.cuts
        assert cuts.which[0, 1] == cuts.which[0, MAIN]
        assert np.array_equal(cuts.mix[0, 1], cuts.mix[0, MAIN])


def test_what_must_hide_is_a_box(bank: TextureBank) -> None:
    options = plain(objects=1, p_cutout=1.0, p_leave=1.0, p_hidden_by_occluder=1.0)
    for index in range(4):
        assert script_of(bank, options, index).cast.cuts.which[0, 2] == -1


def test_a_bank_s_cutouts_are_checked() -> None:
    tiles = torch.zeros(1, 3, 128, 128, dtype=torch.uint8)
    with pytest.raises(InputError, match="cutouts"):
        TextureBank(tiles, 0, torch.zeros(1, 3, 128, 128, dtype=torch.uint8))
    with pytest.raises(InputError, match="cutouts"):
        TextureBank(tiles, 0, torch.zeros(1, 4, 128, 128))
