"""What a request holds: the video regions, their labels, keyframes and typed commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, ValidationError

from backend.keyframe import Keyframe
from edgetam_model import InputError

REGION_TYPE = "videorectangle"
COMMAND_TYPE = "textarea"


@dataclass(frozen=True)
class VideoControl:
    """The names of a project's tags that a video region needs.

    Attributes:
        from_name: of the VideoRectangle tag.
        to_name: of the Video tag.
        command: of the per-region TextArea for commands; None where there is none.
        buttons: labels that are buttons, as Track is, and no classes.
    """

    from_name: str
    to_name: str
    command: str | None = None
    buttons: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoRegion:
    """One videorectangle as it came.

    Attributes:
        id, from_name, to_name: as Label Studio must see them again.
        labels: its classes; none while a person takes the label off.
        pressed: a button stood where the class belongs.
        keyframes: ascending by frame, as sent; the tracker's and the person's, each frame once.
        frames_count, duration: what Label Studio says about the video, where it does.
        command: what the person typed last beside it, or None.
        raw: the region's JSON, without buttons among its labels.
        command_raw: the JSON of the command; Label Studio forgets it unless it is sent back.
    """

    id: str
    from_name: str
    to_name: str
    labels: tuple[str, ...]
    keyframes: tuple[Keyframe, ...]
    frames_count: int | None
    duration: float | None
    command: str | None
    raw: Mapping[str, Any]
    command_raw: Mapping[str, Any] | None = None
    pressed: bool = False


class _Value(BaseModel):
    """The `value` of a region; the keyframes are read one by one."""

    model_config = ConfigDict(frozen=True, extra="allow")

    sequence: list[Any] = []
    labels: tuple[str, ...] | None = None
    framesCount: Annotated[float, AllowInfNan(False), Field(ge=0, le=1e9)] | None = None  # noqa: N815
    duration: Annotated[float, AllowInfNan(False), Field(ge=0, le=1e9)] | None = None


class _Region(BaseModel):
    """A region's JSON as far as it matters here."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: Annotated[str, Field(min_length=1, max_length=1000)]
    from_name: str | None = None
    to_name: str | None = None
    value: _Value


def result_of(task: Mapping[str, Any], context: object = None) -> list[Any]:
    """The regions that a request speaks of, as JSON.

    These are the context's where it has any; else those of the task's last draft that holds a video
    region; else of its last annotation that does and was not skipped; else none.
    """
    if isinstance(context, Mapping) and isinstance(context.get("result"), list) and context["result"]:
        return list(context["result"])
    for source in ("drafts", "annotations"):
        kept = [e for e in _dicts(task.get(source)) if not e.get("was_cancelled")]
        for entry in reversed(kept):
            items = list(_dicts(entry.get("result")))
            if any(item.get("type") == REGION_TYPE for item in items):
                return items
    return []


def read_regions(items: object, control: VideoControl) -> list[VideoRegion]:
    """The video regions among a request's items; whatever is no video region is passed over.

    Args:
        items: the JSON of `result`: context, draft or annotation.
        control: names to take where a region brings none, and the name of the command box.

    Raises:
        InputError: a video region that is malformed, with the path of the field at fault.
    """
    if not isinstance(items, list):
        return []
    commands = {} if control.command is None else dict(_commands(items, control.command))
    regions: dict[str, VideoRegion] = {}
    for index, item in enumerate(items):
        if isinstance(item, Mapping) and item.get("type") == REGION_TYPE:
            region = _read_region(item, f"result[{index}]", control, commands)
            regions[region.id] = region
    return list(regions.values())


def _read_region(
    item: Mapping[str, Any],
    path: str,
    control: VideoControl,
    commands: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> VideoRegion:
    try:
        region = _Region.model_validate(item)
    except ValidationError as error:
        raise _input_error(path, error) from error
    value = region.value
    command, command_raw = commands.get(region.id, (None, None))
    given = value.labels or ()
    classes = tuple(label for label in given if label not in control.buttons)
    return VideoRegion(
        id=region.id,
        from_name=region.from_name or control.from_name,
        to_name=region.to_name or control.to_name,
        labels=classes,
        keyframes=_read_sequence(value.sequence, f"{path}.value.sequence"),
        frames_count=round(value.framesCount) if value.framesCount else None,
        duration=value.duration or None,
        command=command,
        raw=item if len(classes) == len(given) else _labelled(item, classes),
        command_raw=command_raw,
        pressed=len(classes) < len(given),
    )


def _labelled(item: Mapping[str, Any], classes: Sequence[str]) -> Mapping[str, Any]:
    """A region with these classes alone.

    Of the labels that are chosen for a region Label Studio sends the first control's that has one: where the
    class was taken off, that is the button. Sent back as a label, it would stay the region's class.
    """
    value = {key: entry for key, entry in item["value"].items() if key != "labels"}
    return {**item, "value": {**value, "labels": list(classes)} if classes else value}


def _read_sequence(sequence: Sequence[object], path: str) -> tuple[Keyframe, ...]:
    """Keyframes, ascending, each frame once: a person's wins over ours, a later one over an earlier."""
    chosen: dict[int, Keyframe] = {}
    for index, value in enumerate(sequence):
        try:
            keyframe = Keyframe.from_json(value)
        except ValidationError as error:
            raise _input_error(f"{path}[{index}]", error) from error
        rival = chosen.get(keyframe.frame)
        if rival is None or rival.tracked or not keyframe.tracked:
            chosen[keyframe.frame] = keyframe
    return tuple(chosen[frame] for frame in sorted(chosen))


def _commands(items: list[Any], name: str) -> Iterator[tuple[str, tuple[str, Mapping[str, Any]]]]:
    """(region id, (last text typed, its JSON)) of every command box that holds something."""
    for item in _dicts(items):
        region, value = item.get("id"), item.get("value")
        if item.get("type") != COMMAND_TYPE or item.get("from_name") != name or not isinstance(region, str):
            continue
        texts = value.get("text") if isinstance(value, Mapping) else None
        typed = [t for t in (texts if isinstance(texts, list) else [texts]) if isinstance(t, str)]
        filled = [text for text in typed if text.strip()]
        if filled:
            yield region, (filled[-1], item)


def _dicts(value: object) -> Iterator[Mapping[str, Any]]:
    yield from (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else ()


def _input_error(path: str, error: ValidationError) -> InputError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    return InputError(f"{path}{place}", first["msg"])
