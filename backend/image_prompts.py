"""From what a request says was drawn on an image to prompts for the model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from backend.image_shapes import Click, Painted, Rectangle, Shape, Size, checked, shape_class
from backend.label_config import Control, LabelConfig
from edgetam_model import InputError, Prompt, PromptError

MAX_REGIONS = 10_000  # of one request or annotation; a crowded image has some hundreds
MAX_CANVAS = 2**25  # pixels of a browser's image that is larger than ours
ASPECT = 0.02  # by which the sides' ratio of the browser's image and ours may differ


@dataclass(frozen=True)
class Canvas:
    """The image as the browser showed it while people drew. Browsers turn photos by their EXIF note, as our
    reader does, so percent mean the same on both.

    Attributes:
        name: of the object, what regions call `to_name`.
        item_index: which image, where the object shows several; else None.
        size: (H, W) in pixels as regions say; None where they say nothing.
        rotation: degrees by which the editor showed it turned; shapes do not turn with it.
    """

    name: str
    item_index: int | None = None
    size: Size | None = None
    rotation: int = 0

    def size_for(self, image: Size) -> Size:
        """(H, W) of painted masks: the browser's own where it can be of this image, else the image's.

        Args:
            image: (H, W) of the image as we read it.
        """
        if self.size is None:
            return image
        (height, width), (own_height, own_width) = self.size, image
        same = abs(width * own_height - height * own_width) <= ASPECT * width * own_height
        return self.size if same and width * height <= max(MAX_CANVAS, own_width * own_height) else image


@dataclass(frozen=True)
class DrawnObject:
    """One object that someone has pointed at.

    Attributes:
        shapes: its clicks and at most one box, or one painted mask.
        labels: as chosen by the person; empty where none was.
        region_id: the id that the answer's first region gets.
        canvas: what it was drawn on.
        outputs: the controls that the answer is written to.
    """

    shapes: tuple[Shape, ...]
    labels: tuple[str, ...]
    region_id: str
    canvas: Canvas
    outputs: tuple[Control, ...]

    def prompt(self, size: Size) -> Prompt:
        """The prompt in pixels.

        Args:
            size: (H, W) of the image.

        Raises:
            InputError: outside the image, without an area, or a painted mask that cannot be read.
        """
        clicks = [shape for shape in self.shapes if isinstance(shape, Click)]
        boxes = [shape.box(size) for shape in self.shapes if isinstance(shape, Rectangle)]
        painted = [shape for shape in self.shapes if isinstance(shape, Painted)]
        if painted:
            mask = painted[0].mask(size, self.canvas.size_for(size))
            if not mask.any():
                raise PromptError("mask", "expected one with at least one painted pixel")
            return Prompt(mask=mask)
        prompt = Prompt(
            points=[click.pixel(size) for click in clicks] or None,
            labels=[int(click.positive) for click in clicks] or None,
            box=boxes[0] if boxes else None,
        )
        prompt.check_inside(*size)
        return prompt


class _Entry(BaseModel):
    """One entry of a result list."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    id: str | None = None
    type: str
    from_name: str | None = None
    to_name: str | None = None
    value: dict[str, Any]
    is_positive: bool | None = None
    original_width: int | None = Field(default=None, ge=1, le=2**16)
    original_height: int | None = Field(default=None, ge=1, le=2**16)
    image_rotation: int | None = None
    item_index: int | None = Field(default=None, ge=0)


class _Drawn(NamedTuple):
    """One shape with what its entry says about it."""

    shape: Shape
    entry: _Entry
    labels: tuple[str, ...]
    canvas: Canvas


def read_prompts(task: Any, context: Any, config: LabelConfig) -> tuple[DrawnObject, ...]:
    """What to segment on a task's images: what the context points at, else what a draft or annotation does.

    A context with regions stands for itself, even where nothing can be done with them yet: one negative
    click must not bring back the masks of everything that was annotated.

    Args:
        task: as Label Studio sends it: `data`, `annotations`, `drafts`.
        context: of an interactive request; None in a batch.
        config: the project's.

    Returns:
        Objects in the order in which they were drawn; none: nothing to do.

    Raises:
        InputError: a context or task of another form, with the field named.
    """
    found = read_context(context, config)
    pointed = isinstance(context, Mapping) and bool(context.get("result"))
    return found if pointed else read_task(task, config)


def read_context(context: Any, config: LabelConfig) -> tuple[DrawnObject, ...]:
    """What an interactive request points at: all clicks of a label are one object's.

    A box belongs to the clicks of its label; of several boxes each is an object, and so is each painted mask.

    Raises:
        InputError: a context of another form, with the field named.
    """
    if context is None:
        return ()
    if not isinstance(context, Mapping):
        raise InputError("context", f"expected an object or null, got {type(context).__name__}")
    drawn = _read_result(context.get("result"), config, "context.result")
    return tuple(found for group in _by_label(drawn) for found in _context_objects(group, config))


def read_task(task: Any, config: LabelConfig) -> tuple[DrawnObject, ...]:
    """What the newest draft, else the newest annotation, with boxes or clicks points at: each is an object.

    Negative clicks belong to all objects of their label. Masks are finished work, and no prompts. Where all
    outputs of a shape's image are its own control, it is the answer already.

    Raises:
        InputError: a task of another form, with the field named.
    """
    if not isinstance(task, Mapping):
        raise InputError("task", f"expected an object, got {type(task).__name__}")
    for source in ("drafts", "annotations"):
        for number, saved in _newest_first(task.get(source), f"task.{source}"):
            drawn = _read_result(saved.get("result"), config, f"task.{source}.{number}.result")
            found = tuple(one for group in _by_label(drawn) for one in _saved_objects(group, config))
            if found:
                return found
    return ()


def _context_objects(group: Sequence[_Drawn], config: LabelConfig) -> Iterator[DrawnObject]:
    clicks = [one for one in group if isinstance(one.shape, Click)]
    boxes = [one for one in group if isinstance(one.shape, Rectangle)]
    painted = [one for one in group if isinstance(one.shape, Painted)]
    sets = [[*boxes, *clicks]] if len(boxes) <= 1 else [[box] for box in boxes] + [clicks]
    for parts in (*sets, *([mask] for mask in painted)):
        if any(_positive(part) for part in parts):
            yield _object(parts, config, _derived_id(parts))


def _saved_objects(group: Sequence[_Drawn], config: LabelConfig) -> Iterator[DrawnObject]:
    negative = [one for one in group if not _positive(one)]
    for one in group:
        if not _positive(one) or isinstance(one.shape, Painted):
            continue
        made = _object([one, *negative], config, one.entry.id or _derived_id([one]))
        others = tuple(control for control in made.outputs if control.name != one.entry.from_name)
        if others:
            yield DrawnObject(made.shapes, made.labels, made.region_id, made.canvas, others)


def _object(parts: Sequence[_Drawn], config: LabelConfig, region_id: str) -> DrawnObject:
    first = parts[0]
    outputs = config.outputs_for(first.canvas.name)
    return DrawnObject(tuple(part.shape for part in parts), first.labels, region_id, first.canvas, outputs)


def _positive(one: _Drawn) -> bool:
    return not isinstance(one.shape, Click) or one.shape.positive


def _derived_id(parts: Sequence[_Drawn]) -> str:
    """The same for the same prompts, another when one is added: a request sent twice adds nothing twice."""
    named = [part.entry.id or repr(part.shape) for part in parts]
    return hashlib.sha256("\n".join(named).encode("utf-8", "replace")).hexdigest()[:10]


def _by_label(drawn: Iterable[_Drawn]) -> Iterable[list[_Drawn]]:
    groups: dict[tuple[str, int | None, tuple[str, ...]], list[_Drawn]] = {}
    for one in drawn:
        groups.setdefault((one.canvas.name, one.canvas.item_index, one.labels), []).append(one)
    return groups.values()


def _read_result(result: Any, config: LabelConfig, where: str) -> list[_Drawn]:
    """The shapes of a result list; entries that draw nothing on an image of the config are passed over."""
    if result is None:
        return []
    if not isinstance(result, list) or len(result) > MAX_REGIONS:
        raise InputError(where, f"expected a list of at most {MAX_REGIONS} regions")
    labels = _separate_labels(result)
    images = [image.name for image in config.images]
    drawn = []
    for number, item in enumerate(result):
        place = f"{where}.{number}"
        kind = item.get("type") if isinstance(item, Mapping) else None
        if not isinstance(kind, str):
            raise InputError(f"{place}.type", "expected a region with a type")
        made = shape_class(kind.lower())
        if made is None:
            continue
        entry = checked(_Entry, item, place)
        name = entry.to_name or "".join(images[:1])
        if name in images:
            drawn.append(_read_shape(made, entry, name, labels, place))
    return drawn


def _read_shape(
    made: type[Shape], entry: _Entry, name: str, labels: Mapping[str, tuple[str, ...]], place: str
) -> _Drawn:
    value = dict(entry.value)
    if made is Click:
        value["positive"] = entry.is_positive is not False
    shape = checked(made, value, f"{place}.value")
    own = _texts(value.get(entry.type.lower())) or _texts(value.get("labels"))
    both = entry.original_width is not None and entry.original_height is not None
    size = (entry.original_height or 1, entry.original_width or 1) if both else None
    canvas = Canvas(name, entry.item_index, size, entry.image_rotation or 0)
    return _Drawn(shape, entry, own or labels.get(entry.id or "", ()), canvas)


def _separate_labels(result: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    """Region id → labels, of the entries by which `Labels` controls label what unlabelled tools draw."""
    found = {}
    for item in result:
        if not isinstance(item, Mapping) or item.get("type") != "labels":
            continue
        value, name = item.get("value"), item.get("id")
        if isinstance(value, Mapping) and isinstance(name, str):
            found[name] = _texts(value.get("labels"))
    return found


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _newest_first(saved: Any, where: str) -> list[tuple[int, Mapping[str, Any]]]:
    """Drafts or annotations with their numbers, without those that were skipped by their annotator."""
    if saved is None:
        return []
    if not isinstance(saved, list):
        raise InputError(where, f"expected a list, got {type(saved).__name__}")
    kept = [
        (n, one) for n, one in enumerate(saved) if isinstance(one, Mapping) and not one.get("was_cancelled")
    ]
    return sorted(kept, key=lambda pair: (_when(pair[1]), pair[0]), reverse=True)


def _when(saved: Mapping[str, Any]) -> str:
    """ISO 8601 in UTC as Label Studio writes it, which sorts as text."""
    when = saved.get("updated_at") or saved.get("created_at")
    return when if isinstance(when, str) else ""
