"""Readers of annotated data: folders of frames and masks, the DAVIS layout, COCO, and our own tracks."""

from __future__ import annotations

from pathlib import Path

from edgetam_model.errors import InputError
from edgetam_model.images import SUFFIXES, natural_key
from edgetam_model.tracks import read_tracks
from edgetam_model.training.annotated import AnnotatedClip, FilesClip, TracksClip
from edgetam_model.training.coco import read_coco

FRAMES, MASKS = "frames", "masks"
DAVIS_FRAMES, DAVIS_MASKS, DAVIS_LISTS = "JPEGImages", "Annotations", "ImageSets"


def open_annotated(path: str | Path, media: str | Path | None = None) -> list[AnnotatedClip]:
    """The clips of whatever lies at `path`.

    A folder is DAVIS where it has `JPEGImages` and `Annotations`; a clip where it has `frames` and `masks`;
    else a folder of such clips. A file is a tracks file or COCO instances.

    Args:
        path: the folder or the .json file.
        media: for a tracks file its video (next to it, by its name, where left out); for COCO the folder
            of its images (the file's own where left out).

    Raises:
        InputError: nothing there, or nothing of these kinds.
    """
    root = Path(path)
    if root.is_file():
        return _read_json(root, media)
    if (root / DAVIS_FRAMES).is_dir() and (root / DAVIS_MASKS).is_dir():
        return list(read_davis(root))
    return list(read_folders(root))


def read_folders(root: Path) -> list[FilesClip]:
    """`<clip>/frames` and `<clip>/masks` below `root`, or in `root` itself, clips in natural order.

    Raises:
        InputError: no such clips; a frame without its mask, which has the same name but for the suffix.
    """
    if not root.is_dir():
        raise InputError("data", f"expected a folder or a .json file, got {root}")
    folders = [root, *sorted((p for p in root.iterdir() if p.is_dir()), key=lambda p: natural_key(p.name))]
    clips = [
        read_pair(folder.name, folder / FRAMES, folder / MASKS)
        for folder in folders
        if (folder / FRAMES).is_dir() and (folder / MASKS).is_dir()
    ]
    if not clips:
        raise InputError("data", f"no clips with {FRAMES}/ and {MASKS}/, no {DAVIS_FRAMES}/ in {root}")
    return clips


def read_davis(root: Path, split: str | None = None) -> list[FilesClip]:
    """The DAVIS layout: `JPEGImages/480p/<clip>`, `Annotations/480p/<clip>`, with or without `480p`.

    Args:
        root: the data set's folder.
        split: a list such as "2017/val" below `ImageSets`; None: every clip that has annotations.

    Raises:
        InputError: no such folders or list, a clip that is missing, a frame without its mask.
    """
    frames, masks = (_resolution(root / name) for name in (DAVIS_FRAMES, DAVIS_MASKS))
    every = sorted((p.name for p in masks.iterdir() if p.is_dir()), key=natural_key)
    names = every if split is None else _listed(root / DAVIS_LISTS, split)
    return [read_pair(name, _inside(frames, name), _inside(masks, name)) for name in names]


def read_pair(name: str, frames: Path, masks: Path) -> FilesClip:
    """One clip: a folder of frames and one of masks with the same names but for the suffixes.

    Raises:
        InputError: no frames, or a frame without its mask.
    """
    shown, drawn = _images(frames), {path.stem: path for path in _images(masks)}
    missing = [path.name for path in shown if path.stem not in drawn]
    if not shown or missing:
        problem = f"{missing[0]} has none in {masks}" if missing else f"no frames in {frames}"
        raise InputError("masks", f"expected one for every frame, {problem} ({len(missing)} in all)")
    return FilesClip(name, shown, [drawn[path.stem] for path in shown])


def _read_json(path: Path, media: str | Path | None) -> list[AnnotatedClip]:
    """Both kinds are JSON objects; a tracks file says its format first."""
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError as error:
        raise InputError("data", f"cannot read {path}: {error.strerror}") from error
    if b'"edgetam-tracks"' in head:
        tracks = read_tracks(path)
        return [TracksClip(tracks, media if media is not None else _inside(path.parent, tracks.video.name))]
    return list(read_coco(path, Path(media) if media is not None else path.parent))


def _resolution(folder: Path) -> Path:
    """The folder of clips: in DAVIS it is one deeper, named after the frames' height."""
    if not folder.is_dir():
        raise InputError("data", f"expected the folder {folder}")
    inner = [p for p in folder.iterdir() if p.is_dir() and p.name.lower() in ("480p", "full-resolution")]
    return min(inner) if inner else folder


def _listed(lists: Path, split: str) -> list[str]:
    path = _inside(lists, f"{split}.txt")
    try:
        return path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("split", f"cannot read the list {path}") from error


def _inside(folder: Path, name: str) -> Path:
    """A path below the folder, whatever a file wrote as the name."""
    path = (folder / name).resolve() if "\0" not in name else None
    if path is None or not path.is_relative_to(folder.resolve()):
        raise InputError("name", f"expected a path inside {folder}, got {name!r}")
    return path


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError("data", f"expected the folder {folder}")
    found = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(found, key=lambda p: natural_key(p.name))
