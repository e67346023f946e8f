"""The request side of video: a press of the button becomes a job, and the answer what is finished of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from backend import acts
from backend.jobs import JobOptions, JobStatus, QueueName
from backend.label_config import LabelConfig, VideoSetup
from backend.queue import JobQueue
from backend.settings import Settings
from backend.video_command import parse_command
from backend.video_keyframes import KeyframeOptions
from backend.video_plan import RegionPlan, plan_region
from backend.video_prompts import result_of
from backend.video_work import (
    KIND,
    Found,
    TrackRequest,
    VideoFacts,
    VideoWork,
    command_of,
    read_parts,
    region_mark,
)
from edgetam_model import InputError

POLL = 0.05  # seconds between two looks at a job
LOAD_SECONDS = 20.0  # how long a press waits for the model, whose fingerprint names the job; 2 to 5 are usual
LOAD_SECONDS_BATCH = 2.0  # somebody may only have opened the task, and its page waits
STOP_SECONDS = 2.0  # how long `stop` waits for a job to hand in what it has
UNKNOWN_PROJECT = "unknown"  # requests that name no project share the places of one
LOOK_BACK = 200  # newest jobs among which older ones of the same regions are looked for
HOURS_12 = 12 * 3600  # seconds that one attempt may take: 1e6 frames at 23 frames/s
log = logging.getLogger(__name__)
Answer = dict[str, Any]


class TrackedBy(Protocol):
    """What is needed of `Serving`: whose weights track, see `TrackRequest`."""

    @property
    def project(self) -> str: ...

    @property
    def label(self) -> str: ...

    def fingerprint(self, seconds: float) -> str: ...


@dataclass(frozen=True)
class _Seen:
    """A job as it is now."""

    id: str
    status: JobStatus
    facts: VideoFacts | None
    found: Found


class VideoRequests:
    """Answers /predict for videos; may be shared between threads.

    Every method raises `QueueUnavailable` when Redis cannot be reached.

    Args:
        settings: how long to wait, how keyframes are thinned, how long results live.
        queue: where jobs go.
    """

    def __init__(self, settings: Settings, queue: JobQueue) -> None:
        self.settings = settings
        self.queue = queue
        self.options = KeyframeOptions(tolerance=settings.keyframe_tolerance)

    def answer(
        self,
        task: Mapping[str, Any],
        context: object,
        config: LabelConfig,
        serving: TrackedBy,
        *,
        hostname: str | None = None,
        interactive: bool = True,
    ) -> Answer:
        """The body of the answer about one task.

        An interactive request waits up to `answer_seconds` and answers with every region that was sent, with
        what is finished; another one with the same boxes finds the same job.

        A batch request waits for nothing, and has results when the whole track is done. Label Studio sends
        one whenever a task without predictions is opened, too, and nothing tells that from Retrieve
        Predictions. So it starts a job of low priority at most once for what is drawn: not while somebody's
        press is at work on the same regions, nothing that is tracked already, and never again what failed
        or was cancelled: Retry on the status page does that, and so does a press.

        Args:
            task: Label Studio's JSON.
            context: of the request; None: the task's own drafts or annotations.
            config: of the project.
            serving: whose weights are to track.
            hostname: Label Studio's address in its own words.
            interactive: whether somebody waits.

        Raises:
            InputError: something malformed in the request, or a job that failed before anything was finished.
            QueueFull: too many jobs wait.
            ModelNotReady: the base weights, whose fingerprint names the job, still load.
        """
        if config.video is None:
            return {"results": []}
        items = result_of(task, context)
        names = config.video
        if not any(isinstance(item, Mapping) and item.get("type") == "videorectangle" for item in items):
            return {"results": []}
        request = _request(task, items, names, hostname, serving)
        plans = request.sketch()
        if any(plan.stop for plan in plans):
            stopped = self._stop(request, [plan for plan in plans if plan.stop])
            if stopped is not None and not any(plan.prompts for plan in plans):
                return stopped
        if all(plan.settled for plan in plans):
            return _as_it_came(plans) if interactive else {"results": []}
        if not interactive and self._is_pressed(request, plans):
            return {"results": []}
        weights = serving.fingerprint(LOAD_SECONDS if interactive else LOAD_SECONDS_BATCH)
        return self._tracked(request, plans, request.key(plans, weights), interactive=interactive)

    def _tracked(
        self, request: TrackRequest, plans: Sequence[RegionPlan], key: str, *, interactive: bool
    ) -> Answer:
        """Have the request's job done, and answer with what is finished."""
        end = time.monotonic() + (self.settings.answer_seconds if interactive else 0)
        queue: QueueName = "interactive" if interactive else "batch"
        seen = self._wait(self._enqueue(request, plans, key, queue), end)
        work = VideoWork.of(request, seen.facts) if seen.facts else None
        # The job's frames are not all that is missing where a person deleted some that were there before it.
        if work and _is_whole(self.queue, seen) and work.lacks(seen.found):
            key = sha256(f"{key} {seen.id}".encode()).hexdigest()[:32]
            seen = self._wait(self._enqueue(request, plans, key, queue), end)
        if seen.status.state == "failed" and not seen.found:
            raise InputError("video", f"cannot be tracked: {seen.status.error}")
        if work is None or seen.facts is None:
            return _as_it_came(plans) if interactive else {"results": []}
        if not interactive and seen.status.state != "done":
            return {"results": []}
        version = seen.facts.version
        found = work.prediction(seen.found, self.options, seen.id, version, commands=interactive)
        return {"results": [found]}

    def _enqueue(self, request: TrackRequest, plans: Sequence[RegionPlan], key: str, queue: QueueName) -> str:
        """The job of this request, new or already there; older ones that it makes needless end."""
        wanted = _asked(plans)
        group = _group(request, wanted)
        objects = f"{len(wanted)} object{'s' if len(wanted) > 1 else ''}"
        options = JobOptions(
            queue=queue,
            key=key,
            once=queue == "batch",
            supersedes=group,
            project=request.project or UNKNOWN_PROJECT,
            title=f"task {request.task}: {objects}",
            timeout=HOURS_12,
            result_ttl=self.settings.result_ttl,
        )
        enqueued = self.queue.enqueue(KIND, request.to_json(), options)
        if enqueued.created:
            about = {"job": enqueued.id, "project": request.project, "task": request.task or ""}
            acts.record("track", about)
            for older in self._live(request, wanted):
                if older.id != enqueued.id and set(older.group.split()) < set(group.split()):
                    self.queue.cancel(older.id)
        return enqueued.id

    def _is_pressed(self, request: TrackRequest, plans: Sequence[RegionPlan]) -> bool:
        """Whether a press is at work on some of these regions; a batch must not end its job."""
        return any(job.queue == "interactive" for job in self._live(request, _asked(plans)))

    def _live(self, request: TrackRequest, regions: Sequence[str]) -> list[JobStatus]:
        """Jobs that wait or run for any of these regions."""
        start, *marks = _group(request, regions).split()
        return [
            status
            for status in self.queue.recent(LOOK_BACK)
            if status.kind == KIND
            and not status.is_over
            and status.group.split()[:1] == [start]
            and set(status.group.split()) & set(marks)
        ]

    def _wait(self, job_id: str, end: float) -> _Seen:
        """The job when all its frames are there, or at that time of the monotonic clock."""
        while True:
            status = self.queue.status(job_id)
            if status is None:
                raise InputError("video", "its job has been removed; press again")
            tracked = 0 < status.total <= status.done
            if status.is_over or tracked or time.monotonic() >= end:
                facts, found = read_parts(self.queue.partials(job_id))
                return _Seen(job_id, status, facts, found)
            time.sleep(POLL)

    def _stop(self, request: TrackRequest, plans: Sequence[RegionPlan]) -> Answer | None:
        """End the work on these regions, and answer with what is finished of it; None: nothing has run.

        A job that follows others as well goes on with them.
        """
        end = time.monotonic() + STOP_SECONDS
        stopped = [plan.region.id for plan in plans]
        jobs = self._live(request, stopped)
        ended = [job.id for job in jobs if self._leave_out(job, stopped)]
        for job in jobs:
            acts.record("stop", {"job": job.id, "project": request.project, "task": request.task or ""})
        for job in jobs:
            payload = self.queue.payload(job.id)
            if job.id in ended:
                self.queue.wait(job.id, max(0.0, end - time.monotonic()))
            seen = self._wait(job.id, 0)
            if payload is not None and seen.facts is not None:
                return self._finished(request, TrackRequest.read(payload), seen, seen.facts)
        return _as_it_came(plans) if not jobs else None

    def _leave_out(self, job: JobStatus, regions: Sequence[str]) -> bool:
        """Have a job go on without these regions; True: it had no others, and ends."""
        _, *marks = job.group.split()
        dropped = self.queue.drop(job.id, [region_mark(region) for region in regions])
        return dropped >= set(marks) and self.queue.cancel(job.id)

    def _finished(self, request: TrackRequest, asked: TrackRequest, seen: _Seen, facts: VideoFacts) -> Answer:
        """What a stopped job finished, in the regions as they are now."""
        work, ordered = VideoWork.of(request, facts), asked.read_regions()
        plans = []
        for plan in work.plans:
            command = parse_command(command_of(ordered, plan.region.id))
            tracked = plan.stop and plan.region.id in seen.found and not command.stop
            plans.append(plan_region(plan.region, command, work.frames, work.size) if tracked else plan)
        work = VideoWork(work.frames, work.size, tuple(plans))
        prediction = work.prediction(seen.found, self.options, seen.id, facts.version, commands=True)
        return {"results": [prediction]}


def _request(
    task: Mapping[str, Any], items: list[Any], names: VideoSetup, hostname: str | None, serving: TrackedBy
) -> TrackRequest:
    data = task.get("data")
    data = data if isinstance(data, Mapping) else {}
    number = task.get("id")
    rate = names.object.attributes.get("framerate")
    named = (rate or "").strip().removeprefix("$")
    return TrackRequest.read(
        {
            "task": number if isinstance(number, int) and not isinstance(number, bool) else None,
            "media": names.object.reference(data),
            "hostname": hostname,
            "from_name": names.rectangle.name,
            "to_name": names.object.name,
            "command": names.commands.name if names.commands else None,
            "buttons": names.action.labels if names.action else (),
            "rate": rate,
            "data": {named: data[named]} if named in data else {},
            "regions": items,
            "project": serving.project,
            "version": serving.label,
        }
    )


def _as_it_came(plans: Sequence[RegionPlan]) -> Answer:
    """The regions unchanged, so that the editor shows them again as they are."""
    result = [dict(plan.region.raw) for plan in plans]
    result += [dict(plan.region.command_raw) for plan in plans if plan.region.command_raw and not plan.stop]
    return {"results": [{"result": result, "score": 0.0}]}


def _asked(plans: Sequence[RegionPlan]) -> list[str]:
    """The regions that are to be tracked."""
    return [plan.region.id for plan in plans if plan.prompts]


def _is_whole(queue: JobQueue, seen: _Seen) -> bool:
    """Whether a job has done all that it was asked for, on a video that was as long as it said."""
    if seen.status.state != "done":
        return False
    result = queue.result(seen.id)
    return isinstance(result, dict) and result.get("short") is False


def _group(request: TrackRequest, regions: Sequence[str]) -> str:
    """A word for the task in its project, and one for each region."""
    marks = sorted({region_mark(region) for region in regions})
    return " ".join([f"track-{request.project or UNKNOWN_PROJECT}-{request.task}", *marks])
