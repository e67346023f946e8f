"""Label Studio's tasks → the annotations that a model learns from. What it is told now is all that counts: an
annotation that was deleted since leaves nothing behind. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from backend.fit_regions import MediaKey, image_objects, region_type, shown_on
from backend.fit_tracks import video_numbers, video_objects
from backend.label_config import LabelConfig
from backend.video_prompts import REGION_TYPE
from edgetam_model import InputError
from edgetam_model.training.annotations import AnnotatedTask, AnnotationSet, ReadOptions

MAX_REGIONS = 10_000  # of one annotation
# What has no shape, and is no loss to a model of masks.
SHAPELESS = frozenset({"labels", "choices", "textarea", "rating", "relation", "taxonomy", "number", "pairwise"})
_SUFFIXES = frozenset(
    ".jpg .jpeg .png .webp .bmp .tif .tiff .gif .ppm .mp4 .mov .mkv .webm .avi .ts .m4v".split()
)


@dataclass(frozen=True)
class _Chosen:
    """The annotation that stands for a task."""

    id: str
    regions: list[Mapping[str, Any]]


def read_tasks(
    tasks: object, config: LabelConfig | None = None, options: ReadOptions = ReadOptions()
) -> AnnotationSet:
    """The annotations of tasks as Label Studio's API and its JSON export give them.

    Of several annotations of a task the one marked as ground truth counts, else the newest; those that were
    skipped or are empty do not, nor do drafts and predictions. A region that cannot be read is left out and
    counted; so is a task that has no other.

    Args:
        tasks: a list of objects with `id`, `data` and `annotations`.
        config: the project's; without it a video's rate is told by its regions and the media by its address.
        options: whether boxes between key frames are taken too.

    Raises:
        InputError: no list of tasks, or one with the same id twice.
    """
    if not isinstance(tasks, list):
        raise InputError("tasks", f"expected a list of tasks, got {type(tasks).__name__}")
    ignored: Counter[str] = Counter()
    found: list[AnnotatedTask] = []
    seen: set[str] = set()
    for number, task in enumerate(tasks):
        name = _task_id(task, number)
        if name in seen:
            raise InputError(f"tasks[{number}].id", f"expected each task once, got {name} again")
        seen.add(name)
        chosen = _chosen(task, ignored)
        if chosen is not None:
            found += _read_task(name, task, chosen, config, options, ignored)
    return AnnotationSet(tuple(found), dict(sorted(ignored.items())))


def _task_id(task: object, number: int) -> str:
    identity = task.get("id") if isinstance(task, Mapping) else None
    if isinstance(identity, bool) or not isinstance(identity, int | str):
        raise InputError(f"tasks[{number}].id", "expected a task with an id")
    return str(identity)


def _chosen(task: Mapping[str, Any], ignored: Counter[str]) -> _Chosen | None:
    """The annotation that counts, the others noted."""
    given = task.get("annotations")
    usable = []
    for annotation in given if isinstance(given, list) else []:
        result = annotation.get("result") if isinstance(annotation, Mapping) else None
        regions = [region for region in result if isinstance(region, Mapping)] if _listed(result) else []
        if not isinstance(annotation, Mapping) or (result and not regions):
            ignored["damaged annotations"] += 1
        elif annotation.get("was_cancelled"):
            ignored["skipped annotations"] += 1
        elif not regions:
            ignored["empty annotations"] += 1
        else:
            usable.append((annotation, regions))
    if not usable:
        return None
    ignored["other annotations of the same task"] += len(usable) - 1
    ignored += Counter()  # drops what is zero
    best, regions = max(usable, key=lambda pair: (pair[0].get("ground_truth") is True, _when(pair[0])))
    return _Chosen(str(best.get("id", "")), regions)


def _listed(result: object) -> bool:
    return isinstance(result, list) and len(result) <= MAX_REGIONS


def _when(annotation: Mapping[str, Any]) -> tuple[str, int]:
    """ISO 8601 in UTC as Label Studio writes it, which sorts as text; of equal ones the later number."""
    when = annotation.get("updated_at") or annotation.get("created_at")
    number = annotation.get("id")
    return (when if isinstance(when, str) else "", number if isinstance(number, int) else 0)


def _read_task(
    name: str,
    task: Mapping[str, Any],
    chosen: _Chosen,
    config: LabelConfig | None,
    options: ReadOptions,
    ignored: Counter[str],
) -> Iterator[AnnotatedTask]:
    """A task for each of its images and videos."""
    data = task.get("data")
    data = data if isinstance(data, Mapping) else {}
    groups = _by_media(chosen.regions, ignored)
    for key, regions in groups.items():
        reference = _reference(key, data, config, alone=len(groups) == 1)
        if reference is None:
            ignored["tasks whose media cannot be told"] += 1
            continue
        numbers = video_numbers(regions, _rate_attribute(key, config), data) if key.video else None
        objects = video_objects(regions, options, ignored) if key.video else image_objects(regions, ignored)
        if not objects:
            ignored["tasks without a shape"] += 1
            continue
        made = AnnotatedTask(
            id=name if len(groups) == 1 else f"{name}:{key.name}:{key.item}",
            kind="video" if key.video else "image",
            media=reference,
            objects=objects,
            group=name,
            annotations=(chosen.id,),
        )
        yield made if numbers is None else replace_numbers(made, numbers)
