"""The field page's other side: keeps the work, has the model compute, and tells the page how it stands."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, Literal

from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError

from backend.field import views
from backend.field.events import (
    Begun,
    Confirmed,
    Deleted,
    Done,
    FrameIndex,
    ObjectId,
    Pass,
    Pointed,
    Relabelled,
    Tracked,
    Undone,
)
from backend.field.journal import NAME, Journal
from backend.field.kit import Kit
from backend.field.manifest import Frozen, PackedTask
from backend.field.predicting import FilmLooker, Looker, StillLooker
from backend.field.tracking import Stopped, follow, passes_after, run_passes
from backend.field.work import Work
from edgetam_model import EdgeTAMError, FrameSource, InputError, open_source
from edgetam_model.field_objects import FieldObject, Labels, Spec

if TYPE_CHECKING:
    from edgetam_model import EdgeTAM

JPEG_QUALITY = 85  # of video frames on their way to the page, on this machine
BUSY = "frames are being tracked: wait, or stop it first"
ANSWER_SECONDS = 300.0  # that a click may take, with large weights on a slow machine


class Point(Frozen):
    """Point at an object, or with `object` None at a new one."""

    do: Literal["prompt"]
    object: ObjectId | None = None
    labels: Labels = ()
    frame: FrameIndex = 0
    spec: Spec


class Track(Frozen):
    """Track everything; `object` is one that came with the kit and takes part from now on."""

    do: Literal["track"]
    object: ObjectId | None = None
    reverse: bool = False


class Resume(Frozen):
    """Go on with tracking that was cut off."""

    do: Literal["resume"]


class Stop(Frozen):
    """Stop tracking; what is finished stays."""

    do: Literal["stop"]


Action = Annotated[
    Point | Track | Resume | Stop | Deleted | Relabelled | Confirmed | Done | Undone,
    Field(discriminator="do"),
]
ACTION: TypeAdapter[Action] = TypeAdapter(Action)


class BusyError(EdgeTAMError):
    """Something is being tracked, and must be finished or stopped first."""


@dataclass
class Running:
    """Tracking that is under way; `total` is 0 until it is known."""

    task: int
    done: int = 0
    total: int = 0
    began: float = field(default_factory=time.monotonic)
    stopping: bool = False
    closing: bool = False

    def progress(self, done: int, total: int) -> None:
        """Called after each frame.

        Raises:
            Stopped: somebody asked for it, or the program ends.
        """
        self.done, self.total = done, total
        if self.stopping or self.closing:
            raise Stopped(by_person=not self.closing)


class Desk:
    """Everything behind the page; its methods may be called from any thread.

    Args:
        kit: opened and verified.
        load: makes the model; called once, on the worker's thread.
    """

    def __init__(self, kit: Kit, load: Callable[[], EdgeTAM]) -> None:
        self._kit = kit
        self._project = kit.project()
        self._labels: dict[int, tuple[str, ...]] = {}
        self._works: dict[int, Work] = {}
        self._lock = threading.RLock()  # of works, `_running` and `_problem`
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="edgetam-field")
        self._model: Future[EdgeTAM] = self._worker.submit(load)
        self._open: tuple[int, Looker] | None = None  # the worker's own
        self._pictures: tuple[int, FrameSource] | None = None
        self._picture_lock = threading.Lock()
        self._running: Running | None = None
        self._problem = ""

    def close(self) -> None:
        """Stop what runs, at the next frame, and release everything; it can go on another time."""
        with self._lock:
            if self._running:
                self._running.closing = True
        self._worker.submit(self._close_task)
        self._worker.shutdown(wait=True)
        with self._picture_lock:
            if self._pictures:
                self._pictures[1].close()
                self._pictures = None

    # What the page reads

    def overview(self) -> dict[str, Any]:
        """The kit and its tasks, those first that a person should look at."""
        source = self._kit.manifest.source
        with self._lock:
            lines = [views.task_line(task, self._known(task)) for task in self._kit.manifest.tasks]
            return {"title": source.title, "tasks": views.in_order(lines), **self._state()}

    def task(self, number: int) -> dict[str, Any]:
        """A task as the editor shows it.

        Raises:
            InputError: the kit holds no such task, or its journal is damaged.
        """
        task = self._kit.manifest.task(number)
        with self._lock:
            view = views.task_view(task, self._work(task), self._labels_of(task))
            return {**view, **self._state()}

    def frame(self, number: int, frame: int) -> dict[str, Any]:
        """What is drawn over a frame.

        Raises:
            InputError: no such task or frame.
        """
        task = self._kit.manifest.task(number)
        _check_frame(task, frame)
        with self._lock:
            return views.frame_view(task, self._work(task), frame)

    def picture(self, number: int, frame: int) -> tuple[bytes, str]:
        """A frame as a file that browsers show, and its content type.

        Raises:
            InputError: no such task or frame, or one that cannot be decoded.
        """
        task = self._kit.manifest.task(number)
        _check_frame(task, frame)
        if task.media.kind != "video":
            path = self._kit.path(task.media.files[frame])
            return path.read_bytes(), "image/png" if path.suffix == ".png" else "image/jpeg"
        with self._picture_lock:
            if self._pictures is None or self._pictures[0] != number:
                if self._pictures:
                    self._pictures[1].close()
                self._pictures = (number, open_source(self._kit.path(task.media.file)))
            rgb = self._pictures[1].read(frame)
        buffer = BytesIO()
        Image.fromarray(rgb).save(buffer, format="JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue(), "image/jpeg"

    # What the page does

    def act(self, number: int, body: object) -> dict[str, Any]:
        """Carry out an action; the task as it is then, and `object`, the one that was pointed at.

        Raises:
            InputError: an action that is none, or that cannot be carried out.
            BusyError: something is being tracked.
        """
        action = _action(body)
        task = self._kit.manifest.task(number)
        pointed = None
        if isinstance(action, Stop):
            self._stop()
        else:
            with self._lock:
                if self._running:
                    raise BusyError(BUSY)
                self._problem = ""
            if isinstance(action, Point | Relabelled):
                self._check_labels(task, action.labels)
            if isinstance(action, Point):
                _check_frame(task, action.frame)
                pointed = self._worker.submit(self._point, task, action).result(ANSWER_SECONDS)
            elif isinstance(action, Track):
                self._begin(task, action)
            elif isinstance(action, Resume):
                self._resume(task)
            else:
                with self._lock:
                    self._work(task).add(action)
        return {**self.task(number), "object": pointed}

    def _check_labels(self, task: PackedTask, labels: Labels) -> None:
        unknown = sorted(set(labels) - set(self._labels_of(task)))
        if unknown:
            raise InputError("labels", f"expected labels of the project, got {unknown[0]:.80}")

    def _stop(self) -> None:
        with self._lock:
            if self._running:
                self._running.stopping = True

    def _begin(self, task: PackedTask, action: Track) -> None:
        with self._lock:
            work = self._work(task)
            names = (action.object,) if action.object else ()
            taking_part = [one for one in work.now.objects.values() if one.drawn or one.id in names]
            if task.media.kind != "video" or not any(one.prompts for one in taking_part):
                raise InputError("track", "point at an object first: there is nothing to track yet")
            work.add(Tracked(objects=tuple(one.id for one in taking_part), reverse=action.reverse))
            self._run(task, [Pass(reverse=action.reverse)])

    def _resume(self, task: PackedTask) -> None:
        with self._lock:
            passes = self._work(task).unfinished
            if not passes:
                raise InputError("resume", "nothing was cut off")
            self._run(task, list(passes))

    def _run(self, task: PackedTask, passes: list[Pass]) -> None:
        """Have the worker track; under the lock."""
        self._work(task).add(Begun(passes=tuple(passes)))
        running = Running(task.id)
        self._running = running
        self._worker.submit(self._track, task, passes, running)

    # On the worker's thread

    def _point(self, task: PackedTask, action: Point) -> str:
        looker, work = self._looker(task), self._work(task)
        with self._lock:
            if self._running:
                raise BusyError(BUSY)
            name = action.object or secrets.token_hex(5)  # ten letters, as Label Studio's own ids
            fresh = FieldObject(name, work.now.used + 1, action.labels)
            one = work.object(name) if action.object else fresh
            if task.media.kind == "images" and one.rows and action.frame not in one.rows:
                raise InputError("frame", "this object is in another image")
            follow(looker, work)
        if isinstance(looker, FilmLooker) and not one.drawn:
            looker.follow([*(o for o in work.now.objects.values() if o.drawn), one])
        spec, row = looker.point(one, action.frame, action.spec)
        with self._lock:
            event = Pointed(object=name, labels=one.labels, frame=action.frame, spec=spec, row=row)
            work.add(event)
            passes = passes_after(one, action.frame) if isinstance(looker, FilmLooker) else []
            if passes:
                self._run(task, passes)
        return name

    def _track(self, task: PackedTask, passes: list[Pass], running: Running) -> None:
        try:
            looker, work = self._looker(task), self._work(task)
            assert isinstance(looker, FilmLooker)
            run_passes(looker, work, passes, running.progress, self._lock)
        except (EdgeTAMError, OSError) as error:
            with self._lock:
                self._problem = str(error)
        finally:
            with self._lock:
                self._running = None

    def _looker(self, task: PackedTask) -> Looker:
        model = self._model.result()
        if self._open is not None and self._open[0] == task.id:
            return self._open[1]
        self._close_task()
        paths, work = [self._kit.path(file) for file in task.media.files], self._work(task)
        if task.media.kind == "video":
            looker: Looker = FilmLooker(model, paths[0], self._kit.work(task.id))
        else:
            looker = StillLooker(model, paths, work.given.objects)
        self._open = (task.id, looker)
        return looker

    def _close_task(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    # Under the lock

    def _work(self, task: PackedTask) -> Work:
        with self._lock:
            if task.id not in self._works:
                given = self._project.objects(self._kit.task(task.id))
                self._works[task.id] = Work(Journal(self._kit.work(task.id) / NAME), given)
            return self._works[task.id]

    def _labels_of(self, task: PackedTask) -> tuple[str, ...]:
        with self._lock:
            if task.id not in self._labels:
                self._labels[task.id] = self._project.labels(self._kit.task(task.id))
            return self._labels[task.id]

    def _known(self, task: PackedTask) -> Work | None:
        """The work on a task that somebody has begun; others need not be read for the list."""
        begun = task.id in self._works or (self._kit.work(task.id) / NAME).exists()
        return self._work(task) if begun else None

    def _state(self) -> dict[str, Any]:
        loading = not self._model.done()
        failed = self._model.exception() if not loading else None
        running = self._running and {
            "task": self._running.task,
            "done": self._running.done,
            "total": self._running.total,
            "stopping": self._running.stopping,
            "seconds": round(time.monotonic() - self._running.began, 1),
        }
        model = "loading" if loading else "failed" if failed else "ready"
        return {"model": model, "running": running, "problem": str(failed or self._problem)}


def _action(body: object) -> Action:
    try:
        return ACTION.validate_python(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InputError(".".join(str(part) for part in first["loc"]) or "body", first["msg"]) from error


def _check_frame(task: PackedTask, frame: int) -> None:
    if not 0 <= frame < task.media.frames:
        raise InputError("frame", f"expected 0 to {task.media.frames - 1}, got {frame}")
