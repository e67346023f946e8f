"""Annotated data under one face: clips of frames with each object's mask; an image is a clip of one frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgetam_model.annotated_clips import VOID, LabelledClip, read_labels
from edgetam_model.errors import InputError
from edgetam_model.masks import Mask, decode_rle
from edgetam_model.sources import Frame
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

    def weight(self, index: int) -> float:  # noqa: ARG002
        """How much frame `index` counts, above 0 to 1: windows begin where it is heavy more often."""
        return 1.0

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


class FolderClip(AnnotatedClip):
    """The frames of a clip in a folder that have a mask, in order; void pixels are nobody's.

    Args:
        clip: from `read_clips`; its masks are read as `read_labels` says.
    """

    def __init__(self, clip: LabelledClip) -> None:
        super().__init__(clip.name)
        self._files = [(clip.frames[number], path) for number, path in clip.masks.items()]

    def __len__(self) -> int:
        return len(self._files)

    def frame(self, index: int) -> Frame:
        self._check_index(index)
        return read_image(self._files[index][0])

    def masks(self, index: int) -> Masks:
        self._check_index(index)
        labels = read_labels(self._files[index][1])
        return {number: labels == number for number in np.unique(labels).tolist() if number not in (0, VOID)}


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
