"""From a video and its prompts to a folder of results: what `track` does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgetam_model.commands.interrupt import Interrupts
from edgetam_model.commands.loading import load
from edgetam_model.commands.outputs import (
    MASKS,
    OVERLAY,
    SHEET,
    TRACKS,
    Pictures,
    check_free,
    draw_tracks,
    make_folder,
)
from edgetam_model.commands.parsing import FrameRange, PlacedPrompt
from edgetam_model.commands.progress import Meter
from edgetam_model.commands.report import TrackReport
from edgetam_model.commands.terminal import UNTRAINED
from edgetam_model.errors import InputError, PromptError
from edgetam_model.exports import FORMATS, export_tracks
from edgetam_model.model import EdgeTAM
from edgetam_model.options import Quality, TrackerOptions
from edgetam_model.results import FrameResult
from edgetam_model.session import VideoSession
from edgetam_model.sources import VideoInfo
from edgetam_model.tracks import ModelFacts, Tracks, TracksWriter, VideoFacts, read_tracks
from edgetam_model.video import open_source
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.weights import WeightsInfo

Direction = Literal["forward", "backward", "both"]

ALL_FRAMES = FrameRange()
TIDY = "stopping after this frame (Ctrl-C again quits at once)"


@dataclass(frozen=True, eq=False)
class TrackJob:
    """What to track and what to leave.

    Attributes:
        video: path of a video file, a folder of images, or one image.
        prompts: what a person gave, at most one per object and frame.
        out: folder of the results; created.
        labels: names by object id; "object" where there is none.
        frames: nothing outside is tracked, and no prompt may lie outside.
        direction: forward from the first prompt, backward from the last one, or the one after the other.
        formats: names of `exports.FORMATS` to write besides tracks.json.
        overlay: write overlay.mp4.
        non_overlapping: a pixel belongs to one object only.
        force: replace what is in the way.
        weights, device: as `load_model` takes them.
        quality: as in `TrackerOptions`.
    """

    video: str
    prompts: tuple[PlacedPrompt, ...]
    out: Path
    labels: Mapping[int, str] = field(default_factory=dict)
    frames: FrameRange = ALL_FRAMES
    direction: Direction = "forward"
    formats: tuple[str, ...] = ()
    overlay: bool = True
    non_overlapping: bool = False
    force: bool = False
    weights: str | None = None
    device: str = "auto"
    quality: Quality | None = None

    @property
    def name(self) -> str:
        """The video's name without folders; bytes in it that are no text become "?"."""
        return Path(self.video).resolve().name.encode("utf-8", "replace").decode()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names under `out` that the job writes."""
        return (TRACKS, *([OVERLAY] if self.overlay else []), SHEET, MASKS, *self.formats)


def run_job(job: TrackJob, meter: Meter) -> TrackReport:
    """Track, then draw and export what was tracked.

    The first Ctrl-C while tracking ends it after the frame at hand; what is finished is then drawn and
    exported as if the range ended there. Nothing is written before the job is known to make sense.

    Raises:
        InputError: prompts or a range outside the video, a format that cannot hold the ids, or results
            that are in the way.
        MediaError: the video is refused or cannot be read.
        WeightsError: no such weights.
        KeyboardInterrupt: Ctrl-C before the first frame, or twice.
    """
    check_free(job.out, job.outputs, force=job.force)
    _check_names(job)
    meter.stage(f"opening {job.name}")
    with open_source(job.video) as source:
        ways = plan(job, source.info)
        model, info = load(job.weights, job.device, meter)
        options = TrackerOptions(non_overlapping=job.non_overlapping, quality=job.quality)
        with VideoTracker(model, options).open(source) as session:
            outcome = _track(job, session, ways, _model_facts(info, model, options), meter)
            tracks = read_tracks(job.out / TRACKS)
            _draw(job, session, tracks, outcome.frames, info, meter)
            warnings = session.warnings
    outputs = {name: job.out / name for name in job.outputs}
    for name in job.formats:
        meter.stage(f"writing {name}")
        outputs[name] = export_tracks(tracks, name, job.out, force=job.force)
    return TrackReport(
        tracks,
        info,
        outcome.frames,
        outcome.cancelled,
        outcome.seconds,
        outcome.steps,
        outputs,
        warnings,
    )


def plan(job: TrackJob, info: VideoInfo) -> list[range]:
    """The passes over the video, each a range of frames in the order of tracking.

    Raises:
        InputError: a range or a prompt that does not fit the video, or a frame's prompt that selects nothing.
    """
    first, last = job.frames.first, info.frames - 1 if job.frames.last is None else job.frames.last
    if max(first, last) >= info.frames:
        raise InputError("range", f"expected frames 0 to {info.frames - 1}, got {job.frames}")
    for placed in job.prompts:
        frame, number = placed.target.frame, placed.target.object_id
        if not first <= frame <= last:
            raise InputError("prompt", f"expected frames {first} to {last}, got @{frame}#{number}")
        try:
            placed.prompt.check_inside(info.height, info.width)
        except PromptError as error:
            raise PromptError(error.field, f"{error.problem} for @{frame}#{number}") from error
        if not placed.prompt.has_positive:
            raise PromptError(
                "point",
                f"expected a positive click, a box or a mask for @{frame}#{number}: "
                "negative clicks alone select nothing",
            )
    prompted = [placed.target.frame for placed in job.prompts]
    forward, backward = range(min(prompted), last + 1), range(max(prompted), first - 1, -1)
    ways = {"forward": [forward], "backward": [backward], "both": [forward, backward[1:]]}
    return [way for way in ways[job.direction] if way]


def _check_names(job: TrackJob) -> None:
    """Labels without an object, and ids that a format cannot hold, before the long work starts."""
    ids = {placed.target.object_id for placed in job.prompts}
    unknown = sorted(set(job.labels) - ids)
    if unknown:
        raise InputError("label", f"object {unknown[0]} has no prompt; there are {sorted(ids)}")
    for name in job.formats:
        if name not in FORMATS:
            raise InputError("format", f"expected one of {', '.join(FORMATS)}, got {name!r}")
    if "davis" in job.formats and max(ids) > 255:
        raise InputError("format", f"davis holds object ids of 1 to 255, got {max(ids)}")


@dataclass(frozen=True)
class _Outcome:
    frames: range
    steps: int
    seconds: float
    cancelled: bool


def _track(
    job: TrackJob, session: VideoSession, ways: Sequence[range], model: ModelFacts, meter: Meter
) -> _Outcome:
    """Run the passes and leave tracks.json of what is finished, however they end."""
    meter.stage("tracking", sum(map(len, ways)))
    start = time.monotonic()
    done: list[int] = []
    with Interrupts(lambda: meter.retitle(TIDY)) as interrupts:
        for placed in job.prompts:
            session.add_prompt(placed.target.frame, placed.target.object_id, placed.prompt)
        if interrupts.requested():
            raise KeyboardInterrupt
        make_folder(job.out)
        with TracksWriter(
            job.out / TRACKS, _video_facts(job, session.source.info), model, force=job.force
        ) as writer:
            for number in sorted(session.objects):
                writer.add_object(number, job.labels.get(number, "object"))
            for placed in job.prompts:
                writer.add_prompt(placed.target.frame, placed.target.object_id, placed.prompt)
            for result in _results(session, ways):
                writer.write(result)
                done.append(result.frame)
                meter.reach(len(done))
                if interrupts.requested():
                    break
            writer.warn(session.warnings)
    finished = range(min(done), max(done) + 1)
    return _Outcome(finished, len(done), time.monotonic() - start, interrupts.requested())


def _results(session: VideoSession, ways: Sequence[range]) -> Iterator[FrameResult]:
    for way in ways:
        yield from session.propagate(way[0], way[-1], reverse=way.step < 0)


def _draw(
    job: TrackJob, session: VideoSession, tracks: Tracks, frames: range, info: WeightsInfo, meter: Meter
) -> None:
    name = f"{job.name}, weights {info.name}"
    title = name if info.trained else f"{UNTRAINED} ({name})"
    pictures = Pictures(title.encode("ascii", "replace").decode(), not info.trained, job.overlay)
    meter.stage("drawing", len(frames))
    drawing = draw_tracks(session.source, tracks, frames, job.out, pictures)
    try:
        with closing(drawing):  # what it holds open is finished here, also when it is left early
            for count, _ in enumerate(drawing, start=1):
                meter.reach(count)
    except KeyboardInterrupt:
        meter.note(f"the tracks are complete: {job.out / TRACKS}; masks, sheet and exports are not written")
        raise


def _video_facts(job: TrackJob, info: VideoInfo) -> VideoFacts:
    return VideoFacts(
        name=job.name,
        width=info.width,
        height=info.height,
        frames=info.frames,
        fps=info.average_fps,
        times=tuple(info.times.tolist()),
    )


def _model_facts(info: WeightsInfo, model: EdgeTAM, options: TrackerOptions) -> ModelFacts:
    usual = TrackerOptions().to_dict()
    chosen = {name: value for name, value in options.to_dict().items() if value != usual[name]}
    return ModelFacts(name=info.name, fingerprint=model.fingerprint(), options=chosen)
