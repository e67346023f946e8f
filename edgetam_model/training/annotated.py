"""Annotated data under one face: clips of frames with each object's mask; an image is a clip of one frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask, decode_rle
from edgetam_model.sources import Frame, MediaLimits
from edgetam_model.tracks import Tracks
from edgetam_model.video import open_source, read_image

Masks = Mapping[int, Mask]


class AnnotatedClip(ABC):
    """Frames, and on each of them the masks of the objects that are there. Nothing is read before it is
    asked for.

    Args:
        name: of the clip, for tables and messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames, at least 1."""

    @abstractmethod
    def frame(self, index: int) -> Frame:
        """Frame `index`, uint8 (H, W, 3) RGB.

        Raises:
            InputError: no such frame, or one that cannot be read.
        """

    @abstractmethod
    def masks(self, index: int) -> Masks:
        """Object id → mask, bool (H, W) of the frame's size; an object that is not there is left out.

        Raises:
            InputError: no such frame, or masks that cannot be read.
        """

    def read(self, index: int) -> tuple[Frame, Masks]:
        """A frame and its masks.

        Raises:
            InputError: as `frame` and `masks`, or the two differ in size.
        """
        frame, masks = self.frame(index), self.masks(index)
        for number, mask in masks.items():
            if mask.shape != frame.shape[:2]:
                raise InputError(
                    "mask",
                    f"expected {frame.shape[1]}×{frame.shape[0]} pixels as the frame has, got "
                    f"{mask.shape[1]}×{mask.shape[0]}: {self.name}, frame {index}, object {number}",
                )
        return frame, masks

    def _check_index(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise InputError("frame", f"expected 0 to {len(self) - 1}, got {index}: {self.name}")


AnnotatedClips = Sequence[AnnotatedClip]


class FilesClip(AnnotatedClip):
    """A clip of image files, each with its mask file; see `read_index_mask` for what a mask may be.

    Raises:
        InputError: no frames, or not one mask per frame.
    """

    def __init__(self, name: str, frames: Sequence[Path], masks: Sequence[Path]) -> None:
        super().__init__(name)
        if not frames or len(frames) != len(masks):
            raise InputError("masks", f"expected one per frame ({len(frames)}), got {len(masks)}: {name}")
        self._frames, self._masks = tuple(frames), tuple(masks)

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, index: int) -> Frame:
        self._check_index(index)
        return read_image(self._frames[index])

    def masks(self, index: int) -> Masks:
        self._check_index(index)
        return read_index_mask(self._masks[index])


class TracksClip(AnnotatedClip):
    """A video with its tracks file: the frames up to the last that has a record.

    Args:
        tracks: what was followed; frames of which an object has no record do not show it.
        video: the video's file or folder of images.

    Raises:
        InputError: tracks without a single record, or a video of another length.
    """

    def __init__(self, tracks: Tracks, video: str | Path) -> None:
        super().__init__(tracks.video.name)
        self._tracks = tracks
        ends = [track.frames[-1].frame for track in tracks.objects if track.frames]
        if not ends:
            raise InputError("tracks", f"expected at least one object with a frame: {self.name}")
        self._frames = max(ends) + 1
        self._source = open_source(video)
        if len(self._source) != tracks.video.frames:
            raise InputError(
                "video", f"expected {tracks.video.frames} frames as in the tracks, got {len(self._source)}"
            )
        self._records = {
            (record.frame, track.id): record for track in tracks.objects for record in track.frames
        }

    def __len__(self) -> int:
        return self._frames

    def frame(self, index: int) -> Frame:
        self._check_index(index)
        return self._source.read(index)

    def masks(self, index: int) -> Masks:
        self._check_index(index)
        records = ((t.id, self._records.get((index, t.id))) for t in self._tracks.objects)
        return {number: decode_rle(found.mask.rle()) for number, found in records if found and found.mask}


def read_index_mask(path: Path, limits: MediaLimits | None = None) -> Masks:
    """Object id → mask (H, W) of an image whose pixels are object ids, 0 the background.

    A palette image holds ids as DAVIS writes them. In a grey image the ids are the values; one that knows
    only black and white, whatever white is, holds object 1.

    Raises:
        InputError: missing, damaged, too large, or an image in colours.
    """
    limits = limits or MediaLimits()
    try:
        with Image.open(path, formats=("PNG", "BMP", "TIFF", "GIF", "WEBP")) as image:
            limits.check_size("mask", *image.size)
            if image.mode not in ("1", "L", "P"):
                raise InputError("mask", f"expected a palette or grey image of object ids: {path.name}")
            pixels = np.asarray(image).astype(np.uint8)
    except InputError:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError("mask", f"not an image that can be read: {path.name}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises over damage
        raise InputError("mask", f"cannot read {path.name}: {error}") from error
    ids = [int(value) for value in np.unique(pixels) if value]
    if image.mode != "P" and len(ids) == 1:
        return {1: pixels > 0}
    return {number: pixels == number for number in ids}
