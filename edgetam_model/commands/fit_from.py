"""What `edgetam fit --from` may name, opened: exports, data sets, folders, and projects where they live."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from edgetam_model.errors import InputError
from edgetam_model.sources import FrameSource
from edgetam_model.training.annotation_projects import open_project
from edgetam_model.training.annotation_sources import read_annotations
from edgetam_model.training.annotations import AnnotatedTask, OpenProject, ReadOptions
from edgetam_model.training.clip_tasks import project_of
from edgetam_model.training.task_clips import OpenMedia, media_in
from edgetam_model.training.versions import WEIGHTS_NAMES

_LONGEST = 60  # of a project's name made from a file's


@contextmanager
def opened(
    source: str, media: Path | None, project: str | None, options: ReadOptions
) -> Iterator[OpenProject]:
    """A team's annotations and their media, within the block.

    Args:
        source: a path, or an address such as `label-studio:7`.
        media: folder of the images and videos; None: the one that the annotations are in.
        project: its name; None: that of the source.
        options: how annotations are read.

    Raises:
        InputError: nothing there, nothing of a known kind, or damaged.
    """
    path = Path(source).expanduser()
    found = None if path.exists() else open_project(source, options)
    if found is not None:
        yield found if project is None else replace(found, name=project)
        return
    if media is not None and not media.exists():
        raise InputError("media", f"no such folder: {media}")
    with TemporaryDirectory(prefix="edgetam-fit-") as folder:
        yield _read(path, media, project or name_for(path), replace(options, unpack=Path(folder)))


def name_for(path: Path) -> str:
    """A project's name from that of a file or folder: `My export.zip` → `my-export`."""
    stem = path.resolve().stem.lower()
    name = re.sub(r"[^a-z0-9._-]+", "-", stem)[:_LONGEST].strip("._-")
    return name if name and name not in WEIGHTS_NAMES else f"fit-{name}".strip("-")


def _read(path: Path, media: Path | None, project: str, options: ReadOptions) -> OpenProject:
    annotations = read_annotations(path, options)
    if annotations is not None:
        beside = media or path.resolve().parent
        folders = [folder for folder in (options.unpack, beside) if folder]
        return OpenProject(annotations, _first_of([media_in(folder) for folder in folders]), project)
    from edgetam_model.training.datasets import open_annotated

    if path.is_file() and path.suffix.lower() != ".json":
        raise InputError(
            "from",
            "expected an export of Label Studio (JSON) or CVAT (zip, xml), COCO instances or tracks (json), "
            f"or a folder of clips, got {path.name}",
        )
    return project_of(open_annotated(path, media), project)


def _first_of(openers: Sequence[OpenMedia]) -> OpenMedia:
    """Looks in one place after the other; what the last one says is the error."""

    def find(task: AnnotatedTask) -> FrameSource:
        for opener in openers[:-1]:
            try:
                return opener(task)
            except InputError:
                continue
        return openers[-1](task)

    return find
