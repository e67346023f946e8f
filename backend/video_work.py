"""What server and worker tell each other about a track: the request, the video's facts, the finished frames.

All of it is plain JSON. Both sides make the same plan of it, so that a job need not know Label Studio's
regions as they grow, and a request need not open the video.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from hashlib import sha256
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from backend.frame_map import FrameMap, frame_rate
from backend.jobs import JSON, JSONDict
from backend.keyframe import Box
from backend.video_command import FIELD, Quality, parse_command
from backend.video_keyframes import KeyframeOptions, Track, TrackedBox, build_track, region_json
from backend.video_plan import RegionPlan, plan_request
from backend.video_prompts import VideoControl, VideoRegion, read_regions
from edgetam_model import InputError, MaskResult, VideoInfo, open_source

if TYPE_CHECKING:
    from edgetam_model.timetable import TimeTable

KIND = "track"
ENDLESS = 10**9  # frames, where a region does not say how many there are
SIZELESS = (100, 100)  # percent: enough to tell what is drawn, before the video is opened

Found = dict[str, dict[int, TrackedBox]]  # region id → frame of the file, 0-based → what was found there


class _Message(BaseModel):
    """Something that went through Redis."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def read(cls, value: object) -> Self:
        """From plain JSON.

        Raises:
            InputError: something else, as a job of another release of this program.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            problem = f"{first['msg']}: written by another release? See docs/upgrading.md"
            raise InputError(f"{cls.__name__}.{place}", problem) from error

    def to_json(self) -> JSONDict:
        """Plain JSON."""
        return cast(JSONDict, self.model_dump())


class TrackRequest(_Message):
    """What is to be tracked, as a job carries it. It holds no token: workers have settings of their own.

    Attributes:
        task: Label Studio's id; None where there is none.
        media: the task's value for the video.
        hostname: Label Studio's address in its own words.
        from_name, to_name, command: names of the VideoRectangle, the Video and the command box.
        rate: the Video's frameRate attribute as written.
        data: what of the task's data the rate may name.
        regions: the request's items as they came, command boxes included.
        buttons: labels that are no classes.
        project: Label Studio's number; empty where it is not known, and in jobs of earlier releases.
        version: what served the project when this was asked for, `v0003` or `base`; empty in those jobs.
    """

    task: int | None
    media: str
    hostname: str | None
    from_name: str
    to_name: str
    command: str | None
    rate: str | None
    data: dict[str, Any]
    regions: list[Any]
    buttons: tuple[str, ...] = ()
    project: str = ""
    version: str = ""

    def read_regions(self) -> list[VideoRegion]:
        """The video regions.

        Raises:
            InputError: a malformed one.
        """
        control = VideoControl(self.from_name, self.to_name, self.command, self.buttons)
        return read_regions(self.regions, control)

    def frame_rate(self, regions: Sequence[VideoRegion]) -> Fraction:
        """Label Studio's frames per second.

        Raises:
            InputError: `frameRate`.
        """
        told = next((r for r in regions if r.frames_count and r.duration), None)
        return frame_rate(
            self.rate,
            self.data,
            frames_count=told.frames_count if told else None,
            duration=told.duration if told else None,
        )

    def quality(self) -> Quality | None:
        """What was typed beside regions for all of them; None: nothing.

        Raises:
            InputError: a command that cannot be read, or that asks for another quality than the next one.
        """
        typed = [parse_command(region.command) for region in self.read_regions() if region.command]
        asked = {command.quality for command in typed if not command.stop}
        if len(asked) > 1:
            problem = "expected the same quality beside every region: they are tracked together"
            raise InputError(FIELD, problem)
        return asked.pop() if asked else None

    def sketch(self) -> list[RegionPlan]:
        """The plan as far as it can be made without the video: which regions, from which keyframes, how far.

        Raises:
            InputError: a malformed region, a command or a rate that cannot be read.
        """
        regions = self.read_regions()
        self.frame_rate(regions)
        self.quality()  # refused here rather than by the job
        count = _frames_count(regions) or ENDLESS
        return plan_request(regions, FrameMap(_one_frame(), Fraction(1), count), SIZELESS)

    def key(self, plans: Sequence[RegionPlan], weights: str) -> str:
        """The same for the same work of a project, whatever of it is done already.

        Args:
            plans: from `sketch`.
            weights: fingerprint of what tracks.
        """
        tracked_by = " ".join((weights, self.quality() or "")).strip()
        data = sorted(self.data.items(), key=str)
        salt = repr((self.project, self.media, self.rate, data, tracked_by))
        keys = sorted(plan.key(self.task, salt) for plan in plans if plan.prompts)
        return sha256(" ".join(keys).encode()).hexdigest()[:32]


class VideoFacts(_Message):
    """What the first part of a job says about the video, so that the server need not open it.

    Attributes:
        width, height: pixels of the frames, upright.
        first, steps: time of the first frame in units of `time_base`, and runs of (units to the next
            frame, how often).
        end, time_base, origin: as `TimeTable`; fractions as text.
        media_duration: as `VideoInfo`.
        version: of the model that tracks.
    """

    width: int
    height: int
    first: int
    steps: tuple[tuple[int, int], ...]
    end: int
    time_base: str
    origin: str
    media_duration: float | None
    version: str

    @classmethod
    def of(cls, info: VideoInfo, version: str) -> Self:
        """The facts of an open video."""
        table = info.table
        runs = ((step, len(list(same))) for step, same in groupby(np.diff(table.pts).tolist()))
        return cls(
            width=info.width,
            height=info.height,
            first=int(table.pts[0]),
            steps=tuple(runs),
            end=table.end,
            time_base=str(table.time_base),
            origin=str(table.origin),
            media_duration=info.media_duration,
            version=version,
        )

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.height, self.width

    def info(self) -> VideoInfo:
        """What `FrameMap` needs to know of the video."""
        steps = [np.full(count, step, np.int64) for step, count in self.steps]
        pts = np.cumsum(np.concatenate([np.array([self.first], np.int64), *steps]))
        table = replace(
            _one_frame(),
            pts=pts,
            end=self.end,
            time_base=Fraction(self.time_base),
            origin=Fraction(self.origin),
            nominal_rate=None,
        )
        return VideoInfo(self.width, self.height, table, "", media_duration=self.media_duration)


@dataclass(frozen=True)
class VideoWork:
    """A request against the video it is about.

    Attributes:
        frames: Label Studio's numbers ↔ frames of the file.
        size: (H, W) of the video in pixels.
        plans: one per region, in their order.
    """

    frames: FrameMap
    size: tuple[int, int]
    plans: tuple[RegionPlan, ...]

    @classmethod
    def of(cls, request: TrackRequest, facts: VideoFacts) -> Self:
        """Plan a request.

        Raises:
            InputError: as `TrackRequest.sketch`.
        """
        regions = request.read_regions()
        rate = request.frame_rate(regions)
        frames = FrameMap.of_video(facts.info(), rate, _frames_count(regions))
        return cls(frames, facts.size, tuple(plan_request(regions, frames, facts.size)))

    def lacks(self, found: Found) -> bool:
        """Whether frames are to be tracked that nobody has tracked yet."""
        return any(
            self.frames.source_of(number) not in found.get(plan.region.id, {})
            for plan in self.plans
            for stretch in plan.stretches
            for number in stretch.numbers
            if (number - stretch.done) * stretch.step > 0
        )

    def prediction(
        self, found: Found, options: KeyframeOptions, job: str, version: str, *, commands: bool = False
    ) -> dict[str, Any]:
        """One task's prediction: the regions with what was found so far.

        Its score is the lowest of the regions that were asked for, so that doubt shows.

        Args:
            commands: whether the typed commands go along: what the editor does not get back, it forgets.
        """
        tracks = [(plan, self.track(plan, found, options, job)) for plan in self.plans]
        result = [region_json(plan, track, self.frames) for plan, track in tracks]
        typed = [plan.region.command_raw for plan in self.plans] if commands else []
        result += [dict(raw) for raw in typed if raw is not None and not _is_stop(raw)]
        score = min((track.score for plan, track in tracks if plan.prompts), default=0.0)
        return {"result": result, "score": score, "model_version": version}

    def track(self, plan: RegionPlan, found: Found, options: KeyframeOptions, job: str) -> Track:
        """A region's keyframes with what was found so far."""
        here = found.get(plan.region.id, {})
        return build_track(plan, here, self.frames, self.size, job=job, options=options)


def frame_row(frame: int, result: MaskResult) -> JSON:
    """An object on a frame as a part holds it: frame, box or null, confidence, state.

    The confidence is the IoU to be expected: the model's own estimate, times how sure it is to see it.
    """
    box = None if result.box is None else [round(float(edge), 2) for edge in result.box]
    sure = 1 / (1 + np.exp(-np.clip(result.object_score, -30, 30)))
    score = round(float(np.clip(result.iou, 0, 1) * sure), 4)
    return [frame, cast(JSON, box), score, result.state]


def read_parts(parts: Iterable[JSON]) -> tuple[VideoFacts | None, Found]:
    """The facts and all finished frames of a job; of a frame that was done twice, the later result.

    Raises:
        InputError: parts that no job of this version wrote.
    """
    facts, found = None, Found()
    for part in parts:
        message = _Part.read(part)
        facts = message.video or facts
        for region, rows in message.frames.items():
            boxes = found.setdefault(region, {})
            for frame, box, score, state in rows:
                boxes[frame] = TrackedBox(box, score, state)
    return facts, found


def region_mark(region_id: str) -> str:
    """A region's name in a job's group and in what it leaves out: ids may hold anything, this is one word."""
    return sha256(region_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def command_of(regions: Sequence[VideoRegion], region_id: str) -> str:
    """What was typed beside a region."""
    return next((region.command or "" for region in regions if region.id == region_id), "")


class _Part(_Message):
    """One part of a job: the facts in the first, finished frames in the others."""

    video: VideoFacts | None = None
    frames: dict[str, list[tuple[int, Box | None, float, Literal["visible", "absent", "lost"]]]] = {}


def _frames_count(regions: Sequence[VideoRegion]) -> int | None:
    return next((region.frames_count for region in regions if region.frames_count), None)


def _is_stop(command: Mapping[str, Any]) -> bool:
    """A stop has been carried out once it was read: left in its box, the next press would stop again."""
    text = command["value"]["text"]
    typed = [t for t in (text if isinstance(text, list) else [text]) if isinstance(t, str) and t.strip()]
    return parse_command(typed[-1]).stop


@cache
def _one_frame() -> TimeTable:
    """The table of a single frame, to make others from."""
    return open_source(np.zeros((1, 1, 1, 3), np.uint8)).table
