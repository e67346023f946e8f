"""Annotated clips of any format as a team's tasks, so that one path of fitting serves all. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from edgetam_model.errors import InputError
from edgetam_model.sources import Frame, FrameSource
from edgetam_model.training.annotated import AnnotatedClip
from edgetam_model.training.annotations import (
    AnnotatedObject,
    AnnotatedTask,
    AnnotationSet,
    MaskShape,
    OpenProject,
    Sighting,
)
from edgetam_model.video import open_source

EMPTY = "clips without a mask"


def project_of(clips: Sequence[AnnotatedClip], name: str) -> OpenProject:
    """The clips as a project; their masks are read at once, their frames when they are asked for.

    Args:
        clips: those of one frame are images. Names that come twice get numbers.
        name: of the project.

    Raises:
        InputError: masks that cannot be read.
    """
    by_id = _by_id(clips)
    drawn = {number: _objects(clip) for number, clip in by_id.items()}
    tasks = [
        AnnotatedTask(number, "image" if len(by_id[number]) == 1 else "video", number, objects)
        for number, objects in drawn.items()
        if objects
    ]
    ignored = {EMPTY: len(drawn) - len(tasks)} if len(tasks) < len(drawn) else {}

    def media(task: AnnotatedTask) -> FrameSource:
        if task.id not in by_id:
            raise InputError("media", f"expected a clip of {name}, got {task.id!r:.200}")
        return open_source(_Frames(by_id[task.id]))

    return OpenProject(AnnotationSet(tuple(tasks), ignored), media, name)


def _by_id(clips: Sequence[AnnotatedClip]) -> dict[str, AnnotatedClip]:
    found: dict[str, AnnotatedClip] = {}
    for clip in clips:
        name, again = clip.name, 1
        while name in found:
            again += 1
            name = f"{clip.name} ({again})"
        found[name] = clip
    return found


class _Frames(Sequence[Frame]):
    """A clip's frames as a sequence, read one by one."""

    def __init__(self, clip: AnnotatedClip) -> None:
        self._clip = clip

    def __len__(self) -> int:
        return len(self._clip)

    def __getitem__(self, index: int) -> Frame:  # type: ignore[override]  # nobody takes slices
        return self._clip.frame(index)


def _objects(clip: AnnotatedClip) -> tuple[AnnotatedObject, ...]:
    """Each object with its masks; on the clip's other frames it is known not to be there."""
    found: dict[int, list[Sighting]] = {}
    for index in range(len(clip)):
        for number, mask in clip.masks(index).items():
            if mask.any():
                found.setdefault(number, []).append(Sighting(index, MaskShape.of(mask)))
    return tuple(
        AnnotatedObject(place, (), tuple(seen), _absent({s.frame for s in seen}, len(clip)))
        for place, (_, seen) in enumerate(sorted(found.items()), start=1)
    )


def _absent(shown: set[int], frames: int) -> tuple[range, ...]:
    """The stretches of frames that are not among those shown."""
    ends = sorted({-1, frames} | shown)
    return tuple(range(before + 1, after) for before, after in pairwise(ends) if after > before + 1)
