"""Clips from photographs: the same for the same seed, the object where its mask is, nothing to download."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from edgetam_model.commands.progress import LineMeter
from edgetam_model.commands.training import TrainJob, run_job
from edgetam_model.errors import InputError
from edgetam_model.masks import mask_box, mask_iou
from edgetam_model.training import photo_clips
from edgetam_model.training.clip_sources import synthetic_sources, with_photos_held_out
from edgetam_model.training.photo_clips import (
    FILLING,
    FREE_PHOTOS,
    Outlined,
    PhotoClips,
    draw_cover,
    load_cutout,
    outlined_objects,
)
from edgetam_model.training.recipe import Recipe, Validation
from edgetam_model.training.synthetic.clips import ClipBatch

OBJECTS = len(outlined_objects())
SIZE = 64

needs_photos = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="the photographs come with scikit-image"
)


@pytest.fixture(scope="module")
def batch() -> ClipBatch:
    """Every object once."""
    return PhotoClips(SIZE, 6).batch(5, 0, OBJECTS)


@needs_photos
def test_shapes_and_kinds(batch: ClipBatch) -> None:
    assert (batch.frames.shape, batch.frames.dtype) == ((OBJECTS, 6, 3, SIZE, SIZE), torch.uint8)
    assert (batch.masks.shape, batch.masks.dtype) == ((OBJECTS, 6, 1, SIZE, SIZE), torch.bool)
    assert batch.objects.tolist() == [1] * OBJECTS
    assert batch.indices.tolist() == list(range(OBJECTS))
    assert torch.equal(batch.present, batch.masks.any(-1).any(-1))


@needs_photos
def test_a_clip_is_the_same_alone_and_another_for_another_seed(batch: ClipBatch) -> None:
    alone = PhotoClips(SIZE, 6).batch(5, 4, 1)
    assert torch.equal(alone.frames[0], batch.frames[4])
    assert torch.equal(alone.masks[0], batch.masks[4])
    assert not torch.equal(PhotoClips(SIZE, 6).batch(6, 4, 1).masks[0], batch.masks[4])
    assert not torch.equal(PhotoClips(SIZE, 6).batch(5, 4 + OBJECTS, 1).masks[0], batch.masks[4])


@needs_photos
def test_every_object_is_on_the_first_frame_at_its_size(batch: ClipBatch) -> None:
    short = 0.75 * FILLING[0] * SIZE  # a thin end covers no pixel by half
    for number, mask in enumerate(batch.masks[:, 0, 0].numpy()):
        thing, cutout = outlined_objects()[number], load_cutout(number)
        box = mask_box(mask)
        assert box is not None, thing.name
        longer = max(box[2] - box[0], box[3] - box[1])
        # What is cut off at a photograph's edge goes on beyond it, to the window's.
        whole = min(cutout.box[:2]) > 0 and cutout.box[2] < cutout.size[0] and cutout.box[3] < cutout.size[1]
        assert short <= longer <= (FILLING[1] * SIZE + 2 if whole else SIZE), thing.name


@needs_photos
def test_objects_move_otherwise_than_what_is_behind_them(
    batch: ClipBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OWN_STEP", "OWN_GROWTH", "OWN_TURN", "BEND"):
        monkeypatch.setattr(photo_clips, name, 0.0)
    still = PhotoClips(SIZE, 6).batch(5, 0, OBJECTS)
    assert torch.equal(still.masks[:, 0], batch.masks[:, 0]), "the first frame is the photograph"
    pairs = zip(still.masks[:, -1, 0].numpy(), batch.masks[:, -1, 0].numpy(), strict=True)
    assert float(np.median([mask_iou(a, b) for a, b in pairs])) < 0.97


@needs_photos
def test_the_camera_moves_and_keeps_the_object_in_sight(batch: ClipBatch) -> None:
    moved = [mask_iou(m[0], m[-1]) for m in batch.masks[:, :, 0].numpy()]
    assert float(np.median(moved)) < 0.9
    assert batch.present.float().mean() > 0.98


@needs_photos
def test_masks_lie_on_their_objects() -> None:
    """Coins are brighter than what they lie on, in every frame."""
    coins = [i for i, thing in enumerate(outlined_objects()) if thing.photo == "coins"]
    assert len(coins) == 3
    for index in coins:
        clip = PhotoClips(96, 6).batch(1, index, 1)
        bright = clip.frames[0].float().mean(1)
        mask = clip.masks[0, :, 0]
        around = torch.nn.functional.max_pool2d(mask.float()[:, None], 9, 1, 4)[:, 0].bool() & ~mask
        for frame in range(6):
            assert bright[frame][mask[frame]].mean() > bright[frame][around[frame]].mean() + 25


@needs_photos
def test_the_background_lost_its_object() -> None:
    """The rocket is white against a dark blue sky, which then fills its place."""
    number = [thing.name for thing in outlined_objects()].index("rocket")
    cutout = load_cutout(number)
    inside = cutout.cover > 127
    assert cutout.photo[inside].mean() > 1.5 * cutout.behind[inside].mean()
    far = cutout.cover == 0
    assert (cutout.photo[far] == cutout.behind[far]).all(axis=1).mean() > 0.95


@needs_photos
@pytest.mark.parametrize("number", range(OBJECTS))
def test_outlines_lie_in_their_photograph(number: int) -> None:
    thing, cutout = outlined_objects()[number], load_cutout(number)
    assert thing.photo in FREE_PHOTOS
    for points in thing.outlines:
        assert len(points) >= 4
        assert (points >= 0).all()
        assert (points <= np.array(cutout.size)).all()
    share = (cutout.cover > 127).mean()
    assert 0.001 < share < 0.8


def test_there_are_many_objects_of_many_photographs() -> None:
    names = [thing.name for thing in outlined_objects()]
    assert len(set(names)) == len(names) >= 16
    assert {thing.photo for thing in outlined_objects()} == set(FREE_PHOTOS)


def test_an_outline_inside_another_cuts_a_hole() -> None:
    square = np.array([[4, 4], [20, 4], [20, 20], [4, 20]], float)
    cover = draw_cover(Outlined("ring", "coins", (square, square / 2 + 6)), 24, 26)
    assert cover.shape == (24, 26)
    assert cover[6, 6] == cover[12, 6] == cover[12, 17] == 255
    assert cover[12, 12] == cover[1, 1] == cover[12, 23] == 0
    assert abs(int((cover > 127).sum()) - (16 * 16 - 8 * 8)) <= 2  # a corner is rounded


def test_without_the_package_the_field_and_the_cure_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    sources = synthetic_sources(Recipe(), SIZE, torch.device("cpu"))
    with pytest.raises(InputError, match=r"validation\.source: .*pip install scikit-image"):
        with_photos_held_out(sources, Recipe(), SIZE, torch.device("cpu"))


@needs_photos
def test_a_recipe_may_ask_for_photographs() -> None:
    recipe = Recipe(size=48, validation=Validation(source="photos"))
    sources = synthetic_sources(recipe, SIZE, torch.device("cpu"))
    photos = with_photos_held_out(sources, recipe, SIZE, torch.device("cpu"))
    assert photos.held_out(3).batch(0, 0, 2).frames.shape == (2, 3, 3, 48, 48)
    assert photos.training is sources.training


def test_photographs_and_other_held_out_clips_exclude_each_other(tmp_path: Path) -> None:
    recipe = tmp_path / "photos.toml"
    recipe.write_text('[validation]\nsource = "photos"\n')
    job = TrainJob(str(recipe), tmp_path / "out", config="tiny", held_out=(tmp_path,), device="cpu")
    with pytest.raises(InputError, match="held out already"):
        run_job(job, LineMeter(io.StringIO()))


@pytest.mark.parametrize(("size", "frames", "field"), [(0, 2, "size"), (8, 0, "frames")])
def test_sizes_out_of_range(size: int, frames: int, field: str) -> None:
    with pytest.raises(InputError) as caught:
        PhotoClips(size, frames)
    assert caught.value.field == field


@needs_photos
@pytest.mark.parametrize(("start", "count"), [(-1, 2), (0, 0)])
def test_clips_that_do_not_exist(start: int, count: int) -> None:
    with pytest.raises(InputError, match="count"):
        PhotoClips(8, 1).batch(0, start, count)


def test_a_source_that_nobody_knows() -> None:
    with pytest.raises(InputError, match="source: expected same or photos"):
        Validation(source="films")
