"""The job that tracks: all regions of a request in one session, handed in about every second, resumable."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from backend.delivery import Delivery
from backend.fetching import FetchError
from backend.frame_map import FrameMap
from backend.jobs import JSON, JobFunction, JobHandle, JSONDict, TryAgain
from backend.keyframe import Box
from backend.label_studio import LabelStudio, LabelStudioError
from backend.loading import version_of
from backend.media import MediaIntake
from backend.media_cache import MediaBusyError
from backend.project_models import ProjectModels
from backend.settings import Settings
from backend.thumbnails import SeenFrames, thumbnail
from backend.video_plan import RegionPlan
from backend.video_work import TrackRequest, VideoFacts, VideoWork, frame_row, read_parts, region_mark
from edgetam_model import CheckpointError, MediaError, Prompt, WeightsError, open_source

if TYPE_CHECKING:
    from edgetam_model import EdgeTAM, FrameResult, FrameSource, VideoSession, VideoTracker

HAND_IN = 1.0  # seconds between two parts: what a kill costs, and how old an answer is at most
FIRST_HAND_IN = 0.3  # seconds until the first one
LOAD_SECONDS = 600.0
DELIVERIES = 3  # attempts of the job after which a track counts as done though Label Studio does not take it
KEPT_BACK = 2  # finished frames that the session keeps behind the current one, to tell lost from doubtful
log = logging.getLogger(__name__)


def track_job(
    settings: Settings, models: ProjectModels | None = None, intake: MediaIntake | None = None
) -> JobFunction:
    """The function of "track" jobs. Models are loaded when a job needs them, and kept.

    Args:
        settings: weights, media, Label Studio.
        models, intake: made from the settings when left out.
    """
    site = LabelStudio.from_settings(settings)
    return Tracking(
        settings,
        models or ProjectModels.from_settings(settings),
        intake or MediaIntake(settings, site),
        Delivery(site, settings),
    ).run


@dataclass(frozen=True)
class Tracking:
    """What every track job of a worker shares."""

    settings: Settings
    models: ProjectModels
    intake: MediaIntake
    delivery: Delivery

    def run(self, job: JobHandle) -> JSON:
        """Track what the payload asks for; results are in the parts.

        Returns:
            `frames` done of `total`, `complete`, `short` (the video ended early), and what came of the
            delivery in words.

        Raises:
            InputError: a payload, video, region or command that cannot be used.
            WeightsError, ModelNotReady: no model.
            TryAgain: the media's server or Label Studio does not answer now.
        """
        request = TrackRequest.read(job.payload)
        job.progress(0, 0, "fetching the video")
        try:
            opened = self.intake.open(request.media, task_id=request.task, hostname=request.hostname)
            with opened as media:
                if media.kind != "video":
                    raise MediaError(media.source, "expected a video, got an image")
                limits, apart = self.settings.media_limits(), self.settings.apart()
                with open_source(media.path, limits, apart) as source:
                    self._check_length(media.source, source)
                    return self._track(job, request, source)
        except FetchError as error:
            if error.cut_off or error.status == 429 or (error.status or 0) >= 500:
                raise TryAgain(str(error)) from error
            raise
        except MediaBusyError as error:
            raise TryAgain(str(error)) from error
        except LabelStudioError as error:
            if error.status is None or error.status >= 500:
                raise TryAgain(str(error)) from error
            raise

    def _check_length(self, name: str, source: FrameSource) -> None:
        seconds, most = source.info.duration, self.settings.max_seconds
        if seconds > most:
            raise MediaError(name, f"{seconds:,.0f} s are more than the limit of {most:,.0f} s")

    def _track(self, job: JobHandle, request: TrackRequest, source: FrameSource) -> JSON:
        # Torch takes a second to import: not before it is needed.
        from edgetam_model import TrackerOptions, VideoTracker

        job.progress(0, 0, "loading the model")
        model = self._model(job, request)
        facts = VideoFacts.of(source.info, version_of(model))
        work = VideoWork.of(request, facts)
        options = TrackerOptions(quality=request.quality())
        run = Run(job, work, source, VideoTracker(model, options))
        if run.is_new:
            job.partial({"video": facts.to_json()})
        complete = run.follow()
        result = run.summary() | {"complete": complete}
        if not complete:
            return cast(JSON, result)
        found = read_parts(job.partials())[1]
        result["delivery"] = self.delivery.deliver(
            request.task,
            work,
            found,
            facts.version,
            job.id,
            project=request.project,
            may_retry=job.attempt < DELIVERIES,
        )
        return cast(JSON, result)

    def _model(self, job: JobHandle, request: TrackRequest) -> EdgeTAM:
        """What the job began with; in its first attempt, what served when it was asked for."""
        model = self.models.pinned(request.project, request.version).get(LOAD_SECONDS)
        began = read_parts(job.partials())[0] if job.last_checkpoint() else None
        if began is None or began.version == version_of(model):
            return model
        base = self.models.base.get(LOAD_SECONDS)  # tracked already where the version could not be loaded
        if began.version == version_of(base):
            return base
        raise WeightsError(f"the track began with {began.version}, which is gone: press again")


@dataclass(frozen=True)
class Leg:
    """Frames of the file, 0-based, both included, that the same regions are followed through.

    `regions`: their places in the plan; `reverse`: backward in time, then start ≥ stop.
    """

    start: int
    stop: int
    reverse: bool
    regions: tuple[int, ...]

    @property
    def frames(self) -> int:
        """How many."""
        return abs(self.stop - self.start) + 1


def legs_of(plans: Sequence[RegionPlan], frames: FrameMap) -> list[Leg]:
    """The way through the video: forward, then backward, cut where a region comes in or is done."""
    legs = []
    for reverse in (False, True):
        spans = []
        for place, plan in enumerate(plans):
            for stretch in plan.stretches:
                if (stretch.step < 0) == reverse:
                    ends = frames.source_of(stretch.anchor), frames.source_of(stretch.stop)
                    spans.append((min(ends), max(ends), place))
        cuts = sorted({low for low, _, _ in spans} | {high + 1 for _, high, _ in spans})
        way = []
        for low, after in pairwise(cuts):
            here = sorted({place for a, b, place in spans if a <= low and after - 1 <= b})
            if here:
                ends = (after - 1, low) if reverse else (low, after - 1)
                way.append(Leg(*ends, reverse, tuple(here)))
        legs += way[::-1] if reverse else way
    return legs


@dataclass
class _Place:
    """How far a run is: the leg, the next frame of it (None: its first), and frames done so far."""

    leg: int = 0
    frame: int | None = None
    done: int = 0

    @classmethod
    def read(cls, head: bytes) -> _Place:
        """From the first line of a checkpoint.

        Raises:
            CheckpointError: written by another release.
        """
        try:
            return cls(**json.loads(head))
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                "another release began this track: press again, see docs/upgrading.md"
            ) from error


class Run:
    """One attempt of one job.

    Args:
        job: where results go, and who says when to stop.
        work: what is to be done.
        source: the open video.
        tracker: makes the session.

    Attributes:
        is_new: whether no earlier attempt left anything.
        short: whether the video turned out to end before its table does.
    """

    def __init__(self, job: JobHandle, work: VideoWork, source: FrameSource, tracker: VideoTracker) -> None:
        self.job = job
        self.plans = work.plans
        self.legs = legs_of(work.plans, work.frames)
        self.total = sum(leg.frames for leg in self.legs)
        self.short = False
        self._place = _Place()
        self._pending: dict[str, list[JSON]] = {}
        self._seen = SeenFrames(source)
        self._result: FrameResult | None = None
        blob = job.last_checkpoint()
        self.is_new = blob is None
        self.session: VideoSession
        if blob is None:
            self.session = tracker.open(self._seen)
        else:
            head, _, rest = blob.partition(b"\n")
            self._place = _Place.read(head)
            self.session = tracker.resume(rest, self._seen)
        self._began = time.monotonic()
        self._before = self._place.done
        self._due = self._began + FIRST_HAND_IN

    def follow(self) -> bool:
        """Track all legs; False: asked to stop, what is finished is handed in."""
        while self._place.leg < len(self.legs):
            if not self._follow_leg(self.legs[self._place.leg]):
                self._hand_in()
                return False
            self._place.leg += 1
            self._place.frame = None
        if self.legs and self._place.done > self._before:
            self._hand_in()
        self.job.progress(self.total, self.total, self._note())
        return True

    def summary(self) -> JSONDict:
        """What was done, in numbers."""
        return {"frames": self._place.done, "total": self.total, "short": self.short}

    def _follow_leg(self, leg: Leg) -> bool:
        dropped = self.job.dropped
        if not self._cast(leg, dropped):
            return True
        first = leg.start if self._place.frame is None else self._place.frame
        step = -1 if leg.reverse else 1
        if (leg.stop - first) * step < 0:
            return True  # the last attempt ended with the leg
        seen = None
        for result in self.session.propagate(first, leg.stop, reverse=leg.reverse):
            seen = result.frame
            self._collect(leg, result)
            self._result = result
            # Before the frame counts: all frames are done only when the last part is readable.
            self.job.progress(self._place.done, self.total, self._note())
            self._place.done += 1
            self._place.frame = seen + step
            if self.job.cancelled():
                return False
            if self.job.dropped != dropped:
                self._hand_in()
                return self._follow_leg(leg)  # from the next frame on, without what was dropped
            if time.monotonic() >= self._due:
                self._hand_in()
        self.short = self.short or seen != leg.stop
        return True

    def _cast(self, leg: Leg, dropped: frozenset[str]) -> bool:
        """Have exactly the regions of the leg in the session that nobody dropped; False: none is left.

        A number from 1 stands for each.
        """
        marks = {place + 1: region_mark(self.plans[place].region.id) for place in leg.regions}
        wanted = {number for number, mark in marks.items() if mark not in dropped}
        for number in set(self.session.objects) - wanted:
            self.session.remove_object(number)
        for number in sorted(wanted - set(self.session.objects)):
            for frame, box in sorted(self.plans[number - 1].prompts.items()):
                self.session.add_prompt(frame, number, Prompt(box=_at_least_a_pixel(box)))
        return bool(wanted)

    def _collect(self, leg: Leg, result: FrameResult) -> None:
        for place in leg.regions:
            found = result.objects.get(place + 1)
            if found is not None:
                rows = self._pending.setdefault(self.plans[place].region.id, [])
                rows.append(frame_row(result.frame, found))

    def _hand_in(self) -> None:
        """Give away what is finished, how it looks, and the state to go on from."""
        self._show()
        if self._pending:
            self.job.partial({"frames": cast(JSON, self._pending)})
            self._pending = {}
        self._forget()
        head = json.dumps(asdict(self._place)).encode()
        self.job.checkpoint(head + b"\n" + self.session.checkpoint())
        self._due = time.monotonic() + HAND_IN

    def _show(self) -> None:
        """A picture of the last frame, where it was computed and not only prompted."""
        last, result = self._seen.last, self._result
        if last is not None and result is not None and last[0] == result.frame:
            self.job.picture(thumbnail(last[1], result))

    def _forget(self) -> None:
        """Drop finished frames from the session: the parts have them, and checkpoints would grow."""
        at = self._place.frame
        for number, tracked in self.session.objects.items():
            old = [
                frame
                for frame in self.session.store.frames(number)
                if frame not in tracked.prompts and (at is None or abs(frame - at) > KEPT_BACK)
            ]
            self.session.store.discard(number, old)

    def _note(self) -> str:
        seconds = time.monotonic() - self._began
        rate = (self._place.done - self._before) / seconds if seconds > 0 else 0.0
        return f"tracking, {rate:.1f} frames/s"


def _at_least_a_pixel(box: Box) -> Box:
    """A box of no width in pixels is none for the model; it may reach over the edge."""
    x0, y0, x1, y1 = box
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)
