"""From a stretch of a task to new tracks in it, and back: what the verbs `edgetam cvat …` do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cvat_function.settings import Quality
from cvat_function.video.frames import FrameMap, map_frames
from cvat_function.video.receipt import JobUpload, Receipt, Standing, standing_of
from cvat_function.video.records import Annotations, Job, LabeledShape, Track
from cvat_function.video.seeds import Choice, Chosen, choose_seeds
from cvat_function.video.server import CvatServer, Place
from cvat_function.video.tracking import Followed, Progress, follow
from cvat_function.video.tracks import annotations_of
from edgetam_model import EdgeTAM, EdgeTAMError, InputError

Item = Track | LabeledShape
PART_NUMBERS = 500_000  # coordinates per request, about 4 MB of JSON; Django stops at CVAT's 100


@dataclass(frozen=True)
class Whereabouts:
    """A task or a job; a job alone is enough, and all that many annotators may see."""

    task: int | None
    job: int | None


@dataclass(frozen=True)
class Wish(Whereabouts):
    """What to track.

    Attributes:
        first, last: frames as the task counts them, both included; last None: to the end.
    """

    first: int
    last: int | None
    choice: Choice


@dataclass(frozen=True)
class Plan:
    """What would happen.

    Attributes:
        place: where frames and seeds are read.
        jobs: which get what comes out, by their first frame; overlapping ones get the overlap each.
    """

    place: Place
    task: int
    jobs: tuple[Job, ...]
    frames: FrameMap
    chosen: Chosen


@dataclass(frozen=True)
class Undone:
    """What `undo` found, and took back unless it was a rehearsal."""

    removed: int
    missing: int
    edited: tuple[str, ...]


def make_plan(server: CvatServer, wish: Wish) -> Plan:
    """Read what is there and decide.

    Raises:
        InputError: a task, job, range, label or seed that does not fit.
    """
    place, task, jobs = where(server, wish)
    frames = map_frames(server.meta(place), jobs[0] if wish.job is not None else None, wish.first, wish.last)
    chosen = choose_seeds(server.annotations(place), server.labels(place), frames, wish.choice)
    begin = min(seed.keys[0].frame for seed in chosen.seeds)
    reached = [
        j for j in jobs if any(j.start_frame <= f <= j.stop_frame for f in frames.frames if f >= begin)
    ]
    return Plan(place, task, tuple(reached), frames, chosen)


def where(server: CvatServer, wish: Whereabouts) -> tuple[Place, int, tuple[Job, ...]]:
    """Where it is read, its task, and its jobs by their first frame.

    Raises:
        InputError: no such task or job, or point clouds.
    """
    if wish.job is not None:
        job = server.job(wish.job)
        if wish.task not in (None, job.task_id):
            raise InputError("job", f"job {job.id} belongs to task {job.task_id}, not to task {wish.task}")
        return Place("job", job.id), job.task_id, _flat((job,))
    if wish.task is None:
        raise InputError("task", "expected a task or a job")
    jobs = server.jobs_of(wish.task)
    if not jobs:
        raise InputError("task", f"task {wish.task} has no annotation job")
    return Place("task", wish.task), wish.task, _flat(jobs)


def _flat(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    if any(job.dimension != "2d" for job in jobs):
        raise InputError("task", "it holds point clouds; only images and video can be tracked")
    return jobs


def track(
    server: CvatServer, plan: Plan, model: EdgeTAM, progress: Progress, quality: Quality | None = None
) -> Followed:
    """Track the plan's seeds through its frames, fetched from the server on the way; see `follow`."""

    def fetch(number: int) -> bytes:
        return server.frame(plan.place, number)

    return follow(model, fetch, plan.frames, plan.chosen.seeds, progress, quality)


def uploads(plan: Plan, followed: Followed) -> tuple[JobUpload, ...]:
    """What each job is to get; jobs that get nothing are left out."""
    parts = [(j, annotations_of(plan.chosen.seeds, followed.sights, j, plan.frames)) for j in plan.jobs]
    return tuple(JobUpload(job=job.id, annotations=made) for job, made in parts if made.count)


def send(server: CvatServer, receipt: Receipt, path: Path) -> Receipt:
    """Upload what a receipt holds and the server does not have yet; the file follows every step.

    Raises:
        InputError: people have edited what arrived earlier.
        EdgeTAMError: the upload failed; the message says how to go on.
    """
    receipt.save(path)
    for waiting in receipt.jobs:
        with _advice(path):
            now = server.annotations(Place("job", waiting.job))
        upload = waiting if waiting.begun else waiting.beginning(now)
        standing = standing_of(upload, now)
        _refuse_edited([standing], "sent again")
        receipt = receipt.with_job(upload)
        receipt.save(path)
        with _advice(path):
            made = [server.create(upload.job, part) for part in in_parts(standing.missing)]
        there = _joined([standing.untouched, *made])
        receipt = receipt.with_job(upload.model_copy(update={"annotations": there}))
        receipt.save(path)
    return receipt


@contextmanager
def _advice(path: Path) -> Iterator[None]:
    """Hours of tracking may hang on it: say that they are kept."""
    try:
        yield
    except EdgeTAMError as error:
        raise EdgeTAMError(
            f"{error}; nothing is lost: `edgetam cvat upload {path}` sends what is missing, "
            f"`edgetam cvat undo {path}` takes back what arrived"
        ) from error


def undo(
    server: CvatServer, receipt: Receipt, path: Path, *, keep_edited: bool = False, rehearse: bool = False
) -> Undone:
    """Take back what is there of an upload, after a look at all of it.

    Raises:
        InputError: a person has edited some of it, and `keep_edited` is false: nothing is removed.
    """
    begun = [upload for upload in receipt.jobs if upload.begun]
    places = [Place("job", upload.job) for upload in begun]
    standings = [
        standing_of(upload, server.annotations(place)) for upload, place in zip(begun, places, strict=True)
    ]
    if not keep_edited:
        _refuse_edited(standings, "taken back (--keep-edited takes back the rest)")
    for place, standing in zip(places, standings, strict=True):
        if standing.untouched.count and not rehearse:
            server.delete(place.id, standing.untouched)
    if not rehearse:
        receipt.model_copy(update={"taken_back": True}).save(path)
    return Undone(
        sum(standing.untouched.count for standing in standings),
        sum(standing.missing.count for standing in standings),
        tuple(words for standing in standings for words in standing.edited),
    )


def in_parts(annotations: Annotations) -> Iterator[Annotations]:
    """Requests of bearable size, in order; a single object is never cut."""
    part: list[Item] = []
    size = 0
    for item in _items(annotations):
        marks = item.shapes if isinstance(item, Track) else [item]
        numbers = sum(len(mark.points) for mark in marks)
        if part and size + numbers > PART_NUMBERS:
            yield _gathered(part)
            part, size = [], 0
        part.append(item)
        size += numbers
    if part:
        yield _gathered(part)


def _items(annotations: Annotations) -> list[Item]:
    return [*annotations.tracks, *annotations.shapes]


def _gathered(items: Sequence[Item]) -> Annotations:
    return Annotations(
        tracks=tuple(item for item in items if isinstance(item, Track)),
        shapes=tuple(item for item in items if isinstance(item, LabeledShape)),
    )


def _joined(parts: Sequence[Annotations]) -> Annotations:
    return _gathered([item for part in parts for item in _items(part)])


def _refuse_edited(standings: Sequence[Standing], done: str) -> None:
    edited = [words for standing in standings for words in standing.edited]
    if edited:
        raise InputError(
            "receipt", f"edited in CVAT since the upload: {', '.join(edited)}; nothing was {done}"
        )
