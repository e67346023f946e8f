"""Media for a kit: as they are, or made smaller."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.field.manifest import PackedFile, PackedMedia, PackedPicture
from backend.video_work import VideoFacts
from edgetam_model import FrameSource, MediaError, MediaLimits, OverlayWriter, open_source, read_image
from edgetam_model.field_places import Media, Size

JPEG_QUALITY = 92
TOLD_EVERY = 5.0  # seconds, of frames that come over a network
ORIENTATION = 274  # EXIF's number for how a photo is to be turned
SAME_TIME = 1 / 60_000  # seconds: one tick of the clock that `OverlayWriter` writes


class Progress:
    """Tells now and then how many frames are done.

    Args:
        tell: gets a line.
        what: it is about.
    """

    def __init__(self, tell: Callable[[str], None], what: str) -> None:
        self._tell = tell
        self._what = what
        self._told = time.monotonic()

    def at(self, done: int, total: int) -> None:
        """So many are done."""
        if time.monotonic() - self._told > TOLD_EVERY:
            self._told = time.monotonic()
            self._tell(f"{self._what}: {done} of {total} frames")


def pack_images(
    media: Sequence[Callable[[], AbstractContextManager[Media]]],
    root: Path,
    name: str,
    max_side: int | None,
    limits: MediaLimits,
    progress: Progress | None = None,
) -> PackedMedia:
    """Put a task's image, or all its images, into a kit; see `pack_image`."""
    packed: list[PackedMedia] = []
    for number, opened in enumerate(media):
        if progress:
            progress.at(number, len(media))
        with opened() as path:
            if not isinstance(path, Path):
                raise MediaError("media", "expected a file for each image")
            own = name if len(media) == 1 else f"{name}-{number}"
            packed.append(pack_image(path, root, own, max_side, limits))
    first, *others = packed
    if not others:
        return first
    pictures = tuple(PackedPicture(file=one.file, original=one.original, size=one.size) for one in others)
    return first.model_copy(update={"kind": "images", "frames": len(packed), "others": pictures})


def pack_image(path: Path, root: Path, name: str, max_side: int | None, limits: MediaLimits) -> PackedMedia:
    """Put an image into a kit: JPEG and PNG that need no change as they are, others written anew.

    Args:
        path: the original.
        root: the kit's folder.
        name: of the file there, without its suffix.
        max_side: pixels of the longer side at most; None: any.

    Raises:
        MediaError: it cannot be read.
    """
    rgb = read_image(path, limits)
    original = (rgb.shape[0], rgb.shape[1])
    size = fitted_size(original, max_side)
    kind, upright = _format(path)
    suffix = ".png" if kind == "PNG" else ".jpg"
    target = root / f"{name}{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if size == original and upright and kind in ("JPEG", "PNG"):
        shutil.copyfile(path, target)
    else:
        _write(_scaled(rgb, size), target)
    return _packed(root, f"{name}{suffix}", original, size)


def pack_video(
    media: Media,
    root: Path,
    name: str,
    max_side: int | None,
    limits: MediaLimits,
    progress: Progress | None = None,
) -> PackedMedia:
    """Put a video into a kit: as it is, or encoded anew where it is larger than asked for.

    The smaller one has the same frames at the same times, to a tick of 1/60,000 s; where that cannot be had,
    as with damaged files, the original goes along. The original's exact table of times is kept in any case.
    Frames that are no file become one, with even sides, and have no times of their own.

    Raises:
        MediaError: it cannot be read.
    """
    target = root / f"{name}.video"
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_source(media, limits) as source:
        original = (source.info.height, source.info.width)
        size = fitted_size(original, max_side, even=True)
        facts = None
        if isinstance(media, Path):
            facts = VideoFacts.of(source.info, "")
            if size == original or not _encoded_anew(source, target, size, limits, progress):
                size = original
                shutil.copyfile(media, target)
        else:
            size = _even(size)
            if not _encoded_anew(source, target, size, limits, progress):
                raise MediaError("media", f"not all of its {len(source)} frames can be had")
        packed = _packed(root, f"{name}.video", original, size)
        return packed.model_copy(update={"kind": "video", "frames": len(source), "facts": facts})


def fitted_size(size: Size, max_side: int | None, *, even: bool = False) -> Size:
    """(H, W) within a square of `max_side`, never larger than before; `even` as video encoders need it."""
    longest = max(size)
    if max_side is None or longest <= max_side:
        return size
    height, width = (max(1, round(side * max_side / longest)) for side in size)
    return _even((height, width)) if even else (height, width)


def _even(size: Size) -> Size:
    height, width = size
    return max(2, height // 2 * 2), max(2, width // 2 * 2)


def _encoded_anew(
    source: FrameSource, target: Path, size: Size, limits: MediaLimits, progress: Progress | None
) -> bool:
    """Write the frames smaller; whether all of them are there, at their times."""
    rate = min(max(source.info.average_fps, 1.0), 1000.0)
    try:
        with OverlayWriter(target, size[1], size[0], rate) as video:
            for index, rgb in source.frames(0, len(source) - 1):
                video.write(_scaled(rgb, size), float(source.info.times[index]))
                if progress:
                    progress.at(index + 1, len(source))
        with open_source(target, limits) as written:
            same = len(written) == len(source)
            return same and _same_times(written.info.times, source.info.times)
    except MediaError:
        raise
    except ValueError:  # InputError: two frames at one time, which no player tells apart
        return False


def _same_times(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool((np.abs((a - a[0]) - (b - b[0])) <= SAME_TIME).all())


def _packed(root: Path, path: str, original: Size, size: Size) -> PackedMedia:
    scale = (size[1] / original[1], size[0] / original[0])
    file = PackedFile.of(root, path)
    return PackedMedia(file=file, kind="image", original=original, size=size, scale=scale)


def _format(path: Path) -> tuple[str | None, bool]:
    """The format of an image that was read already, and whether it stands upright as stored."""
    with Image.open(path) as image:
        return image.format, image.getexif().get(ORIENTATION, 1) == 1


def _scaled(rgb: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    if rgb.shape[:2] == size:
        return rgb
    return np.asarray(cv2.resize(rgb, (size[1], size[0]), interpolation=cv2.INTER_AREA), np.uint8)


def _write(rgb: NDArray[np.uint8], target: Path) -> None:
    image = Image.fromarray(rgb)
    if target.suffix == ".png":
        image.save(target, format="PNG")
    else:
        image.save(target, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
