"""What a training learns from and is validated on: made-up clips, or a team's own annotated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from edgetam_model.errors import InputError
from edgetam_model.training.annotated import AnnotatedClip
from edgetam_model.training.datasets import open_annotated
from edgetam_model.training.feed import ClipSource
from edgetam_model.training.photo_clips import PhotoClips
from edgetam_model.training.recipe import Recipe
from edgetam_model.training.synthetic.clips import SyntheticClips
from edgetam_model.training.textures import load_textures
from edgetam_model.training.trainer import OpenClips, Sources
from edgetam_model.training.windows import AnnotatedWindows
from edgetam_model.weights import OWN_LICENCE

HELD_OUT_SHARE = 10  # without a folder of its own, every tenth clip is held out


def synthetic_sources(
    recipe: Recipe, size: int, device: torch.device, textures: Path | None = None
) -> Sources:
    """Endless made-up clips, made on the device; what is held out differs by its seed.

    Args:
        size: side in pixels where the recipe names none.
        textures: photographs to use; procedural textures alone otherwise.

    Raises:
        InputError: no such textures, or a size that clips cannot have.
    """
    bank = load_textures(textures)
    options = replace(recipe.synthetic, size=recipe.size or size)

    def open_clips(frames: int) -> ClipSource:
        return SyntheticClips(replace(options, frames=frames), bank, device)

    origin = "synthetic clips" if textures is None else "synthetic clips, textures of a folder"
    licence = OWN_LICENCE if textures is None else "unknown"
    return Sources(open_clips, open_clips, licence, origin)


def annotated_sources(
    recipe: Recipe, size: int, data: Sequence[Path], held_out: Sequence[Path] = ()
) -> Sources:
    """Windows of annotated clips; what is held out are other clips.

    Args:
        size: side in pixels where the recipe names none.
        data: what `open_annotated` takes.
        held_out: the same, to validate on; without it every tenth clip of `data` is kept for that.

    Raises:
        InputError: nothing that can be read, or too few clips to hold one out.
    """
    clips = _read(data)
    kept = _read(held_out)
    if not kept:
        kept, clips = clips[::HELD_OUT_SHARE], [c for i, c in enumerate(clips) if i % HELD_OUT_SHARE]
    if not clips:
        raise InputError("data", "expected at least two clips, or others to hold out")
    return Sources(_windows(recipe, size, clips), _windows(recipe, size, kept), origin="annotated clips")


def with_photos_held_out(sources: Sources, recipe: Recipe, size: int, device: torch.device) -> Sources:
    """The same sources, but validated on objects of free photographs.

    Args:
        size: side in pixels where the recipe names none.

    Raises:
        InputError: scikit-image, which brings the photographs, is not installed.
    """
    PhotoClips(1, 1)  # refuses at once, not at the first validation

    def open_clips(frames: int) -> ClipSource:
        return PhotoClips(recipe.size or size, frames, device)

    return replace(sources, held_out=open_clips)


def _read(paths: Sequence[Path]) -> list[AnnotatedClip]:
    return [clip for path in paths for clip in open_annotated(path)]


def _windows(recipe: Recipe, size: int, clips: list[AnnotatedClip]) -> OpenClips:
    options = replace(recipe.windows, size=recipe.size or size)

    def open_clips(frames: int) -> ClipSource:
        return AnnotatedWindows(clips, replace(options, frames=frames))

    return open_clips
