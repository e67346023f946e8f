"""The clips of a fit: what can be opened and shows something, and a part that says when to stop. No torch."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from edgetam_model.errors import InputError
from edgetam_model.training.annotations import AnnotatedTask
from edgetam_model.training.splits import Split
from edgetam_model.training.task_clips import OpenMedia, TaskClip, task_clips

DEV_FROM, DEV_EVERY = 24, 8  # groups to learn from there must be, and which of them says when to stop


@dataclass(frozen=True)
class FitClips:
    """Clips by what they are for.

    Attributes:
        train: to learn from.
        dev: of the tasks to learn from, to choose the best weights by; empty where there are few.
        held_out: to measure on, seen by no training.
    """

    train: tuple[TaskClip, ...]
    dev: tuple[TaskClip, ...]
    held_out: tuple[TaskClip, ...]


def unreadable(tasks: Sequence[AnnotatedTask], media: OpenMedia, tick: Callable[[], None]) -> dict[str, str]:
    """Task id → what is wrong with its media, for those that cannot be learned from; all frames are read.

    A training that meets such a frame hours later would end there.

    Args:
        tasks: to look at.
        media: opens them; other errors than InputError pass through.
        tick: called after each.
    """
    problems = {}
    for task in tasks:
        try:
            _read(task, media)
        except InputError as error:
            problems[task.id] = str(error)
        tick()
    return problems


def without(split: Split, left_out: Container[str]) -> Split:
    """The split without some tasks, by id."""
    parts = [
        tuple(task for task in part if task.id not in left_out) for part in (split.train, split.held_out)
    ]
    return Split(*parts)


def dev_groups(tasks: Sequence[AnnotatedTask]) -> frozenset[str]:
    """Groups of tasks to learn from by which the best weights are chosen; none where there are few."""
    groups = sorted({task.group for task in tasks})
    return frozenset(groups[::DEV_EVERY]) if len(groups) >= DEV_FROM else frozenset()


def fit_clips(split: Split, dev: frozenset[str], media: OpenMedia) -> FitClips:
    """The clips of tasks that `unreadable` found nothing wrong with.

    Args:
        split: the tasks.
        dev: groups of those to learn from that become `FitClips.dev`.
        media: opens them.

    Raises:
        InputError: media that cannot be opened by now.
    """
    learned = [task for task in split.train if task.group not in dev]
    chosen = [task for task in split.train if task.group in dev]
    parts = (_shown(part, media) for part in (learned, chosen, split.held_out))
    return FitClips(*parts)


def _shown(tasks: Sequence[AnnotatedTask], media: OpenMedia) -> tuple[TaskClip, ...]:
    """Clips with something on them."""
    return tuple(clip for clip in task_clips(tasks, media) if any(each.sightings for each in clip.objects))


def _read(task: AnnotatedTask, media: OpenMedia) -> None:
    """Read every frame.

    Raises:
        InputError: one cannot be read, or nothing of what was drawn lies inside the picture.
    """
    shown = False
    for clip in task_clips([task], media):
        for index in range(len(clip)):
            clip.frame(index)
            shown = shown or bool(clip.masks(index))
    if not shown:
        raise InputError("annotations", f"nothing that was drawn lies inside the picture: task {task.id}")
