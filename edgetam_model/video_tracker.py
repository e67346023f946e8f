"""The door to tracking: a model and its options, from which sessions are opened and resumed."""

from __future__ import annotations

from dataclasses import replace

from edgetam_model.checkpoint import restore
from edgetam_model.model import EdgeTAM
from edgetam_model.options import Quality, TrackerOptions
from edgetam_model.runtime.choosing import in_quality
from edgetam_model.session import VideoSession
from edgetam_model.video import MediaLimits, Source, open_source


class VideoTracker:
    """Opens sessions that track objects through videos; one tracker serves any number of them.

    Args:
        model: in eval mode.
        options: how to track.
    """

    def __init__(self, model: EdgeTAM, options: TrackerOptions | None = None) -> None:
        self.model = model
        self.options = options or TrackerOptions()

    def open(
        self, source: Source, limits: MediaLimits | None = None, *, quality: Quality | None = None
    ) -> VideoSession:
        """Start a session on a video file, a folder of images, or uint8 (H, W, 3) arrays.

        Args:
            source: the video.
            limits: of what is read.
            quality: of this session; None: the options'.

        Raises:
            InputError: `quality`, not known, or the weights have no fast mode.
            MediaError: the source is refused or cannot be read.
        """
        options = self.options if quality is None else replace(self.options, quality=quality)
        model = in_quality(self.model, options.quality)
        return VideoSession(model, options, open_source(source, limits))

    def resume(self, blob: bytes, source: Source, limits: MediaLimits | None = None) -> VideoSession:
        """Go on from `VideoSession.checkpoint`, on the same video and weights, to the same masks.

        The checkpoint's own options stay in force.

        Raises:
            CheckpointError: damaged bytes, or a checkpoint of another version, model or video.
            MediaError: the source is refused or cannot be read.
        """
        return restore(blob, self.model, open_source(source, limits))
