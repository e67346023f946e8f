"""What is held out is never trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgetam_model.errors import InputError
from edgetam_model.training.clip_sources import annotated_sources, synthetic_sources
from edgetam_model.training.recipe import Recipe
from edgetam_model.training.windows import AnnotatedWindows


def write_clips(root: Path, count: int) -> Path:
    for number in range(count):
        for name, value in (("frames", 90 + number), ("masks", 0)):
            folder = root / f"clip{number:02d}" / name
            folder.mkdir(parents=True)
            image = np.full((40, 60), value, np.uint8)
            if name == "masks":
                image[10:30, 20:45] = 1
            for frame in range(2):
                Image.fromarray(image).save(folder / f"{frame}.png")
    return root


def names(source: object) -> set[str]:
    assert isinstance(source, AnnotatedWindows)
    return {clip.name for clip in source.clips}


def test_every_tenth_annotated_clip_is_held_out(tmp_path: Path) -> None:
    sources = annotated_sources(Recipe(), 64, [write_clips(tmp_path, 12)])
    trained, kept = names(sources.training(2)), names(sources.held_out(2))
    assert kept == {"clip00", "clip10"}
    assert len(trained) == 10
    assert not trained & kept
    batch = sources.training(3).batch(0, 0, 2)
    assert batch.frames.shape == (2, 3, 3, 64, 64)


def test_a_folder_of_its_own_is_held_out_whole(tmp_path: Path) -> None:
    data, other = write_clips(tmp_path / "a", 3), write_clips(tmp_path / "b", 2)
    sources = annotated_sources(Recipe(size=32), 64, [data], [other])
    assert len(names(sources.training(2))) == 3
    assert len(names(sources.held_out(2))) == 2
    assert sources.held_out(2).batch(0, 0, 1).frames.shape[-1] == 32, "the recipe's size wins"


def test_one_clip_alone_cannot_be_both(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two clips"):
        annotated_sources(Recipe(), 64, [write_clips(tmp_path, 1)])


def test_made_up_clips_have_the_models_size_and_the_stages_length() -> None:
    sources = synthetic_sources(Recipe(), 64, torch.device("cpu"))
    batch = sources.training(2).batch(0, 0, 1)
    assert batch.frames.shape == (1, 2, 3, 64, 64)
    assert not torch.equal(sources.held_out(2).batch(Recipe().validation.seed, 0, 1).frames, batch.frames)
