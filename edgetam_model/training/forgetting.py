"""A fixed set of made-up clips that shows whether a fine-tuned model still tracks what it used to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Self

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.model import EdgeTAM
from edgetam_model.training.held_out import follow, score_roll_out
from edgetam_model.training.held_out_clips import HeldOutClip, HeldOutOptions, steady_clips
from edgetam_model.training.textures import load_textures
from edgetam_model.video_tracker import VideoTracker

# Of clips and textures: trainings begin at 0, the other held-out clips at 880,001, validation at 990,001.
FORGETTING_SEED = 770_001
TEXTURES = 64  # tiles; more take longer to make and change little
_LARGE = 256  # pixels of input; above, a frame takes seconds on a CPU


@dataclass(frozen=True)
class ForgettingSet:
    """Clips that no training and no other measurement sees: the same ones for every version of a project.

    Attributes:
        clips: how many; a few clips more make a smaller fall visible.
        frames: of each; the first is shown.
        size: side of the square frames in pixels.

    Raises:
        InputError: from `score`, values that `HeldOutOptions` refuses.
    """

    clips: int = 12
    frames: int = 8
    size: int = 128

    @classmethod
    def affordable(cls, config: EdgeTAMConfig) -> Self:
        """As many clips as a CPU core tracks in a time that people wait for: 9 s for `nano`; fewer for
        large inputs, 40 s for the published sizes."""
        return cls(clips=4, frames=5, size=256) if config.image_size > _LARGE else cls()

    def score(self, model: EdgeTAM, tick: Callable[[], None] | None = None) -> tuple[float, ...]:
        """Mean J of each clip's later frames, tracked from the true mask of its first.

        Args:
            model: in eval mode.
            tick: called after each clip; what it raises ends the scoring.
        """
        tracker = VideoTracker(model)
        means: list[float] = []
        for clip in self._clips:
            means.append(fmean(score_roll_out(clip, follow(tracker, clip)).j))
            if tick is not None:
                tick()
        return tuple(means)

    @cached_property
    def _clips(self) -> tuple[HeldOutClip, ...]:
        """Kept, because two models are asked."""
        options = HeldOutOptions(self.clips, self.frames, self.size, FORGETTING_SEED)
        return tuple(steady_clips(options, load_textures(None, procedural=TEXTURES, seed=FORGETTING_SEED)))
