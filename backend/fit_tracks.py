"""Label Studio's video tracks → what is known of an object on which frame. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from backend.frame_map import SEEK_SHIFT, frame_rate
from backend.keyframe import Keyframe
from backend.video_prompts import VideoControl, VideoRegion, read_regions
from edgetam_model import InputError
from edgetam_model.training.annotations import (
    PERCENT,
    AnnotatedObject,
    BoxShape,
    FrameNumbers,
    Given,
    Origin,
    ReadOptions,
    Sighting,
)

MAX_BETWEEN = 200_000  # frames between a region's keyframes: two hours of video
ON_THE_LINE = 0.01  # percent: half a pixel of a 4K frame; Label Studio's own exports are far closer
AUTO = "auto"  # the key by which Label Studio's export marks the keyframes that it made up between others

_Line = tuple[float, float, float, float, float]


def video_objects(
    regions: Sequence[Mapping[str, Any]],
    labels: Mapping[str, tuple[str, ...]],
    options: ReadOptions,
    ignored: Counter[str],
    buttons: Sequence[str] = (),
) -> tuple[AnnotatedObject, ...]:
    """The objects of one video, in the order drawn; frames are Label Studio's, made 0-based.

    Keyframes count as a person's, or as the tracker's where their checksum says that nobody changed them.
    An object is absent after a keyframe by which a person hid it; where the tracker lost it, before its
    first keyframe and after its last, nothing is known.

    Args:
        regions: the video's rectangles; a damaged one is left out.
        labels: of unlabelled tools, by region id.
        options: whether boxes between keyframes are taken too.
        ignored: counts what is left out.
        buttons: labels that are no classes, as Track is.
    """
    control = VideoControl("", "", buttons=tuple(buttons))
    found: list[AnnotatedObject] = []
    for raw in regions:
        try:
            region = _region(raw, control)
            sightings = tuple(_sightings(region.keyframes, options))
        except InputError:
            ignored["damaged regions"] += 1
            continue
        if sightings:
            chosen = region.labels or labels.get(region.id, ())
            found.append(AnnotatedObject(len(found) + 1, chosen, sightings, tuple(_absent(region))))
        else:
            ignored["tracks without a box"] += 1
    return tuple(found)


def video_numbers(
    regions: Iterable[Mapping[str, Any]], attribute: str | None, data: Mapping[str, Any]
) -> FrameNumbers:
    """What the 0-based numbers of `video_objects` mean.

    Args:
        regions: the video's rectangles.
        attribute: the Video tag's frameRate, see `frame_rate`; "$" where no config is known: then the
            regions' own length and number of frames tell it.
        data: the task's.

    Raises:
        InputError: a rate that is no rate.
    """
    count = duration = None
    for raw in regions:
        value = raw.get("value")
        if isinstance(value, Mapping) and count is None:
            count, duration = _positive(value.get("framesCount")), _positive(value.get("duration"))
    whole = None if count is None else round(count)
    return FrameNumbers(frame_rate(attribute, data, frames_count=whole, duration=duration), SEEK_SHIFT)


def _region(raw: Mapping[str, Any], control: VideoControl) -> VideoRegion:
    for region in read_regions([raw], control):
        return region
    raise InputError("type", "expected a video's rectangle")


def _positive(value: object) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
    return float(value) if usable and isinstance(value, int | float) else None


def _sightings(keyframes: Sequence[Keyframe], options: ReadOptions) -> Iterator[Sighting]:
    """Ascending by frame, each once."""
    keys = [key for key in keyframes if key.frame >= 1 and key.width > 0 and key.height > 0]
    made_up = _made_up(keys)
    kept = [key for key in keys if key.frame not in made_up]
    if options.interpolated:
        gaps = sum(b.frame - a.frame - 1 for a, b in pairwise(kept) if a.enabled)
        if gaps > MAX_BETWEEN:
            raise InputError("sequence", f"expected at most {MAX_BETWEEN} frames between, got {gaps}")
    for place, key in enumerate(kept):
        yield _sighting(key.frame, _line(key), "model" if key.tracked else "human")
        if options.interpolated and key.enabled and place + 1 < len(kept):
            after = kept[place + 1]
            for number in range(key.frame + 1, after.frame):
                yield _sighting(number, between(key, after, number), "interpolated")


def _made_up(keys: Sequence[Keyframe]) -> set[int]:
    """Frames whose keyframe Label Studio's export made up: marked so, and still on the line between others.

    The mark alone does not tell: a keyframe keeps it when a person drags the box.
    """
    found: set[int] = set()
    anchor: Keyframe | None = None
    marked: list[Keyframe] = []
    for key in keys:
        if key.extra.get(AUTO) is True:
            marked.append(key)
            continue
        if anchor is not None:
            found |= {each.frame for each in marked if _on_the_line(anchor, each, key)}
        anchor, marked = key, []
    return found


def _on_the_line(a: Keyframe, key: Keyframe, b: Keyframe) -> bool:
    pairs = zip(_line(key), between(a, b, key.frame), strict=True)
    return all(abs(own - line) <= ON_THE_LINE for own, line in pairs)


def between(a: Keyframe, b: Keyframe, number: int) -> _Line:
    """x, y, width, height and rotation that Label Studio shows between two keyframes: straight lines, and
    the shorter way round."""
    share = (number - a.frame) / (b.frame - a.frame)
    turn = (b.rotation - a.rotation + 180) % 360 - 180
    x, y, width, height = (
        old + (new - old) * share for old, new in zip(_line(a)[:4], _line(b)[:4], strict=True)
    )
    return x, y, width, height, a.rotation + turn * share


def _line(key: Keyframe) -> _Line:
    return key.x, key.y, key.width, key.height, key.rotation


def _sighting(number: int, line: _Line, origin: Origin) -> Sighting:
    x, y, width, height, rotation = line
    shape = BoxShape(x, y, width, height, PERCENT, rotation)
    return Sighting(number - 1, shape, origin, Given(box=shape) if origin == "human" else None)


def _absent(region: VideoRegion) -> Iterator[range]:
    """Stretches after a keyframe by which a person hid the object, 0-based."""
    keys = [key for key in region.keyframes if key.frame >= 1]
    ends = [key.frame - 1 for key in keys[1:]] + [region.frames_count or 0]
    for key, end in zip(keys, ends, strict=True):
        if not key.enabled and not key.hidden_by_us and end > key.frame:
            yield range(key.frame, end)
