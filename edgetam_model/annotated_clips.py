"""Clips whose true masks are known, read from the folder layouts people have. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgetam_model.errors import InputError
from edgetam_model.images import BOMBS, DAMAGE, SUFFIXES, ImageSource, natural_key, read_image
from edgetam_model.masks import Mask
from edgetam_model.sources import MediaLimits

Labels = NDArray[np.uint8]  # (H, W): 0 background, 1 to 254 objects, VOID neither

VOID = 255
SPLIT = "val"  # the part of DAVIS that figures are reported on
_RESOLUTION = "480p"  # likewise, where a data set comes in several
_LABEL_FORMATS = ("PNG", "BMP", "TIFF", "GIF", "WEBP")  # those that can be without loss
_LABEL_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif", ".webp"})


@dataclass(frozen=True, eq=False)
class LabelledClip:
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
        """(H, W) of the first frame. Raises MediaError where it cannot be read."""
        height, width = read_image(self.frames[0]).shape[:2]
        return height, width

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


def read_labels(path: Path, limits: MediaLimits | None = None) -> Labels:
    """The labels (H, W) in a mask file: PNG, BMP, TIFF, GIF or WebP.

    Palette images hold ids, 255 for void. Grey images do too, unless all they have besides black is 255:
    then that is object 1. 1-bit images and colour images of black and one other colour show object 1.

    Raises:
        InputError: not an image, damaged, more than 8 bits, or several colours, whose ids nobody can know.
        MediaError: larger than the limits allow.
    """
    mode, pixels = _label_pixels(path, limits or MediaLimits())
    if pixels.ndim == 3:
        return _one_colour(path, pixels)
    if mode == "L" and set(np.unique(pixels).tolist()) <= {0, VOID}:
        return np.asarray(pixels > 0, np.uint8)
    return pixels


def _label_pixels(path: Path, limits: MediaLimits) -> tuple[str, NDArray[np.uint8]]:
    """Pillow's mode, and (H, W) values or (H, W, 3) colours."""
    try:
        with Image.open(path, formats=_LABEL_FORMATS) as image:
            limits.check_size(path.name, *image.size)
            if image.mode.startswith(("I", "F")):
                raise InputError(path.name, "expected labels of 8 bits, got an image of 16 or more")
            kept = image if image.mode in ("P", "L", "1") else image.convert("RGB")
            return image.mode, np.array(kept, np.uint8)
    except InputError:
        raise
    except (*DAMAGE, *BOMBS) as error:
        kinds = ", ".join(_LABEL_FORMATS)
        raise InputError(path.name, f"expected an image with labels ({kinds}): {error}") from error


def _one_colour(path: Path, colours: NDArray[np.uint8]) -> Labels:
    shown = colours.any(axis=2)
    if len(np.unique(colours[shown], axis=0)) > 1:
        raise InputError(
            path.name, "expected a palette image: several colours do not say which object is which"
        )
    return np.asarray(shown, np.uint8)


def read_clips(
    root: Path, names: Sequence[str] | None = None, split: str | None = SPLIT, *, scored: bool = True
) -> list[LabelledClip]:
    """The clips with masks in a folder, by name.

    Two layouts are known. DAVIS: `JPEGImages/[480p/]CLIP/*.jpg`, `Annotations/[480p/]CLIP/*.png` and,
    where there is one, the list `ImageSets/…/val.txt`. Plain: `CLIP/frames/*.jpg`, `CLIP/masks/*.png`; the
    folder itself may be the one clip.

    Args:
        root: the folder.
        names: only these clips; None: those of the split's list.
        split: the list's name, such as "train" or "2017/train"; None: every clip, and so for the default
            where it has no list.
        scored: only clips that can be scored will do; without it a mask on one frame is enough, and no
            mask is opened.

    Raises:
        InputError: no such folder, no clips, no such list, no clip of a name, a clip without masks, or
            one that cannot be scored.
    """
    if not root.is_dir():
        raise InputError("dir", f"no such folder: {root}")
    davis = (root / "JPEGImages").is_dir()
    folders = _davis_folders(root) if davis else _plain_folders(root)
    if not folders:
        layouts = "JPEGImages/CLIP beside Annotations/CLIP, or CLIP/frames beside CLIP/masks"
        raise InputError("dir", f"expected {layouts} in {root}, found no clips")
    if names is None:
        listed = _listed(root / "ImageSets", split) if davis and split is not None else []
        names = listed or sorted(folders, key=natural_key)
    for name in names:  # never a path that is followed: only what was found in the folder
        if name not in folders:
            raise InputError("clips", f"no clip {name!r} in {root}; there are {', '.join(sorted(folders))}")
    clips = [_clip(name, *folders[name]) for name in dict.fromkeys(names)]
    if scored:
        _check_scored(clips)
    return clips


def _plain_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """By clip, its frames and its masks; a root that is a clip is the only one."""
    for clips in ([root.resolve()], root.iterdir()):
        pairs = {clip.name: (clip / "frames", clip / "masks") for clip in clips}
        found = {name: pair for name, pair in pairs.items() if all(folder.is_dir() for folder in pair)}
        if found:
            return found
    return {}


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
    lists = sorted(folder.rglob("*.txt"), key=lambda path: natural_key(str(path)))
    wanted = Path(f"{split}.txt").parts
    found = [path for path in lists if path.relative_to(folder).parts[-len(wanted) :] == wanted]
    if not found and split == SPLIT:
        return []
    if not found:
        raise InputError("split", f"no list {split!r} in {folder}")
    try:
        lines = found[-1].read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("split", f"cannot read the list {found[-1]}") from error
    words = (line.split()[0] for line in lines if line.split())
    return list(dict.fromkeys(Path(word).parent.name if "/" in word else word for word in words))


def _clip(name: str, images: Path, labels: Path) -> LabelledClip:
    frames = _files(images, SUFFIXES)
    number = {path.stem: index for index, path in enumerate(frames)}
    masks: dict[int, Path] = {}
    for path in _files(labels, _LABEL_SUFFIXES):
        if path.stem not in number:
            raise InputError(f"{name}/{path.name}", "expected a frame of the same name, there is none")
        other = masks.setdefault(number[path.stem], path)
        if other != path:
            raise InputError(f"{name}/{path.name}", f"expected one mask for a frame, {other.name} is there")
    if not masks:
        raise InputError(name, f"expected masks on at least one frame, there are none in {labels}")
    return LabelledClip(name, tuple(frames), dict(sorted(masks.items())))


def _check_scored(clips: Iterable[LabelledClip]) -> None:
    for clip in clips:
        count = len(clip.masks)
        if count < 3:
            raise InputError(
                clip.name, f"expected masks on at least 3 frames (two are not scored), got {count}"
            )
        if not clip.scored_objects:
            raise InputError(clip.name, "expected an object that is seen before the last two masks, got none")


def _files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    wanted = frozenset(suffixes)
    found = (p for p in folder.iterdir() if p.suffix.lower() in wanted and not p.name.startswith("."))
    return sorted(found, key=lambda path: natural_key(path.name))
