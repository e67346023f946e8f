"""How well a tracker follows objects whose true masks are known: prompts simulated, results scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from edgetam_model.annotated_clips import LabelledClip
from edgetam_model.annotator import Click, corrective_click, first_click
from edgetam_model.errors import InputError, MediaError
from edgetam_model.floors import Floor
from edgetam_model.masks import Mask, Rle, encode_rle, mask_box
from edgetam_model.prompts import Prompt
from edgetam_model.results import ObjectResult
from edgetam_model.scores import ClipScore, ObjectScore
from edgetam_model.scoring import boundary_f, region_similarity
from edgetam_model.session import VideoSession
from edgetam_model.video_tracker import VideoTracker

PromptKind = Literal["mask", "box", "click", "3clicks"]
Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all

PROMPTS: tuple[PromptKind, ...] = get_args(PromptKind)
_CLICKS = {"click": 1, "3clicks": 3}


class Scorer:
    """Collects one object's scores, frame by frame, without keeping its masks at full size."""

    def __init__(self, clip: LabelledClip, object_id: int) -> None:
        self._clip = clip
        self._id = object_id
        self.wanted = frozenset(clip.scored_frames(object_id))
        self._rows: list[tuple[int, float, float, Rle]] = []

    def add(self, frame: int, found: Mask) -> None:
        """Score a mask (H, W), if the frame counts."""
        if frame in self.wanted:
            truth, void = self._clip.truth(frame, self._id)
            j, f = region_similarity(found, truth, void), boundary_f(found, truth, void)
            self._rows.append((frame, j, f, encode_rle(found)))

    def score(self, first_iou: float) -> ObjectScore:
        """What was collected."""
        frames, j, f, masks = zip(*self._rows, strict=True)
        return ObjectScore(self._id, self._clip.first_frames[self._id], first_iou, frames, j, f, masks)


def evaluate_clip(
    tracker: VideoTracker, clip: LabelledClip, prompt: PromptKind, progress: Progress | None = None
) -> ClipScore:
    """Track every object of a clip in one session, then score.

    Args:
        tracker: DAVIS results give a pixel to one object only: `TrackerOptions(non_overlapping=True)`.
        clip: from `read_clips`.
        prompt: how each object is shown, on its first frame.
        progress: called per frame; an exception that it raises ends it all.

    Raises:
        InputError: masks that cannot be read.
        MediaError: frames that cannot be read.
    """
    if prompt not in PROMPTS:
        raise InputError("prompt", f"expected {', '.join(PROMPTS)}, got {prompt!r}")
    firsts = {i: clip.first_frames[i] for i in clip.scored_objects}
    truths = {i: clip.truth(frame, i) for i, frame in firsts.items()}
    with tracker.open(clip.open()) as session:
        start = time.perf_counter()
        shown = {
            i: show_object(session, frame, i, *truths[i], kind=prompt).mask for i, frame in firsts.items()
        }
        track(session, clip.name, progress)
        seconds = time.perf_counter() - start
        objects = score_session(session, clip, {i: region_similarity(shown[i], *truths[i]) for i in firsts})
    return ClipScore(clip.name, objects, len(clip.frames) - min(firsts.values()), seconds)


def show_object(
    session: VideoSession,
    frame: int,
    object_id: int,
    truth: Mask,
    void: Mask | None,
    *,
    kind: PromptKind,
) -> ObjectResult:
    """Prompt an object as a person who knows its true mask would, and say what came of it."""
    if kind == "mask":
        return session.add_prompt(frame, object_id, Prompt(mask=truth))
    if kind == "box":
        return session.add_prompt(frame, object_id, Prompt(box=mask_box(truth)))
    return click_object(session, frame, object_id, truth, void, clicks=_CLICKS[kind])


def click_object(
    session: VideoSession, frame: int, object_id: int, truth: Mask, void: Mask | None, *, clicks: int
) -> ObjectResult:
    """Show an object by a click on its middle, and up to `clicks` - 1 corrections of what comes out."""
    click = first_click(truth)
    result = session.add_prompt(frame, object_id, click.prompt())
    return correct(session, result, frame, truth, void, clicks=clicks - 1, clicked=[click])


def correct(
    session: VideoSession,
    result: ObjectResult,
    frame: int,
    truth: Mask,
    void: Mask | None,
    *,
    clicks: int,
    clicked: Sequence[Click] = (),
) -> ObjectResult:
    """Click where a result is most wrong, up to `clicks` times or until nothing is, and return the last.

    Args:
        session: where the result is from.
        result: an object's on `frame`.
        frame: 0-based.
        truth, void: (H, W), see `LabelledClip.truth`.
        clicks: at most so many.
        clicked: those that the object's prompt on this frame consists of already.
    """
    made = list(clicked)
    for _ in range(clicks):
        click = corrective_click(result.mask, truth, void, made)
        if click is None:
            break
        result = session.add_prompt(frame, result.object_id, click.prompt(), extend=bool(made))
        made.append(click)
    return result


def titled(progress: Progress | None, title: str) -> Callable[[int, int], None] | None:
    """Progress of one thing alone, as sessions report it."""
    return None if progress is None else lambda done, total: progress(title, done, total)


def track(session: VideoSession, title: str, progress: Progress | None = None) -> None:
    """Compute every frame that is missing or in doubt; the session keeps them.

    Raises:
        MediaError: the clip ends early because a frame cannot be read.
    """
    last = -1
    for result in session.propagate(progress=titled(progress, title)):
        last = result.frame
    if last != len(session) - 1:
        raise MediaError(title, "; ".join(session.warnings) or f"ends after frame {last}")


def score_session(
    session: VideoSession, clip: LabelledClip, first_ious: Mapping[int, float]
) -> tuple[ObjectScore, ...]:
    """Scores of the objects in a session that has been tracked to the end; `first_ious` by object id."""
    scorers = {i: Scorer(clip, i) for i in first_ious}
    for result in session.propagate():
        for object_id, scorer in scorers.items():
            if object_id in result.objects:
                scorer.add(result.frame, result.objects[object_id].mask)
    return tuple(scorer.score(first_ious[i]) for i, scorer in scorers.items())


def evaluate_floor(
    clip: LabelledClip, name: str, floor: Floor, progress: Progress | None = None
) -> ClipScore:
    """Run a floor on every object of a clip, each from its true first mask, and score it."""
    objects: list[ObjectScore] = []
    frames, seconds = 0, 0.0
    with clip.open() as source:
        steps = sum(len(clip.frames) - clip.first_frames[i] for i in clip.scored_objects)
        for object_id in clip.scored_objects:
            first = clip.first_frames[object_id]
            scorer = Scorer(clip, object_id)
            images = (rgb for _, rgb in source.frames(first, len(source) - 1))
            found = floor(images, clip.truth(first, object_id)[0])
            start = time.perf_counter()
            for frame, mask in enumerate(found, start=first):
                seconds += time.perf_counter() - start
                frames += 1
                scorer.add(frame, mask)
                if progress is not None:
                    progress(f"{clip.name}, {name}", frames, steps)
                start = time.perf_counter()
            objects.append(scorer.score(1.0))
    first = min(score.first_frame for score in objects)
    return ClipScore(clip.name, tuple(objects), len(clip.frames) - first, seconds)
