"""Which tasks are learned from and which are kept to measure on: by task, never by frame. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from edgetam_model.errors import InputError
from edgetam_model.training.annotations import AnnotatedTask

SHARE = 0.2


@dataclass(frozen=True)
class SplitOptions:
    """How tasks are parted.

    Attributes:
        salt: of the project; other salts part otherwise.
        share: of the groups that is held out, above 0 and below 1.
        least: so many groups are held out at least, or all but one where there are fewer.

    Raises:
        InputError: a share that is not between 0 and 1, or fewer than one.
    """

    salt: str = ""
    share: float = SHARE
    least: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError("share", f"expected between 0 and 1, got {self.share}")
        if self.least < 1:
            raise InputError("least", f"expected at least 1, got {self.least}")


@dataclass(frozen=True)
class Split:
    """Tasks to learn from and tasks to measure on, each in their given order."""

    train: tuple[AnnotatedTask, ...]
    held_out: tuple[AnnotatedTask, ...]


def split_tasks(tasks: Sequence[AnnotatedTask], options: SplitOptions = SplitOptions()) -> Split:
    """Part tasks by the hash of their group alone.

    What is held out stays so when tasks are added or removed, in any order and on any machine. Only while
    the hash picks fewer than `least` do those of the lowest hash join, and leave again when there are enough:
    so with more than `least` groups, adding tasks never moves one from training to the held-out ones. Of a
    few groups the hash may pick all; then there is nothing to learn from until more come.
    """
    kept = held_out_groups((task.group for task in tasks), options)
    return Split(
        train=tuple(task for task in tasks if task.group not in kept),
        held_out=tuple(task for task in tasks if task.group in kept),
    )


def held_out_groups(groups: Iterable[str], options: SplitOptions = SplitOptions()) -> frozenset[str]:
    """The groups that are held out; see `split_tasks`."""
    order = sorted(set(groups), key=lambda group: (_place(group, options.salt), group))
    chosen = sum(_place(group, options.salt) < options.share for group in order)
    return frozenset(order[: max(chosen, min(options.least, len(order) - 1), 0)])


def _place(group: str, salt: str) -> float:
    """0 to 1, evenly spread."""
    text = f"{len(salt)}:{salt}{group}".encode("utf-8", "backslashreplace")
    return int.from_bytes(sha256(text).digest()[:6]) / 2**48
