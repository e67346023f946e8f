"""Label Studio's tasks → the annotations that a model learns from. What it is told now is all that counts: an
annotation that was deleted since leaves nothing behind. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.fit_regions import image_objects, region_labels
from backend.fit_tracks import video_numbers, video_objects
from backend.image_shapes import shape_class
from backend.label_config import LabelConfig
from backend.video_prompts import REGION_TYPE
from edgetam_model import InputError
from edgetam_model.training.annotations import AnnotatedTask, AnnotationSet, FrameNumbers, ReadOptions

MAX_REGIONS = 10_000  # of one annotation
# What has no shape, and is no loss to a model of masks.
SHAPELESS = frozenset({"labels", "choices", "textarea", "rating", "relation", "taxonomy", "number"})
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm")
_SUFFIXES = (*_PICTURES, ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts")


@dataclass(frozen=True)
class _Media:
    """What regions are drawn on: the tag's name, which of several images, and whether it is a video."""

    name: str
    item: int
    video: bool


@dataclass(frozen=True)
class _Chosen:
    """The annotation that stands for a task."""

    id: str
    regions: list[Mapping[str, Any]]


def read_tasks(
    tasks: object, config: LabelConfig | None = None, options: ReadOptions | None = None
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
            found += _read_task(name, task, chosen, config, options or ReadOptions(), ignored)
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
    for annotation in given if isinstance(given, list | tuple) else []:
        result = annotation.get("result") if isinstance(annotation, Mapping) else None
        regions = _regions(result)
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
    if len(usable) > 1:
        ignored["other annotations of the same task"] += len(usable) - 1
    best, regions = max(usable, key=lambda pair: (pair[0].get("ground_truth") is True, _when(pair[0])))
    return _Chosen(str(best.get("id", "")), regions)


def _regions(result: object) -> list[Mapping[str, Any]]:
    """The entries of a result list; none of anything else, or of an endless one."""
    if not isinstance(result, list) or len(result) > MAX_REGIONS:
        return []
    return [region for region in result if isinstance(region, Mapping)]


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
    given = task.get("data")
    data: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    video = config.video if config else None
    buttons = video.action.labels if video and video.action else ()
    labels = region_labels(chosen.regions, buttons)
    groups = _by_media(chosen.regions, ignored)
    for key, regions in groups.items():
        try:
            reference = _reference(key, data, config)
            numbers = video_numbers(regions, _rate(key, config), data) if key.video else FrameNumbers()
        except InputError:
            ignored["tasks whose media or frame rate cannot be told"] += 1
            continue
        if key.video:
            objects = video_objects(regions, labels, options, ignored, buttons)
        else:
            objects = image_objects(regions, labels, ignored)
        if not objects:
            ignored["tasks without a shape that can be read"] += 1
            continue
        yield AnnotatedTask(
            id=name if len(groups) == 1 else f"{name}:{key.name}:{key.item}",
            kind="video" if key.video else "image",
            media=reference,
            objects=objects,
            group=name,
            annotations=(chosen.id,),
            numbers=numbers,
        )


def _by_media(
    regions: Sequence[Mapping[str, Any]], ignored: Counter[str]
) -> dict[_Media, list[Mapping[str, Any]]]:
    """The regions that draw something, by what they are drawn on."""
    groups: dict[_Media, list[Mapping[str, Any]]] = {}
    for region in regions:
        kind, name, item = region.get("type"), region.get("to_name"), region.get("item_index")
        kind = kind.lower() if isinstance(kind, str) else ""
        if kind != REGION_TYPE and shape_class(kind) is None:
            if kind not in SHAPELESS:
                ignored[f"regions of type {kind[:40]!r}"] += 1
            continue
        key = _Media(
            name=name if isinstance(name, str) else "",
            item=item if isinstance(item, int) and not isinstance(item, bool) else 0,
            video=kind == REGION_TYPE,
        )
        groups.setdefault(key, []).append(region)
    return groups


def _reference(key: _Media, data: Mapping[str, Any], config: LabelConfig | None) -> str:
    """The address of an image or video.

    Raises:
        InputError: nothing in the task's data that could be it.
    """
    shown = config.object(key.name) if config else None
    if shown is not None:
        return shown.reference(data, key.item)
    entries = [value[key.item] if _has(value, key.item) else value for value in data.values()]
    addresses = [text for text in entries if isinstance(text, str) and _looks_like_media(text)]
    own = data.get(key.name)
    if isinstance(own, str) and own:
        return own
    if len(addresses) != 1:
        raise InputError("data", f"expected one address of an image or video, got {len(addresses)}")
    return addresses[0]


def _has(value: object, item: int) -> bool:
    return isinstance(value, list) and 0 <= item < len(value)


def _looks_like_media(text: str) -> bool:
    """By its ending, before or in the query: local files are `/data/local-files/?d=…/x.jpg`."""
    return text.lower().endswith(_SUFFIXES) or text.partition("?")[0].lower().endswith(_SUFFIXES)


def _rate(key: _Media, config: LabelConfig | None) -> str | None:
    """The frameRate of the video's tag; "$" where there is none to ask: then its regions tell."""
    shown = config.object(key.name) if config else None
    return shown.attributes.get("framerate") if shown else "$"
