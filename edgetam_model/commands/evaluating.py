"""From a folder of annotated clips to figures and pictures: what `evaluate` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetam_model.annotated_clips import LabelledClip, read_clips
from edgetam_model.commands.evaluation_pictures import plot_clips, worst_sheet
from edgetam_model.commands.evaluation_report import EvaluationReport
from edgetam_model.commands.interrupt import Interrupts
from edgetam_model.commands.loading import load
from edgetam_model.commands.progress import Meter
from edgetam_model.commands.terminal import UNTRAINED
from edgetam_model.commands.tracking import TIDY
from edgetam_model.errors import InputError
from edgetam_model.evaluation import PromptKind, evaluate_clip, evaluate_floor
from edgetam_model.floors import FLOORS, Floor
from edgetam_model.interactive import (
    ClipInteraction,
    Interaction,
    InteractiveOptions,
    interact_with_clip,
)
from edgetam_model.options import TrackerOptions
from edgetam_model.render import save_png
from edgetam_model.scores import ClipScore, Evaluation
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.weights import WeightsInfo


@dataclass(frozen=True)
class EvaluateJob:
    """What to evaluate and what to leave.

    Attributes:
        folder: of annotated clips, see `read_clips`.
        prompt: how each object is shown.
        names: only these clips; None: all.
        floors: score the floors too.
        interactive: run the interactive protocols too.
        plot, sheet: PNG files to write.
        force: replace files that are in the way.
        weights, device: as `load_model` takes them.
    """

    folder: Path
    prompt: PromptKind = "mask"
    names: tuple[str, ...] | None = None
    floors: bool = False
    interactive: bool = False
    plot: Path | None = None
    sheet: Path | None = None
    force: bool = False
    weights: str | None = None
    device: str = "auto"

    @property
    def pictures(self) -> Mapping[str, Path]:
        """Files to write, by what they show."""
        named = {"plot": self.plot, "sheet": self.sheet}
        return {name: path for name, path in named.items() if path is not None}


def run_job(job: EvaluateJob, meter: Meter) -> EvaluationReport:
    """Evaluate clip after clip, then draw.

    The first Ctrl-C ends it after the frame at hand; the clips that are finished are reported.

    Raises:
        InputError: a folder without clips, masks that cannot be read, or files that are in the way.
        MediaError: frames that cannot be read.
        WeightsError: no such weights.
        KeyboardInterrupt: Ctrl-C before the first clip is finished, or twice.
    """
    _check_pictures(job)
    meter.stage("reading the clips")
    clips = read_clips(job.folder, job.names)
    model, weights = load(job.weights, job.device, meter)
    # A label image, which is what DAVIS scores, gives every pixel to one object.
    work = _Work(job, VideoTracker(model, TrackerOptions(non_overlapping=True)))
    cancelled = False
    with Interrupts(lambda: meter.retitle(TIDY)) as interrupts:
        try:
            for clip in clips:
                work.do(clip, _Steps(meter, interrupts))
        except KeyboardInterrupt:
            if not work.scores:
                raise
            cancelled = True
    evaluations = work.evaluations(weights.name)
    meter.stage("drawing")
    _draw(job, evaluations, clips, weights)
    return EvaluationReport(weights, evaluations, work.interaction(), cancelled, job.pictures)


def _check_pictures(job: EvaluateJob) -> None:
    for name, path in job.pictures.items():
        if not path.parent.is_dir():
            raise InputError(name, f"no such folder: {path.parent}")
        if path.is_dir() or (path.exists() and not job.force):
            raise InputError(name, f"{path} exists; give --force to replace it")


def _draw(
    job: EvaluateJob, evaluations: Sequence[Evaluation], clips: Sequence[LabelledClip], weights: WeightsInfo
) -> None:
    if job.plot is not None:
        trained = "" if weights.trained else f"  ({UNTRAINED})"
        save_png(job.plot, plot_clips(evaluations, f"J per frame, prompt: {job.prompt}{trained}"))
    if job.sheet is not None:
        save_png(job.sheet, worst_sheet(evaluations[0], clips))


class _Work:
    """What is finished, clip by clip; a clip that was interrupted leaves nothing."""

    def __init__(self, job: EvaluateJob, tracker: VideoTracker) -> None:
        self._job = job
        self._tracker = tracker
        self._floors: Mapping[str, Floor] = FLOORS if job.floors else {}
        self._options = InteractiveOptions()
        self.scores: list[ClipScore] = []
        self._floor_scores: list[list[ClipScore]] = []
        self._interactions: list[ClipInteraction] = []

    def do(self, clip: LabelledClip, progress: _Steps) -> None:
        """Everything that the job wants of a clip."""
        score = evaluate_clip(self._tracker, clip, self._job.prompt, progress)
        floors = [evaluate_floor(clip, name, floor, progress) for name, floor in self._floors.items()]
        if self._job.interactive:
            self._interactions.append(interact_with_clip(self._tracker, clip, self._options, progress))
        self.scores.append(score)
        self._floor_scores.append(floors)

    def evaluations(self, name: str) -> tuple[Evaluation, ...]:
        """The model, by its weights' name, and the floors."""
        by_floor = zip(*self._floor_scores, strict=True)
        floors = (Evaluation(n, "mask", c) for n, c in zip(self._floors, by_floor, strict=True))
        return Evaluation(name, self._job.prompt, tuple(self.scores)), *floors

    def interaction(self) -> Interaction | None:
        """The interactive protocols, where they were wanted."""
        return Interaction(self._options, tuple(self._interactions)) if self._interactions else None


class _Steps:
    """Progress on a meter, one stage per thing done; raises KeyboardInterrupt once Ctrl-C was pressed."""

    def __init__(self, meter: Meter, interrupts: Interrupts) -> None:
        self._meter = meter
        self._interrupts = interrupts
        self._title = ""

    def __call__(self, title: str, done: int, total: int) -> None:
        if self._interrupts.requested():
            raise KeyboardInterrupt
        if title != self._title:
            self._meter.stage(title, total)
            self._title = title
        self._meter.reach(done)
