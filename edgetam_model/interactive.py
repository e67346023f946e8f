"""How much work an annotator has with a model: clicks on stills, rounds and corrections on videos.

The annotator is simulated. On videos the protocols are those of SAM 2 (arXiv 2408.00714, section 6.1);
clicks to a given IoU are counted as the interactive segmentation literature counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgetam_model.annotated_clips import LabelledClip
from edgetam_model.annotator import corrective_click, first_click
from edgetam_model.errors import InputError
from edgetam_model.evaluation import Progress, Scorer, click_object, correct, score_session, titled, track
from edgetam_model.image_predictor import ImagePredictor
from edgetam_model.masks import Mask
from edgetam_model.scores import ObjectScore, mean_summary
from edgetam_model.scoring import region_similarity
from edgetam_model.session import VideoSession
from edgetam_model.video_tracker import VideoTracker

TARGETS = (0.8, 0.9)  # IoU that clicks on stills are counted to


@dataclass(frozen=True)
class InteractiveOptions:
    """How the annotator works.

    Attributes:
        frames: at most so many frames of an object are clicked on, its first one included.
        clicks: on each of them, at most.
        threshold: going through a video once, the annotator stops where IoU falls below this.
        stills: annotated frames per clip, evenly spaced, on which clicks are counted one by one.
        still_clicks: clicks on one of them, at most.

    Raises:
        InputError: a number below 1, or a threshold outside 0 to 1.
    """

    frames: int = 8
    clicks: int = 3
    threshold: float = 0.75
    stills: int = 3
    still_clicks: int = 20

    def __post_init__(self) -> None:
        for name in ("frames", "clicks", "stills", "still_clicks"):
            if getattr(self, name) < 1:
                raise InputError(name, f"expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.threshold <= 1:
            raise InputError("threshold", f"expected 0 to 1, got {self.threshold}")


@dataclass(frozen=True)
class ClickCount:
    """Clicks until a mask is good enough.

    Attributes:
        target: the IoU wanted.
        mean: clicks needed on average; an object that never gets there counts the most that were allowed.
        failures: share of those.
    """

    target: float
    mean: float
    failures: float


@dataclass(frozen=True)
class OnlineScore:
    """One pass through a clip with a stop wherever the mask is bad.

    Attributes:
        jf: J&F of what the annotator ends with, mean over objects.
        interventions: stops in all, first frames not counted.
        objects: that were followed.
    """

    jf: float
    interventions: int
    objects: int


@dataclass(frozen=True)
class ClipInteraction:
    """What the annotator had to do on one clip.

    Attributes:
        name: of the clip.
        stills: per object and still, IoU after each click.
        offline: J&F after 1, 2, … frames clicked on per object, the clip tracked again after each.
        online: the single pass.
    """

    name: str
    stills: tuple[tuple[float, ...], ...]
    offline: tuple[float, ...]
    online: OnlineScore


@dataclass(frozen=True)
class Interaction:
    """All clips.

    Attributes:
        options: how the annotator worked.
        clips: those that were finished.
    """

    options: InteractiveOptions
    clips: tuple[ClipInteraction, ...]

    @property
    def click_counts(self) -> tuple[ClickCount, ...]:
        """NoC at IoU .8 and .9, over the stills of all clips."""
        curves = [curve for clip in self.clips for curve in clip.stills]
        return tuple(count_clicks(curves, target, self.options.still_clicks) for target in TARGETS)

    @property
    def offline(self) -> tuple[float, ...]:
        """J&F after each round, mean over clips."""
        return tuple(np.mean([clip.offline for clip in self.clips], axis=0).tolist())

    @property
    def online_jf(self) -> float:
        """J&F of the single pass, mean over clips."""
        return float(np.mean([clip.online.jf for clip in self.clips]))

    @property
    def interventions(self) -> float:
        """Stops per object in the single pass."""
        stops = sum(clip.online.interventions for clip in self.clips)
        return stops / sum(clip.online.objects for clip in self.clips)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "options": asdict(self.options),
            "clicks": [asdict(count) for count in self.click_counts],
            "offline_jf": list(self.offline),
            "online": {"jf": self.online_jf, "interventions_per_object": self.interventions},
            "clips": [asdict(clip) for clip in self.clips],
        }


def count_clicks(curves: Sequence[Sequence[float]], target: float, limit: int) -> ClickCount:
    """NoC: clicks that curves of IoU after 1, 2, … clicks need to reach `target`, at most `limit`.

    Raises:
        InputError: no curves.
    """
    if not curves:
        raise InputError("curves", "expected at least one object clicked on")
    needed = [next((n for n, iou in enumerate(curve, start=1) if iou >= target), None) for curve in curves]
    failed = sum(n is None for n in needed)
    return ClickCount(target, float(np.mean([n or limit for n in needed])), failed / len(curves))


def interact_with_clip(
    tracker: VideoTracker,
    clip: LabelledClip,
    options: InteractiveOptions | None = None,
    progress: Progress | None = None,
) -> ClipInteraction:
    """Run all three protocols on a clip.

    Args:
        tracker: whose model is evaluated, on stills too.
        clip: from `read_clips`.
        options: how the annotator works.
        progress: called per step; an exception that it raises ends it all.

    Raises:
        InputError: masks that cannot be read.
        MediaError: frames that cannot be read.
    """
    options = options or InteractiveOptions()
    return ClipInteraction(
        clip.name,
        still_curves(ImagePredictor(tracker.model), clip, options, progress),
        offline_rounds(tracker, clip, options, progress),
        online_pass(tracker, clip, options, progress),
    )


def still_curves(
    predictor: ImagePredictor,
    clip: LabelledClip,
    options: InteractiveOptions,
    progress: Progress | None = None,
) -> tuple[tuple[float, ...], ...]:
    """IoU after each click, for every object seen on each of the clip's stills."""
    annotated = list(clip.masks)
    chosen = np.linspace(0, len(annotated) - 1, min(options.stills, len(annotated))).round().astype(int)
    curves = []
    with clip.open() as source:
        for done, frame in enumerate((annotated[at] for at in chosen), start=1):
            predictor.set_image(source.read(frame))
            truths = (clip.truth(frame, object_id) for object_id in clip.first_frames)
            curves += [
                _still_curve(predictor, *truth, options.still_clicks) for truth in truths if truth[0].any()
            ]
            if progress is not None:
                progress(f"{clip.name}, clicks on stills", done, len(chosen))
    return tuple(curves)


def _still_curve(predictor: ImagePredictor, truth: Mask, void: Mask | None, limit: int) -> tuple[float, ...]:
    """IoU after 1, 2, … clicks, until the highest target is reached or nothing is left to click on."""
    click = first_click(truth)
    made, prompt = [click], click.prompt()
    ious: list[float] = []
    while True:
        result = predictor.predict(prompt)
        ious.append(region_similarity(result.mask, truth, void))
        correction = corrective_click(result.mask, truth, void, made)
        if ious[-1] >= max(TARGETS) or len(made) == limit or correction is None:
            return tuple(ious)
        made.append(correction)
        prompt = prompt.extended(correction.prompt())  # without logits, as annotation tools ask


def offline_rounds(
    tracker: VideoTracker,
    clip: LabelledClip,
    options: InteractiveOptions,
    progress: Progress | None = None,
) -> tuple[float, ...]:
    """J&F after each round: in each, every object is corrected on its worst frame so far untouched."""
    after: list[float] = []
    with tracker.open(clip.open()) as session:
        first_ious = _show_all(session, clip, options)
        touched = {object_id: {clip.first_frames[object_id]} for object_id in first_ious}
        scores: tuple[ObjectScore, ...] = ()
        for number in range(1, options.frames + 1):
            for score in scores:
                _correct_worst(session, clip, score, touched[score.object_id], options.clicks)
            track(session, f"{clip.name}, round {number}", progress)
            scores = score_session(session, clip, first_ious)
            after.append(mean_summary(score.summary for score in scores).jf)
    return tuple(after)


def _correct_worst(
    session: VideoSession, clip: LabelledClip, score: ObjectScore, touched: set[int], clicks: int
) -> None:
    rest = [(j, frame) for frame, j in zip(score.frames, score.j, strict=True) if frame not in touched]
    if not rest:
        return
    _, frame = min(rest)
    touched.add(frame)
    result = session.result(frame).objects[score.object_id]
    correct(session, result, frame, *clip.truth(frame, score.object_id), clicks=clicks)


def online_pass(
    tracker: VideoTracker,
    clip: LabelledClip,
    options: InteractiveOptions,
    progress: Progress | None = None,
) -> OnlineScore:
    """One pass forward; where a scored frame's IoU is too low, the annotator corrects it."""
    with tracker.open(clip.open()) as session:
        first_ious = _show_all(session, clip, options)
        scorers = {object_id: Scorer(clip, object_id) for object_id in first_ious}
        stops = dict.fromkeys(first_ious, 0)
        for shown in session.propagate(progress=titled(progress, f"{clip.name}, one pass")):
            for object_id, scorer in scorers.items():
                if shown.frame not in scorer.wanted:
                    continue
                result, truth = shown.objects[object_id], clip.truth(shown.frame, object_id)
                bad = region_similarity(result.mask, *truth) < options.threshold
                if bad and stops[object_id] < options.frames - 1:
                    stops[object_id] += 1
                    result = correct(session, result, shown.frame, *truth, clicks=options.clicks)
                scorer.add(shown.frame, result.mask)
    scores = [scorer.score(first_ious[object_id]) for object_id, scorer in scorers.items()]
    return OnlineScore(mean_summary(score.summary for score in scores).jf, sum(stops.values()), len(scores))


def _show_all(session: VideoSession, clip: LabelledClip, options: InteractiveOptions) -> dict[int, float]:
    """Click on every object's first frame; the IoU there, by object id."""
    first_ious = {}
    for object_id in clip.scored_objects:
        frame = clip.first_frames[object_id]
        truth, void = clip.truth(frame, object_id)
        result = click_object(session, frame, object_id, truth, void, clicks=options.clicks)
        first_ious[object_id] = region_similarity(result.mask, truth, void)
    return first_ious
