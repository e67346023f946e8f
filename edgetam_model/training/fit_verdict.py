"""Old weights and new ones on what neither learned from; what was scored is kept in the fit's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from pydantic import TypeAdapter, ValidationError

from edgetam_model.model import EdgeTAM
from edgetam_model.training.exchanged import exchanged
from edgetam_model.training.fit_folder import FitFolder
from edgetam_model.training.fit_options import OTHER_PICTURES
from edgetam_model.training.fit_progress import FitProgress
from edgetam_model.training.fit_scores import ObjectScore, score_clips
from edgetam_model.training.fit_strength import Kept, Weighed, weigh
from edgetam_model.training.forgetting import ForgettingSet
from edgetam_model.training.judging import Judgement, judge
from edgetam_model.training.task_clips import TaskClip


@dataclass(frozen=True)
class Scored:
    """What one model reached.

    Attributes:
        fingerprint: of its weights.
        objects: held-out ones.
        kept: J of each clip of the forgetting set.
    """

    fingerprint: str
    objects: tuple[ObjectScore, ...]
    kept: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """Both models' scores, and what follows from them.

    Attributes:
        before, after: the scores.
        judgement: what follows.
        weighed: the new weights that were scored.
    """

    before: Scored
    after: Scored
    judgement: Judgement
    weighed: Weighed


_SCORED = TypeAdapter(Scored)


def compare(
    before: EdgeTAM,
    learned: Path,
    first: EdgeTAM | None,
    clips: Sequence[TaskClip],
    folder: FitFolder,
    progress: FitProgress,
) -> Verdict:
    """Score both models and judge.

    Args:
        before: what serves, not fused yet; it is afterwards.
        learned: file of what was trained from it.
        first: the weights that the project began with: what is forgotten counts from there, or version after
            version could lose a little; None: they are `before`, or gone.
        clips: of held-out tasks.
        folder: of the fit.
        progress: told after every object and clip.

    Raises:
        InputError: media that cannot be read.
        FitCancelledError: the listener wants no more; a model that was scored whole is not scored again.
    """
    kept = Kept(ForgettingSet.affordable(before.config), folder)
    plain = before.state_dict()  # fused layers are others, and these tensors stay
    old = _score(before.fuse(), clips, kept, _Place(folder.path / "scores-before.json", "old", 0.0), progress)
    known = old.kept if first is None else kept.of(first, progress.check)
    weighed = weigh(plain, learned, known, kept, progress, str(before.device))
    after = weighed.model
    new = _score(after, clips, kept, _Place(folder.path / "scores-after.json", "new", 0.6), progress)
    elsewhere = _elsewhere(after, clips, progress)
    judgement = judge(old.objects, new.objects, known, new.kept, exchanged=elsewhere)
    reasons = (*judgement.reasons, weighed.note) if weighed.note else judgement.reasons
    return Verdict(old, new, replace(judgement, reasons=reasons), weighed)


@dataclass(frozen=True)
class _Place:
    """Where a model's scores are kept, which version it is, and where its share of the judging begins."""

    path: Path
    which: str
    start: float


def _elsewhere(model: EdgeTAM, clips: Sequence[TaskClip], progress: FitProgress) -> tuple[ObjectScore, ...]:
    """Scores of the objects of images on other pictures, each the mean of some."""
    found: dict[tuple[str, int], list[ObjectScore]] = {}
    for turn in range(OTHER_PICTURES):
        for each in score_clips(model, exchanged(clips, turn), alive=progress.check):
            found.setdefault((each.task, each.object), []).append(each)
    return tuple(
        replace(some[0], score=fmean(each.score for each in some), masks=()) for some in found.values()
    )


def _score(
    model: EdgeTAM, clips: Sequence[TaskClip], kept: Kept, place: _Place, progress: FitProgress
) -> Scored:
    """What an earlier run found, or what comes out now."""
    fingerprint = model.fingerprint()
    earlier = _read(place.path)
    if earlier is not None and earlier.fingerprint == fingerprint:
        return earlier

    which, middle, end = place.which, place.start + 0.35, place.start + 0.45
    count = sum(len(clip.objects) for clip in clips)
    seen = progress.counter("judging", (place.start, middle), count, f"measuring the {which} version, object")
    objects = score_clips(model, clips, tick=seen, alive=progress.check)
    lost = progress.counter(
        "judging", (middle, end), kept.clips.clips, f"measuring what the {which} version forgot, clip"
    )
    scored = Scored(fingerprint, objects, kept.of(model, lost))
    place.path.write_bytes(_SCORED.dump_json(scored))
    return scored


def _read(path: Path) -> Scored | None:
    """None where there is nothing, or it is damaged and has to be found anew."""
    try:
        return _SCORED.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
