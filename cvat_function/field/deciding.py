"""What is to be done about one object of a kit in one job, given what stands there now. No SDK, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cvat_function.video.receipt import find_again
from cvat_function.video.records import Annotations, LabeledShape, Track
from edgetam_model.field_places import What

THERE = "stands there already"
NONE = Annotations()
Item = TypeVar("Item", Track, LabeledShape)


@dataclass(frozen=True)
class Decision:
    """What is to be done.

    Attributes:
        create: annotations to be added.
        delete: those that they replace, with the server's ids of today; deleted after the others are there.
        stays: those of the object that are right as they are.
        why: in words.
    """

    what: What
    create: Annotations = NONE
    delete: Annotations = NONE
    stays: Annotations = NONE
    why: str = ""


def decide(base: Annotations, wanted: Annotations, now: Annotations, packed: Annotations) -> Decision:
    """Compare three sides of an object; CVAT gives new ids with every change, so that content decides.

    Args:
        base: what the kit knows to stand there: as it was packed, or as an earlier merge left it.
        wanted: what is to stand there.
        now: everything in the job.
        packed: everything that was in the job when the kit was packed.
    """
    right, added = _found(wanted, base)
    gone = _without(base, right)
    there, lost = _found(gone, now)
    others = _without(now, there)
    already, missing = _found(added, others)
    stays = _joined(right, already)
    if not gone.count and not added.count:
        return Decision("nothing", stays=stays, why=THERE)
    if lost.count:
        if added.count and not missing.count:
            return Decision("nothing", stays=stays, why=THERE)
        heir = any(_inherits(one, others, packed) for one in _items(lost))
        if not added.count and not heir:
            return Decision("nothing", why="is gone already")
        why = "was changed since" if heir else "was changed or deleted since"
        return Decision("conflict", create=missing, stays=already, why=why)
    what: What = "update" if there.count and added.count else "create" if missing.count else "delete"
    if not there.count and not missing.count:
        return Decision("nothing", stays=stays, why=THERE)
    return Decision(what, create=missing, delete=there, stays=stays)


def _found(sent: Annotations, now: Annotations) -> tuple[Annotations, Annotations]:
    """Of `now` what is as it was sent, and of `sent` what is not there."""
    tracks, no_tracks = find_again(sent.tracks, now.tracks)
    shapes, no_shapes = find_again(sent.shapes, now.shapes)
    there = Annotations(tracks=tracks, shapes=shapes)
    return there, Annotations(tracks=tuple(no_tracks), shapes=tuple(no_shapes))


def _without(one: Annotations, other: Annotations) -> Annotations:
    """What is left without some of its own items."""
    return Annotations(
        tracks=_left(one.tracks, other.tracks),
        shapes=_left(one.shapes, other.shapes),
    )


def _left(items: Sequence[Item], taken: Iterable[Item]) -> tuple[Item, ...]:
    marks = {id(item) for item in taken}
    return tuple(item for item in items if id(item) not in marks)


def _joined(one: Annotations, other: Annotations) -> Annotations:
    return Annotations(tracks=one.tracks + other.tracks, shapes=one.shapes + other.shapes)


def _items(annotations: Annotations) -> list[Track | LabeledShape]:
    return [*annotations.tracks, *annotations.shapes]


def _inherits(lost: Track | LabeledShape, now: Annotations, packed: Annotations) -> bool:
    """Whether something stands where an annotation was, that was not there when the kit was packed."""
    before = {one.id for one in (packed.tracks if isinstance(lost, Track) else packed.shapes)}
    others = now.tracks if isinstance(lost, Track) else now.shapes
    return any(
        one.id not in before and (one.label_id, one.frame) == (lost.label_id, lost.frame) for one in others
    )
