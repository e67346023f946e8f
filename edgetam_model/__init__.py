"""EdgeTAM: segment what is clicked, and follow it through a video.

The names below are the public face. Each is loaded when it is first asked for, so that importing the
package reads nothing, starts nothing and does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetam_model.apart.images import ImageDecoders
    from edgetam_model.apart.options import ApartOptions
    from edgetam_model.config import CONFIGS, EdgeTAMConfig
    from edgetam_model.demo_clip import DemoClip, render_demo_clip
    from edgetam_model.errors import (
        CheckpointError,
        EdgeTAMError,
        InputError,
        MediaError,
        PromptError,
        SessionError,
        StateError,
        WeightsError,
    )
    from edgetam_model.frame_tracker import Followed, FrameTracker
    from edgetam_model.image_predictor import EverythingOptions, ImageOptions, ImagePredictor
    from edgetam_model.model import EdgeTAM
    from edgetam_model.object_state import ObjectState
    from edgetam_model.options import TrackerOptions
    from edgetam_model.prompts import Prompt
    from edgetam_model.render import ContactSheet, Drawn, OverlayWriter, draw_overlay, save_png
    from edgetam_model.results import FrameResult, MaskResult, ObjectResult
    from edgetam_model.runtime.choosing import RuntimeOptions, accelerate
    from edgetam_model.session import VideoSession
    from edgetam_model.tracks import Tracks, TracksWriter, read_tracks
    from edgetam_model.training.fit_options import FitBusyError, FitJob, FitOptions, FitOutcome, TooFewError
    from edgetam_model.training.fit_plan import FitPlan, plan_fit
    from edgetam_model.training.fitting import run_fit
    from edgetam_model.training.version_store import VersionStore
    from edgetam_model.training.versions import NewVersion, Retention, VersionName
    from edgetam_model.video import FrameSource, MediaLimits, VideoInfo, open_source, read_image
    from edgetam_model.video_tracker import VideoTracker
    from edgetam_model.warming import warm_up
    from edgetam_model.weights import load_model
    from edgetam_model.windows import Window

_HOMES = {
    "apart.images": ("ImageDecoders",),
    "apart.options": ("ApartOptions",),
    "config": ("CONFIGS", "EdgeTAMConfig"),
    "demo_clip": ("DemoClip", "render_demo_clip"),
    "errors": (
        "CheckpointError",
        "EdgeTAMError",
        "InputError",
        "MediaError",
        "PromptError",
        "SessionError",
        "StateError",
        "WeightsError",
    ),
    "frame_tracker": ("Followed", "FrameTracker"),
    "image_predictor": ("EverythingOptions", "ImageOptions", "ImagePredictor"),
    "model": ("EdgeTAM",),
    "object_state": ("ObjectState",),
    "options": ("TrackerOptions",),
    "prompts": ("Prompt",),
    "render": ("ContactSheet", "Drawn", "OverlayWriter", "draw_overlay", "save_png"),
    "results": ("FrameResult", "MaskResult", "ObjectResult"),
    "runtime.choosing": ("RuntimeOptions", "accelerate"),
    "session": ("VideoSession",),
    "tracks": ("Tracks", "TracksWriter", "read_tracks"),
    "training.fit_options": ("FitBusyError", "FitJob", "FitOptions", "FitOutcome", "TooFewError"),
    "training.fit_plan": ("FitPlan", "plan_fit"),
    "training.fitting": ("run_fit",),
    "training.version_store": ("VersionStore",),
    "training.versions": ("NewVersion", "Retention", "VersionName"),
    "video": ("FrameSource", "MediaLimits", "VideoInfo", "open_source", "read_image"),
    "video_tracker": ("VideoTracker",),
    "warming": ("warm_up",),
    "weights": ("load_model",),
    "windows": ("Window",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "CONFIGS",
    "ApartOptions",
    "CheckpointError",
    "ContactSheet",
    "DemoClip",
    "Drawn",
    "EdgeTAM",
    "EdgeTAMConfig",
    "EdgeTAMError",
    "EverythingOptions",
    "FitBusyError",
    "FitJob",
    "FitOptions",
    "FitOutcome",
    "FitPlan",
    "Followed",
    "FrameResult",
    "FrameSource",
    "FrameTracker",
    "ImageDecoders",
    "ImageOptions",
    "ImagePredictor",
    "InputError",
    "MaskResult",
    "MediaError",
    "MediaLimits",
    "NewVersion",
    "ObjectResult",
    "ObjectState",
    "OverlayWriter",
    "Prompt",
    "PromptError",
    "Retention",
    "RuntimeOptions",
    "SessionError",
    "StateError",
    "TooFewError",
    "TrackerOptions",
    "Tracks",
    "TracksWriter",
    "VersionName",
    "VersionStore",
    "VideoInfo",
    "VideoSession",
    "VideoTracker",
    "WeightsError",
    "Window",
    "accelerate",
    "draw_overlay",
    "load_model",
    "open_source",
    "plan_fit",
    "read_image",
    "read_tracks",
    "render_demo_clip",
    "run_fit",
    "save_png",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
