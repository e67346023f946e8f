"""EdgeTAM: segment what is clicked, and follow it through a video.

The names below are the public face. Each is loaded when it is first asked for, so that importing the
package reads nothing, starts nothing and does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetam_model.config import CONFIGS, EdgeTAMConfig
    from edgetam_model.errors import (
        CheckpointError,
        EdgeTAMError,
        InputError,
        MediaError,
        PromptError,
        SessionError,
        WeightsError,
    )
    from edgetam_model.image_predictor import EverythingOptions, ImageOptions, ImagePredictor
    from edgetam_model.model import EdgeTAM
    from edgetam_model.options import TrackerOptions
    from edgetam_model.prompts import Prompt
    from edgetam_model.results import FrameResult, MaskResult, ObjectResult
    from edgetam_model.session import VideoSession
    from edgetam_model.tracks import Tracks, TracksWriter, read_tracks
    from edgetam_model.video import FrameSource, MediaLimits, VideoInfo, open_source, read_image
    from edgetam_model.video_tracker import VideoTracker
    from edgetam_model.weights import load_model
    from edgetam_model.windows import Window

_HOMES = {
    "config": ("CONFIGS", "EdgeTAMConfig"),
    "errors": (
        "CheckpointError",
        "EdgeTAMError",
        "InputError",
        "MediaError",
        "PromptError",
        "SessionError",
        "WeightsError",
    ),
    "image_predictor": ("EverythingOptions", "ImageOptions", "ImagePredictor"),
    "model": ("EdgeTAM",),
    "options": ("TrackerOptions",),
    "prompts": ("Prompt",),
    "results": ("FrameResult", "MaskResult", "ObjectResult"),
    "session": ("VideoSession",),
    "tracks": ("Tracks", "TracksWriter", "read_tracks"),
    "video": ("FrameSource", "MediaLimits", "VideoInfo", "open_source", "read_image"),
    "video_tracker": ("VideoTracker",),
    "weights": ("load_model",),
    "windows": ("Window",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "CONFIGS",
    "CheckpointError",
    "EdgeTAM",
    "EdgeTAMConfig",
    "EdgeTAMError",
    "EverythingOptions",
    "FrameResult",
    "FrameSource",
    "ImageOptions",
    "ImagePredictor",
    "InputError",
    "MaskResult",
    "MediaError",
    "MediaLimits",
    "ObjectResult",
    "Prompt",
    "PromptError",
    "SessionError",
    "TrackerOptions",
    "Tracks",
    "TracksWriter",
    "VideoInfo",
    "VideoSession",
    "VideoTracker",
    "WeightsError",
    "Window",
    "load_model",
    "open_source",
    "read_image",
    "read_tracks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
