"""Whether a candidate takes over: better on held-out objects beyond noise, nothing forgotten. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError

if TYPE_CHECKING:
    from edgetam_model.training.fit_scores import Kind, ObjectScore

_KINDS: tuple[Kind, ...] = ("image", "track")
_NAMES: Mapping[Kind, str] = {"image": "IoU on images", "track": "J of tracks"}
_TELLING = 3  # tasks; of fewer, an interval is no more than the lowest and the highest gain
_BLOCK = 1_000_000  # weights drawn at once, 8 MB
_SHOWN = 0.0005  # sentences have three decimals
_ROUNDING = 1e-9  # sums of equal gains in another order differ by less


@dataclass(frozen=True)
class Rules:
    """When a candidate is promoted.

    Attributes:
        least_tasks: held-out tasks needed; tasks of one group count as one. Of candidates without any real
            gain, 6 % pass on four tasks, 14 % would on three (`_interval`).
        least_gain: of the mean score, worth a switch.
        most_forgotten: by which mean J on the forgetting set may fall.
        most_lost: by which the mean of images or of tracks alone may fall where they have too few tasks to
            tell noise; where there are enough, a fall of `least_gain` beyond noise is too much.
        prompt_tells: IoU on exchanged pictures from which on the prompts alone say where an object is, as
            boxes do of rectangles; then it need not be better on its own picture.
        confidence: that a gain is none by chance, 0.5 to 1.
        draws, seed: of the bootstrap.

    Raises:
        InputError: a value out of range, with the field at fault.
    """

    least_tasks: int = 4
    least_gain: float = 0.005
    most_forgotten: float = 0.01
    most_lost: float = 0.05
    prompt_tells: float = 0.95
    confidence: float = 0.95
    draws: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("least_gain", "most_forgotten", "most_lost", "prompt_tells"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(name, f"expected 0 to 1, got {getattr(self, name)}")
        if not 0.5 < self.confidence < 1:
            raise InputError("confidence", f"expected between 0.5 and 1, got {self.confidence}")
        for name, least in (("least_tasks", _TELLING), ("draws", 100), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(name, f"expected at least {least}, got {getattr(self, name)}")

    def keeps(self, forgetting: Forgetting) -> bool:
        """Whether so little is forgotten that it does not matter."""
        return forgetting.fall <= self.most_forgotten + _ROUNDING


@dataclass(frozen=True)
class Change:
    """How the mean score of some objects changed.

    Attributes:
        tasks: independent ones: those of one group count once.
        objects: how many.
        before, after: their means, 0 to 1; 0 where there are no objects.
        low, high: between these the gain lies, each end at the rules' confidence; −1 and 1 where there are
            fewer than 3 tasks, of which nothing can be told.
    """

    tasks: int = 0
    objects: int = 0
    before: float = 0.0
    after: float = 0.0
    low: float = -1.0
    high: float = 1.0

    @property
    def gain(self) -> float:
        """`after` minus `before`."""
        return self.after - self.before

    @property
    def is_known(self) -> bool:
        """Whether there is an interval."""
        return self.tasks >= _TELLING

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; without objects the figures are left out."""
        counts = {"tasks": self.tasks, "objects": self.objects}
        if not self.objects:
            return counts
        figures = {"before": self.before, "after": self.after, "gain": self.gain}
        return {**counts, **figures, **({"low": self.low, "high": self.high} if self.is_known else {})}


@dataclass(frozen=True)
class Forgetting:
    """Mean J on the forgetting set.

    Attributes:
        clips: at least one.
        before, after: 0 to 1.
    """

    clips: int
    before: float
    after: float

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float]) -> Self:
        """From J of the same clips, in their order.

        Raises:
            InputError: scores that do not go together, or are not 0 to 1.
        """
        if not before or len(before) != len(after):
            raise InputError(
                "kept_after",
                f"expected the same clips twice, at least one, got {len(before)} and {len(after)}",
            )
        _check_scores("kept_before", before)
        _check_scores("kept_after", after)
        return cls(len(before), math.fsum(before) / len(before), math.fsum(after) / len(after))

    @property
    def fall(self) -> float:
        """What was lost; negative where it got better."""
        return self.before - self.after

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"clips": self.clips, "before": self.before, "after": self.after, "fall": self.fall}


@dataclass(frozen=True)
class Judgement:
    """The decision, and what it rests on.

    Attributes:
        promoted: whether the candidate takes over.
        reasons: sentences for people; the first says what was decided, and the main reason.
        held_out: all held-out objects together.
        kinds: the same for images and tracks alone, where there are any.
        pictures: the candidate on images, `before` with exchanged pictures, `after` with their own.
        forgetting: what the models make of the forgetting set.
        rules: by which it was judged.
    """

    promoted: bool
    reasons: tuple[str, ...]
    held_out: Change
    kinds: Mapping[Kind, Change]
    pictures: Change
    forgetting: Forgetting
    rules: Rules

    @property
    def before(self) -> float:
        """Held-out mean of the current model."""
        return self.held_out.before

    @property
    def after(self) -> float:
        """Held-out mean of the candidate."""
        return self.held_out.after

    @property
    def gain(self) -> float:
        """`after` minus `before`."""
        return self.held_out.gain

    @property
    def low(self) -> float:
        """The gain is at least this, as far as can be told."""
        return self.held_out.low

    @property
    def high(self) -> float:
        """The gain is at most this, as far as can be told."""
        return self.held_out.high

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the main figures on the first level."""
        return {
            "promoted": self.promoted,
            "reasons": list(self.reasons),
            **self.held_out.to_dict(),
            "kinds": {kind: change.to_dict() for kind, change in self.kinds.items()},
            "pictures_exchanged": self.pictures.to_dict(),
            "forgetting": self.forgetting.to_dict(),
            "confidence": self.rules.confidence,
        }


class _Pair(NamedTuple):
    """An object's two scores; `group` is what it shares its chance with."""

    group: str
    kind: Kind
    before: float
    after: float


_Key = tuple[str, int, str, str, str]  # task, object, kind, prompt, group


def judge(
    before: Sequence[ObjectScore],
    after: Sequence[ObjectScore],
    kept_before: Sequence[float],
    kept_after: Sequence[float],
    rules: Rules = Rules(),
    *,
    exchanged: Sequence[ObjectScore] = (),
) -> Judgement:
    """Candidate against current; the order of objects changes nothing.

    Args:
        before, after: scores of the same held-out objects by the current model and by the candidate.
        kept_before, kept_after: J of the forgetting set's clips, in their order.
        rules: when to promote.
        exchanged: scores of the candidate on other pictures than the objects were drawn on, for some of them.

    Raises:
        InputError: scores that do not go together, or are not 0 to 1.
    """
    pairs = _paired(before, after)
    held_out = _change(pairs, rules)
    of_kind = {kind: [pair for pair in pairs if pair.kind == kind] for kind in _KINDS}
    kinds = {kind: _change(some, rules) for kind, some in of_kind.items() if some}
    forgetting = Forgetting.of(kept_before, kept_after)
    pictures = _change(_on_own_pictures(exchanged, after), rules)
    against = _blindness(pictures, rules) + _objections(held_out, kinds, forgetting, rules)
    facts = [] if against else _facts(held_out, kinds, forgetting)
    first, *others = against or facts
    decided = f"{'kept as a candidate' if against else 'promoted'}: {first}"
    return Judgement(not against, (decided, *others), held_out, kinds, pictures, forgetting, rules)


def _on_own_pictures(exchanged: Sequence[ObjectScore], after: Sequence[ObjectScore]) -> list[_Pair]:
    """What the candidate makes of the same objects on other pictures and on their own."""
    others, own = _by_object("exchanged", exchanged), _by_object("after", after)
    return [
        _Pair(own[key].unit, own[key].kind, others[key].score, own[key].score)
        for key in sorted(others.keys() & own.keys())
    ]


def _paired(before: Sequence[ObjectScore], after: Sequence[ObjectScore]) -> list[_Pair]:
    """In an order of their own, so that equal scores give equal draws."""
    olds, news = _by_object("before", before), _by_object("after", after)
    lonely = sorted(olds.keys() ^ news.keys())
    if lonely:
        task, number = lonely[0][:2]
        raise InputError(
            "after",
            f"expected the same objects as before, got {len(lonely)} without a partner of the same kind and "
            f"prompt, such as object {number} of task {task:.80}",
        )
    return [_Pair(olds[key].unit, olds[key].kind, olds[key].score, news[key].score) for key in sorted(olds)]


def _by_object(field: str, scores: Sequence[ObjectScore]) -> dict[_Key, ObjectScore]:
    found: dict[_Key, ObjectScore] = {
        (each.task, each.object, each.kind, each.prompt, each.unit): each for each in scores
    }
    if len(found) < len(scores):
        raise InputError(field, "expected each object once")
    _check_scores(field, (each.score for each in scores))
    return found


def _check_scores(field: str, scores: Iterable[float]) -> None:
    for score in scores:
        if not 0 <= score <= 1:  # NaN is in no range either
            raise InputError(field, f"expected scores of 0 to 1, got {score}")


# The interval -----------------------------------------------------------------------------------------


def _change(pairs: Sequence[_Pair], rules: Rules) -> Change:
    if not pairs:
        return Change()
    groups = sorted({pair.group for pair in pairs})
    place = {group: index for index, group in enumerate(groups)}
    gains, counts = np.zeros(len(groups)), np.zeros(len(groups))
    for pair in pairs:
        gains[place[pair.group]] += pair.after - pair.before
        counts[place[pair.group]] += 1
    low, high = _interval(gains, counts, rules) if len(groups) >= _TELLING else (-1.0, 1.0)
    before = math.fsum(pair.before for pair in pairs) / len(pairs)
    after = math.fsum(pair.after for pair in pairs) / len(pairs)
    return Change(len(groups), len(pairs), before, after, low, high)


def _interval(gains: NDArray[np.float64], counts: NDArray[np.float64], rules: Rules) -> tuple[float, float]:
    """Ends of the mean gain per object, by a bootstrap over groups (N,): sums of gains, and how many objects.

    Percentiles alone are too narrow for a few groups: at a confidence of 95 %, 12 % of candidates without
    any real gain would pass on four, and 10 % on five. So they are moved outwards as Student's t asks for
    (expanded percentiles: Hesterberg, "What Teachers Should Know About the Bootstrap", 2015): 6 % and 5 %
    pass. On three it is 14 %, since no resampling is worse than the worst of them three times.
    """
    random = np.random.default_rng(rules.seed)
    size = len(gains)
    block = max(1, _BLOCK // size)
    means: list[NDArray[np.float64]] = []
    for start in range(0, rules.draws, block):
        weights = random.multinomial(size, np.full(size, 1 / size), min(block, rules.draws - start))
        means.append(weights @ gains / (weights @ counts))
    wide = _t_quantile(rules.confidence, size - 1) * math.sqrt(size / (size - 1))
    tail = NormalDist().cdf(-wide)
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail)).tolist()
    return low, high


def _t_quantile(p: float, degrees: int) -> float:
    """Student's t from the normal quantile (Abramowitz & Stegun 26.7.5): within 1.5 % from two degrees on."""
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


# Sentences --------------------------------------------------------------------------------------------


def _objections(
    held_out: Change, kinds: Mapping[Kind, Change], forgetting: Forgetting, rules: Rules
) -> list[str]:
    """What speaks against the candidate, the gravest first; nothing: it is promoted."""
    found = []
    if held_out.tasks < rules.least_tasks:
        found.append(
            f"{_count(held_out.tasks, 'held-out task')} can be scored, at least {rules.least_tasks} are "
            "needed to tell a better model from a lucky one"
        )
        found += [_moved(f"held-out {_name(kinds)}", held_out)] if held_out.objects else []
    else:
        found += _no_gain(held_out, _name(kinds), rules)
    if len(kinds) > 1:
        worse = [kind for kind, change in kinds.items() if _is_worse(change, rules)]
        found += [f"{kind}s got worse: {_moved(_NAMES[kind], kinds[kind])}" for kind in worse]
    if not rules.keeps(forgetting):
        found.append(f"it forgot: {_kept(forgetting)}; at most {rules.most_forgotten:g} may be lost")
    return found


def _blindness(pictures: Change, rules: Rules) -> list[str]:
    """Masks that fit other pictures as well say nothing about pictures, unless their prompts say it all."""
    if pictures.tasks < rules.least_tasks or pictures.low > 0 or pictures.before >= rules.prompt_tells:
        return []
    return [
        "the masks do not belong to their pictures: what was learned fits other pictures as well (IoU "
        f"{pictures.before:.3f}) as those that were drawn on ({pictures.after:.3f})"
    ]


def _no_gain(held_out: Change, name: str, rules: Rules) -> list[str]:
    """What is wrong with the gain; nothing where it is good."""
    moved = _moved(f"held-out {name}", held_out)
    if held_out.gain <= 0:
        return [moved]
    if held_out.gain < rules.least_gain - _ROUNDING:
        return [f"{moved}: less than {rules.least_gain:g}, too little for a switch"]
    return [f"{moved}: that may be chance"] if held_out.low <= 0 else []


def _is_worse(change: Change, rules: Rules) -> bool:
    if change.tasks < rules.least_tasks:
        return change.gain < -rules.most_lost - _ROUNDING
    return change.high < 0 and change.gain <= -rules.least_gain


def _facts(held_out: Change, kinds: Mapping[Kind, Change], forgetting: Forgetting) -> list[str]:
    """What speaks for it."""
    together = _moved(f"held-out {_name(kinds)}", held_out)
    alone = [_moved(_NAMES[kind], change) for kind, change in kinds.items()] if len(kinds) > 1 else []
    return [together, *alone, f"tracking is kept: {_kept(forgetting)}"]


def _name(kinds: Mapping[Kind, Change]) -> str:
    only = list(kinds)
    return _NAMES[only[0]] if len(only) == 1 else "score"


def _moved(name: str, change: Change) -> str:
    of = f"{_count(change.objects, 'object')} of {_count(change.tasks, 'task')}"
    if max(abs(change.gain), abs(change.low), abs(change.high)) < _SHOWN:
        return f"{name} stayed at {change.after:.3f} ({of})"
    noise = f"{_signed(change.low)} to {_signed(change.high)} allowing for noise, " if change.is_known else ""
    if abs(change.gain) < _SHOWN:
        return f"{name} stayed at {change.after:.3f} ({noise}{of})"
    verb = "rose" if change.gain > 0 else "fell"
    return f"{name} {verb} from {change.before:.3f} to {change.after:.3f} ({noise}{of})"


def _kept(forgetting: Forgetting) -> str:
    """The forgetting set's figures."""
    name = f"mean J on {_count(forgetting.clips, 'fixed clip')} of the forgetting set"
    if abs(forgetting.fall) < _SHOWN:
        return f"{name} stayed at {forgetting.after:.3f}"
    verb = "fell" if forgetting.fall > 0 else "rose"
    return f"{name} {verb} from {forgetting.before:.3f} to {forgetting.after:.3f}"


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")  # + 0.0: no −0.000


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
