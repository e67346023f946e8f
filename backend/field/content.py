"""A Label Studio task in a kit: its data, its annotations, and which of them is worked on. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import ValidationError

from backend.field.manifest import Frozen
from backend.label_config import LabelConfig, MediaObject
from edgetam_model import InputError
from edgetam_model.field_places import FieldTask

KEPT_KEYS = ("id", "result", "was_cancelled", "ground_truth", "created_at", "updated_at", "completed_by")


@dataclass(frozen=True)
class KnownAnnotation:
    """An annotation as it was when the kit was packed.

    Attributes:
        updated_at: Label Studio's own words.
        content: `content_hash` of its result.
    """

    id: int
    updated_at: str | None
    content: str


class TaskContent(Frozen):
    """A task as Label Studio had it."""

    id: int
    data: dict[str, Any]
    annotations: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, task: FieldTask) -> Self:
        """What a kit's task holds.

        Raises:
            InputError: it is damaged.
        """
        try:
            return cls.model_validate_json(task.content)
        except ValidationError as error:
            raise InputError(f"task {task.id}", "is not the content of a task") from error

    @property
    def base(self) -> KnownAnnotation | None:
        """The annotation that is worked on: the ground truth, else the newest that was not skipped.

        None: there is none, and a new one is made.
        """
        usable = [a for a in self.annotations if not a.get("was_cancelled") and isinstance(a.get("id"), int)]
        best = max(usable, key=lambda one: (one.get("ground_truth") is True, _when(one)), default=None)
        if best is None:
            return None
        when = best.get("updated_at")
        known_at = when if isinstance(when, str) else None
        return KnownAnnotation(int(best["id"]), known_at, content_hash(_regions(best)))

    @property
    def result(self) -> list[Any]:
        """The regions of that annotation, as stored."""
        base = self.base
        return next((list(_regions(a)) for a in self.annotations if base and a.get("id") == base.id), [])


@dataclass(frozen=True)
class Picture:
    """One of a task's images, or its video.

    Attributes:
        object: the tag that shows it.
        item: which of the tag's several images, what regions call `item_index`; None where it shows one.
    """

    object: MediaObject
    item: int | None = None


def pictures(config: LabelConfig, data: Mapping[str, Any]) -> tuple[Picture, ...]:
    """What of a task is worked on in the field: its video, else every image that tools draw on, in order.

    Raises:
        InputError: the project has neither.
    """
    if config.video is not None:
        return (Picture(config.video.object),)
    found: list[Picture] = []
    for image in config.images:
        if not config.outputs_for(image.name):
            continue
        listed = data.get(image.key) if image.several and image.key else None
        count = len(listed) if isinstance(listed, list) else 1
        found += [Picture(image, item if image.several else None) for item in range(count)]
    if not found:
        raise InputError("project", "expected an image with tools for it, or a video with VideoRectangle")
    return tuple(found)


def kept(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """What of an annotation goes into a kit."""
    return json.loads(json.dumps({key: annotation[key] for key in KEPT_KEYS if key in annotation}))  # type: ignore[no-any-return]  # a dict went in


def content_hash(result: Sequence[Any]) -> str:
    """SHA-256 of regions, the same for equal ones, whatever the order of their keys."""
    text = json.dumps(list(result), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def region_ids(result: Sequence[Any]) -> tuple[str, ...]:
    """The ids in a result, each once, in order."""
    found = (entry.get("id") for entry in result if isinstance(entry, dict))
    return tuple(dict.fromkeys(name for name in found if isinstance(name, str) and name))


def _regions(annotation: Mapping[str, Any]) -> list[Any]:
    result = annotation.get("result")
    return result if isinstance(result, list) else []


def _when(annotation: Mapping[str, Any]) -> tuple[str, int]:
    when = annotation.get("updated_at") or annotation.get("created_at")
    return (when if isinstance(when, str) else "", int(annotation["id"]))
