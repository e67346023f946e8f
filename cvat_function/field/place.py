"""CVAT as a place that kits come from and go back to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cvat_function.commands.reaching import reach
from cvat_function.field.content import Labels, PackedJob, TaskContent
from cvat_function.field.merging import merging
from cvat_function.field.reading import CvatProject
from cvat_function.video.frames import ListedFrames, common_size, list_frames, parse_range
from cvat_function.video.login import login_of
from cvat_function.video.records import Annotations, Job, Meta
from edgetam_model import InputError
from edgetam_model.field_places import (
    Access,
    FieldItem,
    FieldProject,
    Media,
    Outcome,
    Packing,
    PackWish,
    Return,
)

if TYPE_CHECKING:  # the SDK is an extra, and a kit in the field needs none of it
    from cvat_function.video.server import CvatServer, Place

Kind = Literal["image", "images", "video"]


class CvatPlatform:
    """The entry point; see `FieldPlatform`."""

    def project(self, text: str) -> FieldProject:
        """See `FieldPlatform`; the text holds the labels."""
        return CvatProject(Labels.read(text))

    @contextmanager
    def site(self, access: Access) -> Iterator[CvatSite]:
        """See `FieldPlatform`. The environment is that of `edgetam cvat track`."""
        environ = {**access.environ, **({"CVAT_ACCESS_TOKEN": access.token} if access.token else {})}
        address = access.url or environ.get("CVAT_HOST") or access.known or None
        with reach(login_of(environ, server=address)) as server:
            yield CvatSite(server)


PLATFORM = CvatPlatform()


@dataclass(frozen=True)
class CvatSite:
    """A server; see `edgetam_model.field_places.FieldSite`."""

    server: CvatServer

    @property
    def url(self) -> str:
        """Its address."""
        return self.server.address

    def pack(self, wish: PackWish) -> Packing:
        """A task, or a job of one: a video as a clip, images one by one.

        Images with tracks in them are a clip as well, where they have one size.

        Raises:
            InputError: no such task or job, or a range that leaves it.
            ServerError: the server refuses, or is not reached.
        """
        from cvat_function.video.work import Whereabouts, where

        if wish.tasks:
            raise InputError("tasks", "a kit holds one CVAT task: name it in --from cvat:TASK")
        number, job = _numbers(wish.address)
        place, task, jobs = where(self.server, Whereabouts(number, job))
        meta = self.server.meta(place)
        first, last = parse_range(wish.range) if wish.range else (jobs[0].start_frame if job else 0, None)
        listed = list_frames(meta, jobs[0] if job is not None else None, first, last)
        packed = tuple(self._packed(one, listed) for one in jobs if _reaches(one, listed))
        content = TaskContent(task=task, frames=listed.frames, jobs=packed)
        labels = Labels(labels=self.server.labels(place))
        item = self._item(place, content, _kind(meta, listed, content, clip=wish.clip))
        return Packing(task, f"CVAT {place.kind} {place.id}", labels.model_dump_json(), iter([item]))

    def merge(self, home: Return) -> Iterator[Outcome]:
        """See `FieldSite`: one outcome for each object that was changed, in each job."""
        return merging(_Jobs(self.server), home)

    def _packed(self, job: Job, listed: ListedFrames) -> PackedJob:
        from cvat_function.video.server import Place

        frames = tuple(frame for frame in listed.kept if job.start_frame <= frame <= job.stop_frame)
        return PackedJob(id=job.id, frames=frames, annotations=self.server.annotations(Place("job", job.id)))

    def _item(self, place: Place, content: TaskContent, kind: Kind) -> FieldItem:
        from cvat_function.video.tracking import TaskFrames

        frames = content.frames
        opened: Sequence[Callable[[], AbstractContextManager[Media]]]
        if kind == "video":
            clip = TaskFrames(lambda frame: self.server.frame(place, frame), frames)
            opened = (lambda: nullcontext(clip),)
        else:
            opened = tuple(_picture(self.server, place, frame) for frame in frames)
        return FieldItem(
            id=content.task,
            name=f"{place.kind} {place.id}, frames {frames[0]} to {frames[-1]}",
            kind=kind,
            content=content.model_dump_json(),
            objects=sum(job.annotations.count for job in content.jobs),
            media=tuple(opened),
            numbers=() if frames == tuple(range(len(frames))) else frames,
        )


@dataclass(frozen=True)
class _Jobs:
    """See `merging.Store`."""

    server: CvatServer

    def annotations(self, job: int) -> Annotations | None:
        from cvat_function.video.server import Place

        try:
            return self.server.annotations(Place("job", job))
        except InputError as error:
            if error.field == "job" and "(404)" in error.problem:
                return None
            raise

    def create(self, job: int, annotations: Annotations) -> Annotations:
        from cvat_function.video.work import in_parts

        nameless = Annotations(
            tracks=tuple(track.model_copy(update={"id": None}) for track in annotations.tracks),
            shapes=tuple(shape.model_copy(update={"id": None}) for shape in annotations.shapes),
        )
        made = [self.server.create(job, part) for part in in_parts(nameless)]
        return Annotations(
            tracks=tuple(track for part in made for track in part.tracks),
            shapes=tuple(shape for part in made for shape in part.shapes),
        )

    def delete(self, job: int, annotations: Annotations) -> None:
        self.server.delete(job, annotations)


def _numbers(address: str) -> tuple[int | None, int | None]:
    """(task, job) of `7` or `job:31`; one of them is None.

    Raises:
        InputError: anything else.
    """
    kind, _, text = address.rpartition(":")
    if kind not in ("", "task", "job") or not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise InputError("from", f"expected cvat:TASK or cvat:job:JOB, by their numbers, got {address!r:.80}")
    return (None, int(text)) if kind == "job" else (int(text), None)


def _reaches(job: Job, listed: ListedFrames) -> bool:
    return any(job.start_frame <= frame <= job.stop_frame for frame in listed.frames)


def _kind(meta: Meta, listed: ListedFrames, content: TaskContent, *, clip: bool) -> Kind:
    """A video has one size for all its frames, images have one each."""
    video = len(meta.frames) == 1 and meta.size > 1
    if clip and not video:
        common_size(listed)
    same = len({listed.sizes[frame] for frame in listed.frames}) == 1
    tracks = any(job.annotations.tracks for job in content.jobs)
    if video or clip or (same and tracks):
        return "video"
    return "images" if len(listed.frames) > 1 else "image"


def _picture(server: CvatServer, place: Place, frame: int) -> Callable[[], AbstractContextManager[Media]]:
    @contextmanager
    def opened() -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="edgetam-field-") as folder:
            path = Path(folder) / "frame"
            path.write_bytes(server.frame(place, frame))
            yield path

    return opened
