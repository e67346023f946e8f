"""Clips whose true masks are known, read from the folder layouts people have. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edgetam_model.errors import InputError
from edgetam_model.images import SUFFIXES, ImageSource, natural_key
from edgetam_model.masks import Mask
from edgetam_model.sources import MediaLimits

Labels = NDArray[np.uint8]  # (H, W): 0 background, 1 to 254 objects, VOID neither

VOID = 255
SPLIT = "val"  # the part of DAVIS that figures are reported on
_RESOLUTION = "480p"  # likewise, where a data set comes in several


@dataclass(frozen=True, eq=False)
class AnnotatedClip:
    """A clip and its true masks.

    Attributes:
        name: its folder's name.
        frames: image files in order.
        masks: frame → file with the labels of every object; frames may be missing.
    """

    name: str
    frames: tuple[Path, ...]
    masks: Mapping[int, Path]

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) of the first frame."""
        with Image.open(self.frames[0]) as image:
            return image.height, image.width

    @cached_property
    def first_frames(self) -> Mapping[int, int]:
        """Object id → the first frame that shows it; reads every label file once."""
        firsts: dict[int, int] = {}
        for frame in self.masks:
            for value in np.unique(self.labels(frame)).tolist():
                if value not in (0, VOID):
                    firsts.setdefault(value, frame)
        return dict(sorted(firsts.items()))

    def open(self, limits: MediaLimits | None = None) -> ImageSource:
        """The frames as a source for a tracker; close it. Raises MediaError for a damaged first image."""
        return ImageSource(list(self.frames), limits or MediaLimits())

    def labels(self, frame: int) -> Labels:
        """(H, W) labels of an annotated frame.

        Raises:
            InputError: no mask on this frame, a file that holds no labels, or labels of another size.
        """
        if frame not in self.masks:
            raise InputError("frame", f"{self.name} has no mask on frame {frame}")
        labels = read_labels(self.masks[frame])
        if labels.shape != self.size:
            path = self.masks[frame]
            raise InputError(
                f"{self.name}/{path.name}", f"expected {self.size} like frame 0, got {labels.shape}"
            )
        return labels

    def truth(self, frame: int, object_id: int) -> tuple[Mask, Mask | None]:
        """(H, W) true mask of an object and the void pixels of a frame, None where there are none."""
        labels = self.labels(frame)
        void = labels == VOID
        return labels == object_id, void if void.any() else None

    def scored_frames(self, object_id: int) -> tuple[int, ...]:
        """Annotated frames on which an object is scored.

        The first and the last annotated frame never are, nor those up to the object's own first one,
        where it is prompted.
        """
        first = self.first_frames[object_id]
        return tuple(frame for frame in list(self.masks)[1:-1] if frame > first)

    @cached_property
    def scored_objects(self) -> tuple[int, ...]:
        """Ids of the objects that have a frame to be scored on."""
        return tuple(i for i in self.first_frames if self.scored_frames(i))


def read_labels(path: Path) -> Labels:
    """The labels (H, W) in a mask file.

    Palette images hold ids, 255 for void. Grey images do too, unless all they have besides black is 255:
    then that is object 1. 1-bit images and colour images of black and one other colour show object 1.

    Raises:
        InputError: not an image, or a colour image of several colours, whose ids nobody can know.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.mode in ("P", "L"):
                labels = np.asarray(image, np.uint8)
                if image.mode == "L" and set(np.unique(labels).tolist()) <= {0, VOID}:
                    return np.asarray(labels > 0, np.uint8)
                return labels
            if image.mode == "1":
                return np.asarray(image, np.uint8)
            colours = np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(path.name, f"expected a PNG with labels: {error}") from error
    shown = colours.any(axis=2)
    if len(np.unique(colours[shown], axis=0)) > 1:
        raise InputError(
            path.name, "expected a palette image: several colours do not say which object is which"
        )
    return np.asarray(shown, np.uint8)


def read_clips(root: Path, names: Sequence[str] | None = None, split: str = SPLIT) -> list[AnnotatedClip]:
    """The annotated clips in a folder, by name.

    Two layouts are known. DAVIS: `JPEGImages/[480p/]CLIP/*.jpg`, `Annotations/[480p/]CLIP/*.png` and,
    where there is one, the list `ImageSets/…/val.txt`. Plain: `CLIP/frames/*.jpg`, `CLIP/masks/*.png`.

    Args:
        root: the folder.
        names: only these clips; None: those of the split's list, or all where there is none.
        split: the list's name.

    Raises:
        InputError: no such folder, no clips, no clip of a name, or a clip that cannot be scored.
    """
    if not root.is_dir():
        raise InputError("dir", f"no such folder: {root}")
    davis = (root / "JPEGImages").is_dir()
    folders = _davis_folders(root) if davis else _plain_folders(root)
    if not folders:
        layouts = "JPEGImages/CLIP beside Annotations/CLIP, or CLIP/frames beside CLIP/masks"
        raise InputError("dir", f"expected {layouts} in {root}, found no clips")
    listed = _listed(root / "ImageSets", split) if davis else []
    wanted = list(names) if names is not None else listed or sorted(folders, key=natural_key)
    for name in wanted:
        if name not in folders:
            raise InputError("clips", f"no clip {name!r} in {root}; there are {', '.join(sorted(folders))}")
    return [_clip(name, *folders[name]) for name in dict.fromkeys(wanted)]


def _plain_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    pairs = {clip.name: (clip / "frames", clip / "masks") for clip in root.iterdir()}
    return {name: pair for name, pair in pairs.items() if all(folder.is_dir() for folder in pair)}


def _davis_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    images, labels = root / "JPEGImages", root / "Annotations"
    inside = sorted(p.name for p in images.iterdir() if p.is_dir())
    if inside and not any(_files(images / name, SUFFIXES) for name in inside):  # a level of resolutions
        if _RESOLUTION not in inside and len(inside) > 1:
            raise InputError("dir", f"expected one resolution or {_RESOLUTION}, got {', '.join(inside)}")
        level = _RESOLUTION if _RESOLUTION in inside else inside[0]
        images, labels = images / level, labels / level
    clips = (p.name for p in images.iterdir() if p.is_dir() and (labels / p.name).is_dir())
    return {name: (images / name, labels / name) for name in clips}


def _listed(folder: Path, split: str) -> list[str]:
    """Clips of the newest list of that name; the lists of 2016 name every file instead of the clip."""
    lists = sorted(folder.rglob(f"{split}.txt"), key=lambda path: natural_key(str(path)))
    if not lists:
        return []
    words = (line.split()[0] for line in lists[-1].read_text("utf-8").splitlines() if line.split())
    return list(dict.fromkeys(Path(word).parent.name if "/" in word else word for word in words))


def _clip(name: str, images: Path, labels: Path) -> AnnotatedClip:
    frames = _files(images, SUFFIXES)
    number = {path.stem: index for index, path in enumerate(frames)}
    masks = {}
    for path in _files(labels, {".png"}):
        if path.stem not in number:
            raise InputError(f"{name}/{path.name}", "expected a frame of the same name, there is none")
        masks[number[path.stem]] = path
    if len(masks) < 3:
        raise InputError(name, f"expected masks on at least 3 frames (two are not scored), got {len(masks)}")
    clip = AnnotatedClip(name, tuple(frames), dict(sorted(masks.items())))
    if not clip.scored_objects:
        raise InputError(name, "expected an object that is seen before the last two masks, got none")
    return clip


def _files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    wanted = frozenset(suffixes)
    found = (p for p in folder.iterdir() if p.suffix.lower() in wanted and not p.name.startswith("."))
    return sorted(found, key=lambda path: natural_key(path.name))
