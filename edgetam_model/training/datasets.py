"""Opening annotated data: folders of frames and masks, the DAVIS layout, COCO, and our own tracks."""

from __future__ import annotations

from pathlib import Path

from edgetam_model.annotated_clips import read_clips
from edgetam_model.errors import InputError
from edgetam_model.tracks import read_tracks
from edgetam_model.training.annotated import AnnotatedClip, FolderClip, TracksClip
from edgetam_model.training.coco import read_coco


def open_annotated(path: str | Path, media: str | Path | None = None) -> list[AnnotatedClip]:
    """The clips of whatever lies at `path`.

    A folder has one of the layouts that `read_clips` knows; all its clips are taken, and of each the frames
    that have a mask. A file is a tracks file or COCO instances.

    Args:
        path: the folder or the .json file.
        media: for a tracks file its video, or a folder with it (next to it, by its name, where left out);
            for COCO the folder of its images (the file's own where left out).

    Raises:
        InputError: nothing there, or nothing of these kinds.
    """
    root = Path(path)
    if root.is_file():
        return _read_json(root, media)
    if not root.is_dir():
        raise InputError("data", f"expected a folder or a .json file, got {root}")
    return [FolderClip(clip) for clip in read_clips(root, split=None, scored=False)]


def _read_json(path: Path, media: str | Path | None) -> list[AnnotatedClip]:
    """Both kinds are JSON objects; a tracks file says its format first."""
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError as error:
        raise InputError("data", f"cannot read {path}: {error.strerror}") from error
    if b'"edgetam-tracks"' in head:
        tracks = read_tracks(path)
        return [TracksClip(tracks, _video_of(path, tracks.video.name, media))]
    return list(read_coco(path, Path(media) if media is not None else path.parent))


def _video_of(tracks: Path, name: str, media: str | Path | None) -> Path:
    """The video or folder of images that a tracks file is of."""
    if media is None:
        beside = _inside(tracks.parent, name)
        if not beside.exists():
            raise InputError("media", f"{name} is not beside {tracks}; expected where it is, by --media")
        return beside
    given = Path(media)
    within = _inside(given, name)
    return within if given.is_dir() and within.exists() else given


def _inside(folder: Path, name: str) -> Path:
    """A path below the folder, whatever a file wrote as the name."""
    path = (folder / name).resolve() if "\0" not in name else None
    if path is None or not path.is_relative_to(folder.resolve()):
        raise InputError("name", f"expected a path inside {folder}, got {name!r}")
    return path
