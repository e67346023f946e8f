"""Annotated tasks as clips that the training engine reads: frames, and masks on them. No torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgetam_model.errors import InputError
from edgetam_model.images import SUFFIXES
from edgetam_model.sources import Frame, FrameSource
from edgetam_model.training.annotated import AnnotatedClip, Masks
from edgetam_model.training.annotations import (
    WEIGHTS,
    AnnotatedObject,
    AnnotatedTask,
    BoxShape,
    Sighting,
)
from edgetam_model.video import open_source

OpenMedia = Callable[[AnnotatedTask], FrameSource]

KEPT_BYTES = 512 * 2**20  # of frames that were read last: 14 photographs of 12 megapixels


@dataclass(frozen=True)
class ClipOptions:
    """What counts as a mask.

    Attributes:
        boxes: whether a rectangle does. It covers what is around the object too: a model that learns from
            it learns rectangles, so they are left out unless that is wanted.
    """

    boxes: bool = False


def media_in(folder: Path) -> OpenMedia:
    """Opens media that lie below a folder: by the task's path or name there, or by the name alone.

    Where a name has no ending, as in some exports, that of an image is added.

    Raises:
        InputError: from what it returns, media that are not there or cannot be read.
    """
    root = folder.resolve()

    def find(task: AnnotatedTask) -> FrameSource:
        name = task.media.replace("\0", "")
        for place in (root / name, root / Path(name).name):
            for path in (place, *(place.with_name(place.name + ending) for ending in sorted(SUFFIXES))):
                found = path.resolve()
                if found.exists() and found != root and found.is_relative_to(root):
                    return open_source(found)
        raise InputError("media", f"expected {task.media!r:.200} below {folder}")

    return find


class TaskClip(AnnotatedClip):
    """Those frames of a task on which all of some objects are known.

    Args:
        task: that it comes from.
        objects: as the task has them, but in frames of the file; all known on all of `frames`.
        frames: of the file, ascending.
        media: of the task.
    """

    def __init__(
        self, task: AnnotatedTask, objects: Sequence[AnnotatedObject], frames: Sequence[int], media: TaskMedia
    ) -> None:
        super().__init__(f"{task.id}, objects {', '.join(str(each.id) for each in objects)}")
        self.task = task
        self.objects, self.frames = tuple(objects), tuple(frames)
        self.media = media

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> Frame:
        self._check_index(index)
        return self.file_frame(self.frames[index])

    def file_frame(self, number: int) -> Frame:
        """Frame `number` of the file, uint8 (H, W, 3) RGB, whether or not anything is known of it.

        Raises:
            InputError: no such frame, or one that cannot be read.
        """
        return self.media.read(number)

    def masks(self, index: int) -> Masks:
        height, width = self.frame(index).shape[:2]
        shown = {number: seen.shape.mask((height, width)) for number, seen in self.sightings(index).items()}
        return {number: mask for number, mask in shown.items() if mask.any()}

    def weight(self, index: int) -> float:
        """That of the frame's best known object: what people drew counts above what a model did."""
        return max((seen.weight for seen in self.sightings(index).values()), default=WEIGHTS["human"])

    def sightings(self, index: int) -> Mapping[int, Sighting]:
        """Object id → what is known of it on frame `index`; one that is known not to be there is left out.

        Raises:
            InputError: no such frame.
        """
        self._check_index(index)
        found = ((each.id, each.sighting_on(self.frames[index])) for each in self.objects)
        return {number: seen for number, seen in found if seen is not None}


class KeptFrames:
    """The frames of some tasks that were read last, since windows of a still ask for it again and again.

    Args:
        most: bytes; a frame that is larger is kept alone.
    """

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self.most = most
        self._frames: OrderedDict[tuple[str, int], Frame] = OrderedDict()

    @property
    def used(self) -> int:
        """Bytes."""
        return sum(frame.nbytes for frame in self._frames.values())

    def get(self, task: str, number: int, read: Callable[[], Frame]) -> Frame:
        """A task's frame, read where it is not kept."""
        key = (task, number)
        frame = self._frames.pop(key) if key in self._frames else read()
        self._frames[key] = frame
        while len(self._frames) > 1 and self.used > self.most:
            self._frames.popitem(last=False)
        return frame


class TaskMedia:
    """A task's image or video. A video is opened once and stays open.

    Args:
        task: whose media it is.
        opener: opens it.
        kept: where its frames are looked for first.

    Raises:
        InputError: from every method, media that cannot be opened or read.
    """

    def __init__(self, task: AnnotatedTask, opener: OpenMedia, kept: KeptFrames) -> None:
        self._task, self._open, self._kept = task, opener, kept
        self._source: FrameSource | None = None

    def read(self, frame: int) -> Frame:
        """Frame of the file, uint8 (H, W, 3) RGB."""
        return self._kept.get(self._task.id, frame, lambda: self._read(frame))

    def frame_of(self, number: int) -> int | None:
        """The file's frame of a task's number, None where there is none."""
        if self._task.kind == "image":
            return 0 if number == 0 else None
        return self._task.numbers.frame(number, self._video().table)

    def frames_of(self, stretch: range) -> range:
        """The file's frames of a stretch of numbers."""
        first, last = self.frame_of(stretch.start), self.frame_of(stretch.stop - 1)
        if first is None or not stretch:
            return range(0)
        end = 1 if self._task.kind == "image" else len(self._video())
        return range(first, end if last is None else last + 1)

    def _read(self, frame: int) -> Frame:
        if self._task.kind == "image":  # not kept open: there may be thousands
            with self._open(self._task) as source:
                return source.read(0)
        return self._video().read(frame)

    def _video(self) -> FrameSource:
        self._source = self._source or self._open(self._task)
        return self._source


def task_clips(
    tasks: Iterable[AnnotatedTask], opener: OpenMedia, options: ClipOptions = ClipOptions()
) -> Iterator[TaskClip]:
    """The clips of tasks.

    The engine takes an object without a mask for one that is not there. So objects share a clip only where
    the same frames are known of them; a track that was drawn on other frames than its neighbour gets a
    clip of its own.

    Args:
        tasks: an image is opened when it is read, a video at once.
        opener: opens a task's media; a video's source stays open as long as its clips.
        options: what counts as a mask.

    Raises:
        InputError: media that cannot be opened.
    """
    kept = KeptFrames()
    for task in tasks:
        media = TaskMedia(task, opener, kept)
        painted = (_masks_alone(each, options) for each in task.objects)
        objects = [_in_file_frames(each, media) for each in painted if each.sightings]
        frames = sorted({frame for each in objects for frame in _telling(each)})
        shared: dict[tuple[int, ...], list[AnnotatedObject]] = {}
        for each in objects:
            if each.sightings:
                shared.setdefault(each.known_among(frames), []).append(each)
        for known, members in shared.items():
            yield TaskClip(task, members, known, media)


def _masks_alone(each: AnnotatedObject, options: ClipOptions) -> AnnotatedObject:
    """The object without its rectangles, where they do not count."""
    if options.boxes:
        return each
    return replace(each, sightings=tuple(s for s in each.sightings if not isinstance(s.shape, BoxShape)))


def _in_file_frames(each: AnnotatedObject, media: TaskMedia) -> AnnotatedObject:
    """The object in frames of the file; of several numbers that show one frame the heaviest counts, and what
    the file does not have is left out."""
    found: dict[int, Sighting] = {}
    for seen in sorted(each.sightings, key=lambda seen: -seen.weight):
        frame = media.frame_of(seen.frame)
        if frame is not None:
            found.setdefault(frame, replace(seen, frame=frame))
    absent = (media.frames_of(stretch) for stretch in each.absent)
    return replace(
        each,
        sightings=tuple(found[frame] for frame in sorted(found)),
        absent=tuple(stretch for stretch in absent if stretch),
    )


def _telling(each: AnnotatedObject) -> Iterator[int]:
    """Frames worth showing: with the object, and the first of each stretch without it."""
    yield from (seen.frame for seen in each.sightings)
    yield from (stretch.start for stretch in each.absent)
