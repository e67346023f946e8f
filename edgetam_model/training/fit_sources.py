"""What fine-tuning learns from: a team's stills and tracks, and made-up clips against forgetting, in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from edgetam_model.training.annotated import AnnotatedClip
from edgetam_model.training.feed import ClipSource
from edgetam_model.training.recipe import Recipe
from edgetam_model.training.synthetic.clips import ClipBatch, SyntheticClips
from edgetam_model.training.textures import load_textures
from edgetam_model.training.trainer import OpenClips, Sources
from edgetam_model.training.windows import AnnotatedWindows, WindowOptions

ORIGIN = "a team's annotations and synthetic clips"


class Turns:
    """Sources that take turns, a batch each; every batch is of one of them alone.

    Args:
        sources: at least one; each may have clips of its own length.
    """

    def __init__(self, sources: Sequence[ClipSource]) -> None:
        self.sources = tuple(sources)

    def batch(self, seed: int, start: int, count: int) -> ClipBatch:
        """Clips `start` to `start + count - 1`, of the source whose turn it is."""
        return self.sources[start // count % len(self.sources)].batch(seed, start, count)


def fit_sources(
    recipe: Recipe,
    clips: Sequence[AnnotatedClip],
    dev: Sequence[AnnotatedClip],
    size: int,
    device: torch.device,
) -> Sources:
    """The sources of a fine-tuning.

    Stills and tracks take the team's turns alternately where there are both, so that a few tracks are not
    lost among many stills.

    Args:
        recipe: from `fit_recipe`.
        clips: of the tasks to learn from; those of one frame are stills.
        dev: clips to choose the best weights by; none: the last are taken, and `clips` are looked at once,
            at the end.
        size: side of the model's input in pixels.
        device: where made-up clips are made.
    """
    made_up = SyntheticClips(
        replace(recipe.synthetic, size=size, frames=recipe.video.frames), load_textures(None), device
    )
    windows = replace(recipe.windows, size=size)
    stills = [clip for clip in clips if len(clip) == 1]
    tracks = [clip for clip in clips if len(clip) > 1]

    def open_training(frames: int) -> ClipSource:
        own: list[ClipSource] = []
        if stills:
            own.append(AnnotatedWindows(stills, replace(windows, frames=1)))
        if tracks:
            own.append(AnnotatedWindows(tracks, replace(windows, frames=frames)))
        return Turns([source for each in own for source in (each, made_up)])

    return Sources(open_training, _windows(dev or clips, windows), origin=ORIGIN)


def _windows(clips: Sequence[AnnotatedClip], options: WindowOptions) -> OpenClips:
    def open_clips(frames: int) -> ClipSource:
        return AnnotatedWindows(clips, replace(options, frames=frames))

    return open_clips
