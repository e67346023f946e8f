"""What was drawn on images and videos of an export, gathered into tasks. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cvat_function.export_archive import Pictures, frame_number
from edgetam_model.training.annotations import (
    AnnotatedObject,
    AnnotatedTask,
    AnnotationSet,
    Origin,
    Shape,
    Sighting,
)


@dataclass(frozen=True)
class Drawn:
    """One object on one frame, or on an image; `track`: the same number is the same object."""

    shape: Shape
    label: str
    origin: Origin = "human"
    track: str | None = None


@dataclass(frozen=True)
class Followed:
    """An object along a video; frames as CVAT's export counts them."""

    label: str
    sightings: tuple[Sighting, ...]
    absent: tuple[range, ...] = ()


@dataclass
class _Video:
    media: str
    followed: list[Followed] = field(default_factory=list)


class Gathering:
    """Tasks in the making. What has no object becomes none.

    Args:
        pictures: the images inside the export.
    """

    def __init__(self, pictures: Pictures) -> None:
        self.ignored: Counter[str] = Counter()
        self._pictures = pictures
        self._images: list[AnnotatedTask] = []
        self._videos: dict[str, _Video] = {}
        self._names: set[str] = set()

    def add_image(self, name: str, drawn: Iterable[Drawn], *, task: str = "", subset: str = "") -> None:
        """One image. Frames of a video that come as images are kept together when tasks are parted."""
        objects = tuple(
            AnnotatedObject(number, _labels(each.label), (Sighting(0, each.shape, each.origin),))
            for number, each in enumerate(drawn, start=1)
        )
        if not objects:
            self.ignored["images without a shape"] += 1
            return
        identity = "/".join(part for part in (task, subset, name) if part)
        if identity in self._names:
            self.ignored["images that are named twice"] += 1
            return
        self._names.add(identity)
        self._images.append(
            AnnotatedTask(
                id=identity,
                kind="image",
                media=self._pictures.place(name, subset),
                objects=objects,
                group=_video_of(task, subset, name) if frame_number(name) is not None else "",
            )
        )

    def add_followed(self, video: str, media: str, followed: Followed) -> None:
        """One object of a video, named by its task; `media`: the file's name as CVAT has it."""
        if followed.sightings:
            self._videos.setdefault(video, _Video(media)).followed.append(followed)
        else:
            self.ignored["tracks without a shape"] += 1

    def finished(self) -> AnnotationSet:
        """All tasks, images first."""
        inside = self._pictures.frames() if len(self._videos) == 1 else None
        videos = []
        for name, video in self._videos.items():
            objects = tuple(
                AnnotatedObject(number, _labels(each.label), each.sightings, each.absent)
                for number, each in enumerate(video.followed, start=1)
            )
            media = video.media
            if inside is not None:
                media, places = inside
                objects = tuple(filter(None, (_moved(each, places) for each in objects)))
            if objects:
                videos.append(AnnotatedTask(id=name, kind="video", media=media, objects=objects))
        return AnnotationSet((*self._images, *videos), dict(sorted(self.ignored.items())))


def _labels(label: str) -> tuple[str, ...]:
    return (label,) if label else ()


def _video_of(task: str, subset: str, name: str) -> str:
    folder = name.rpartition("/")[0]
    return "/".join(part for part in (task, subset, folder, "frames") if part)


def _moved(each: AnnotatedObject, places: dict[int, int]) -> AnnotatedObject | None:
    """The object with frames counted as the unpacked images are; None where none of them is there."""
    seen = [replace(one, frame=places[one.frame]) for one in each.sightings if one.frame in places]
    absent = [[places[n] for n in places if n in stretch] for stretch in each.absent]
    stretches = tuple(range(min(found), max(found) + 1) for found in absent if found)
    return AnnotatedObject(each.id, each.labels, tuple(seen), stretches) if seen else None
