"""How well a model does on held-out tasks: images by the prompts people really gave, tracks by J."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgetam_model.errors import InputError, PromptError
from edgetam_model.frame_tracker import FrameTracker
from edgetam_model.image_predictor import ImagePredictor
from edgetam_model.masks import Mask, decode_rle, encode_rle, mask_box
from edgetam_model.model import EdgeTAM
from edgetam_model.object_state import ObjectState
from edgetam_model.prompts import Prompt
from edgetam_model.scoring import region_similarity
from edgetam_model.sources import Frame
from edgetam_model.training.annotations import AnnotatedObject, BoxShape, Sighting
from edgetam_model.training.fit_options import MOST_FRAMES
from edgetam_model.training.task_clips import TaskClip

Kind = Literal["image", "track"]
Shown = Literal["given", "box", "mask"]
Call = Callable[[], None]


@dataclass(frozen=True)
class ScoreOptions:
    """How held-out clips are scored.

    Attributes:
        most_frames: of the file, after an object's first sighting, that it is tracked over; later ones do
            not count.
        pictures: of a track, masks kept to be drawn.

    Raises:
        InputError: a number below 1.
    """

    most_frames: int = MOST_FRAMES
    pictures: int = 4

    def __post_init__(self) -> None:
        for name in ("most_frames", "pictures"):
            if getattr(self, name) < 1:
                raise InputError(name, f"expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class FoundMask:
    """What the model answered.

    Attributes:
        frame: of the file.
        score: IoU with the truth.
        size: (H, W) of the frame.
        counts: COCO's compressed run lengths; the mask may be empty.
    """

    frame: int
    score: float
    size: tuple[int, int]
    counts: str

    def mask(self) -> Mask:
        """(H, W) bool."""
        return decode_rle({"size": list(self.size), "counts": self.counts})


@dataclass(frozen=True)
class ObjectScore:
    """How well one object was found.

    Attributes:
        task, object: their ids.
        kind: "image": on one frame; "track": followed from its first one.
        prompt: what the model was shown: what a person gave, or the true mask's box or the mask itself.
        score: IoU; of a track J averaged over the later frames on which it is known, each counting as much
            as its source is trusted. Where it is known to be away, no mask is 1 and any is 0.
        group: of the task; objects of one group are not independent of each other. Empty: the task.
        masks: to be drawn.
    """

    task: str
    object: int
    kind: Kind
    prompt: Shown
    score: float
    group: str = ""
    masks: tuple[FoundMask, ...] = field(default=(), compare=False, repr=False)

    @property
    def unit(self) -> str:
        """What the object shares its chance with."""
        return self.group or self.task


def score_clips(
    model: EdgeTAM,
    clips: Sequence[TaskClip],
    options: ScoreOptions = ScoreOptions(),
    tick: Call | None = None,
    *,
    alive: Call | None = None,
) -> tuple[ObjectScore, ...]:
    """Score a model on every object of clips that has a mask to compare with.

    An object is scored as an image where it is known on one frame only, or on none later that is tracked to.

    Args:
        model: in eval mode.
        clips: of held-out tasks.
        options: how.
        tick: called after each object, scored or not; what it raises ends the scoring.
        alive: the same before each image and each frame of a track, to be cancelled soon.

    Raises:
        InputError: media that cannot be read.
    """
    scorer = _Scorer(model, options, alive or _nothing)
    found: list[ObjectScore] = []
    for clip in clips:
        for score in scorer.scores(clip):
            if score is not None:
                found.append(score)
            if tick is not None:
                tick()
    return tuple(found)


def unscored(clips: Sequence[TaskClip], scores: Sequence[ObjectScore]) -> int:
    """Objects of clips without a score: rectangles alone, or masks without a pixel."""
    return sum(len(clip.objects) for clip in clips) - len(scores)


def given_prompt(seen: Sighting, size: tuple[int, int]) -> Prompt | None:
    """What a person gave for it, in pixels of an image of size (H, W); None: unknown, or of no use."""
    try:
        prompt = seen.given.prompt(size) if seen.given else None
        if prompt is not None:
            prompt.check_inside(*size)
    except PromptError:  # a box of no size, say
        return None
    return prompt if prompt is not None and prompt.has_positive else None


@dataclass(frozen=True)
class _Plan:
    """What is asked of one object of a clip.

    Attributes:
        number: its id.
        first: the sighting that is shown to the model.
        later: the file's frame → what is known there, None where it is away; those that count.
        pictured: of those, the frames to be drawn.
    """

    number: int
    first: Sighting
    later: Mapping[int, Sighting | None]
    pictured: frozenset[int]

    @property
    def last(self) -> int:
        """The file's last frame that counts."""
        return max(self.later, default=self.first.frame)


def _plan(each: AnnotatedObject, known: Sequence[int], options: ScoreOptions) -> _Plan | None:
    """None where nothing of it is painted."""
    first = next((seen for seen in each.sightings if _is_painted(seen)), None)
    if first is None:
        return None
    reached = (f for f in known if first.frame < f <= first.frame + options.most_frames)
    known_there = {frame: each.sighting_on(frame) for frame in reached}
    later = {frame: seen for frame, seen in known_there.items() if seen is None or _is_painted(seen)}
    spread = np.linspace(0, len(later) - 1, min(options.pictures, len(later))).round().astype(int).tolist()
    frames = list(later)
    return _Plan(each.id, first, later, frozenset(frames[place] for place in spread))


def _is_painted(seen: Sighting) -> bool:
    return not isinstance(seen.shape, BoxShape)


@dataclass
class _Track:
    """One object on its way through a video; `state` is None where the model makes no numbers of it."""

    plan: _Plan
    shown: Shown
    state: ObjectState | None
    weighed: list[tuple[float, float]] = field(default_factory=list)  # J, weight
    masks: list[FoundMask] = field(default_factory=list)

    def see(self, frame: int, answer: Mask) -> None:
        """Compare with the truth, where that is known."""
        if frame not in self.plan.later:
            return
        seen = self.plan.later[frame]
        truth = np.zeros_like(answer) if seen is None else seen.shape.mask(_size(answer))
        found = _found(frame, answer, truth)
        self.weighed.append((found.score, 1.0 if seen is None else seen.weight))
        if frame in self.plan.pictured:
            self.masks.append(found)

    @property
    def score(self) -> float:
        return sum(j * weight for j, weight in self.weighed) / sum(weight for _, weight in self.weighed)


class _Scorer:
    """A model that is asked about one clip after the other."""

    def __init__(self, model: EdgeTAM, options: ScoreOptions, alive: Call) -> None:
        self._options, self._alive = options, alive
        self._predictor = ImagePredictor(model)
        self._tracker = FrameTracker(model, precision="float32")  # the very masks of `VideoTracker`

    def scores(self, clip: TaskClip) -> Iterator[ObjectScore | None]:
        """One for each object; None for what cannot be scored."""
        plans = [_plan(each, clip.frames, self._options) for each in clip.objects]
        painted = [plan for plan in plans if plan is not None]
        yield from [None] * (len(plans) - len(painted))
        stills: dict[int, list[_Plan]] = {}
        for plan in painted:
            if not plan.later:
                stills.setdefault(plan.first.frame, []).append(plan)
        for frame, some in stills.items():
            yield from self._stills(clip, frame, some)
        tracks = [plan for plan in painted if plan.later]
        if tracks:
            yield from self._tracks(clip, tracks)

    def _stills(self, clip: TaskClip, frame: int, plans: Sequence[_Plan]) -> Iterator[ObjectScore | None]:
        """Objects of one image, which is encoded once."""
        self._alive()
        rgb = clip.file_frame(frame)
        self._predictor.set_image(rgb)
        for plan in plans:
            truth = plan.first.shape.mask(_size(rgb))
            box = mask_box(truth)
            if box is None:
                yield None
                continue
            given = given_prompt(plan.first, _size(rgb))
            found = _found(frame, self._predictor.predict(given or Prompt(box=box)).mask, truth)
            yield _score(clip, plan, "image", "given" if given else "box", found.score, [found])

    def _tracks(self, clip: TaskClip, plans: Sequence[_Plan]) -> Iterator[ObjectScore | None]:
        """Objects of one video, all in one pass over the frames that any of them needs."""
        going: list[_Track] = []
        first, last = min(plan.first.frame for plan in plans), max(plan.last for plan in plans)
        for frame in range(first, last + 1):
            begins = [plan for plan in plans if plan.first.frame == frame]
            if not going and not begins:
                continue
            self._alive()
            rgb = clip.file_frame(frame)
            self._step(going, frame, rgb)
            begun = [self._begin(plan, rgb) for plan in begins]
            yield from (None for track in begun if track is None)
            going += [track for track in begun if track is not None]
            for track in going:
                if track.plan.last == frame:
                    yield _score(clip, track.plan, "track", track.shown, track.score, track.masks)
            going = [track for track in going if track.plan.last > frame]

    def _begin(self, plan: _Plan, rgb: Frame) -> _Track | None:
        """None where the mask to be followed has no pixel."""
        truth = plan.first.shape.mask(_size(rgb))
        if not truth.any():
            return None
        given = given_prompt(plan.first, _size(rgb))
        shown: Shown = "given" if given else "mask"
        try:
            (followed,) = self._tracker.start(rgb, [given or Prompt(mask=truth)])
        except InputError as error:
            if error.field != "prompts[0]":
                raise
            return _Track(plan, shown, None)  # weights that make no finite numbers of it find nothing
        return _Track(plan, shown, followed.state)

    def _step(self, tracks: Sequence[_Track], frame: int, rgb: Frame) -> None:
        alive = [(track, track.state) for track in tracks if track.state is not None]
        followed = self._tracker.step(rgb, [state for _, state in alive]) if alive else []
        masks = {id(track): one.result.mask for (track, _), one in zip(alive, followed, strict=True) if one}
        for (track, _), one in zip(alive, followed, strict=True):
            track.state = one.state if one else None
        for track in tracks:
            track.see(frame, masks.get(id(track), np.zeros(rgb.shape[:2], np.bool_)))


def _score(
    clip: TaskClip, plan: _Plan, kind: Kind, shown: Shown, score: float, masks: Sequence[FoundMask]
) -> ObjectScore:
    return ObjectScore(clip.task.id, plan.number, kind, shown, score, clip.task.group, tuple(masks))


def _found(frame: int, answer: Mask, truth: Mask) -> FoundMask:
    return FoundMask(frame, region_similarity(answer, truth), _size(answer), encode_rle(answer)["counts"])


def _size(picture: Frame | Mask) -> tuple[int, int]:
    return picture.shape[0], picture.shape[1]


def _nothing() -> None:
    """Stands in for a caller that does not ask."""
