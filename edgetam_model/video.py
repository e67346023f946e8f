"""The door to every source of frames: a video file, a folder of images, one image, or arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edgetam_model.apart.options import ApartOptions
from edgetam_model.decode import VideoFile
from edgetam_model.errors import MediaError
from edgetam_model.images import ImageSource, looks_like_image, open_folder, read_image
from edgetam_model.packets import looks_like_video
from edgetam_model.sources import ArraySource, Frame, FrameSource, MediaLimits, VideoInfo
from edgetam_model.timetable import TimeTable

__all__ = [
    "FrameSource",
    "MediaLimits",
    "TimeTable",
    "VideoInfo",
    "is_video",
    "open_source",
    "read_image",
]

Source = str | Path | Sequence[Frame] | Frame | FrameSource  # one array: (T, H, W, 3)


def open_source(
    source: Source, limits: MediaLimits | None = None, apart: ApartOptions | None = None
) -> FrameSource:
    """Open frames for reading; close the result, or use it in a `with`.

    Args:
        source: the path of a video file (mp4, mov, mkv, webm, avi, mpeg-ts), of a folder of images
            (natural order of names) or of one image; a sequence of uint8 (H, W, 3) arrays; or a
            source that is open already, which comes back as it is. What a file is shows in its
            content, not in its name.
        limits: what is refused; the defaults when left out.
        apart: decode in a process of its own that may take so much, where the source is a path: for files
            from elsewhere. None: in this process.

    Raises:
        MediaError: a URL, a missing or damaged file, a playlist or another format, or too large; apart,
            also a file that breaks its decoder.
        OSError: apart: the system starts no more processes.
    """
    limits = limits or MediaLimits()
    if isinstance(source, FrameSource):
        return source
    if not isinstance(source, (str, os.PathLike)):
        return ArraySource(source, limits)
    path = _local_path(source)
    if apart is not None:
        from edgetam_model.apart.source import ApartSource  # the process apart opens, and needs it not

        return ApartSource(path, limits, apart)
    if path.is_dir():
        return open_folder(path, limits)
    if looks_like_video(path):
        return VideoFile(path, limits)
    limits.check_bytes(path.name, path.stat().st_size)
    if looks_like_image(path):
        return ImageSource([path], limits)
    raise MediaError(path.name, "neither a video (mp4, mov, mkv, webm, avi, mpeg-ts) nor an image")


def is_video(path: str | Path) -> bool:
    """Whether a file begins like a video that `open_source` opens; its name does not matter.

    Raises:
        MediaError: a URL, or a file that is missing or cannot be read.
    """
    local = _local_path(path)
    return local.is_file() and looks_like_video(local)


def _local_path(source: str | os.PathLike[str]) -> Path:
    """The file or folder meant, links resolved; nothing that would block (a pipe) or never end (a device)."""
    text = os.fspath(source)
    if "://" in text:
        raise MediaError("source", "expected the path of a local file, got a URL; download it first")
    if not text or "\0" in text:
        raise MediaError("source", "expected the path of a local file")
    try:
        path = Path(text).resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise MediaError("source", f"{Path(text).name} cannot be found") from error
    if not path.is_file() and not path.is_dir():
        raise MediaError("source", f"{path.name} is neither a file nor a folder")
    return path
