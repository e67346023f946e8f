"""What a kit brought along from Label Studio, as objects to go on from, and its videos in Label Studio's
frames. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backend.field.content import Picture, TaskContent, pictures
from backend.fit_regions import region_labels, texts
from backend.frame_map import FrameMap, frame_rate
from backend.image_shapes import Click, Painted, Rectangle, checked, shape_class
from backend.keyframe import Keyframe
from backend.label_config import Control, LabelConfig, parse_label_config
from backend.video_command import Command
from backend.video_plan import RegionPlan, plan_region
from backend.video_prompts import REGION_TYPE, VideoControl, VideoRegion, read_regions
from edgetam_model import InputError, PromptError
from edgetam_model.field_objects import FieldObject, Row, Spec
from edgetam_model.field_places import FieldTask
from edgetam_model.masks import Mask, encode_rle, mask_box

Size = tuple[int, int]
Region = Mapping[str, Any]


@dataclass(frozen=True)
class Project:
    """What all tasks of a kit share.

    Attributes:
        config: the project's.
        control: names of the tags for video; None: the project labels images.
    """

    config: LabelConfig
    control: VideoControl | None

    @classmethod
    def of(cls, config: LabelConfig) -> Project:
        """The project with this labeling config."""
        setup = config.video
        if setup is None:
            return cls(config, None)
        command = setup.commands.name if setup.commands else None
        buttons = setup.action.labels if setup.action else ()
        return cls(config, VideoControl(setup.rectangle.name, setup.object.name, command, buttons))

    @classmethod
    def read(cls, text: str) -> Project:
        """The project with the labeling config of this text.

        Raises:
            InputError: it is damaged.
        """
        return cls.of(parse_label_config(text))

    def labels(self, task: FieldTask) -> tuple[str, ...]:
        """See `FieldProject`."""
        if task.media.kind == "video" and self.config.video is not None:
            return _classes(self.config.video.classes)
        names = dict.fromkeys(one.object.name for one in self.pictures(task))
        return tuple(dict.fromkeys(label for name in names for label in self.labels_of(name)))

    def labels_of(self, name: str) -> tuple[str, ...]:
        """The classes of an image tag."""
        drawn = tuple(c for c in self.config.outputs_for(name) if c.labelled)
        return _classes(drawn or tuple(c for c in self.config.controls_of(name) if c.type == "labels"))

    def objects(self, task: FieldTask) -> Sequence[FieldObject]:
        """See `FieldProject`."""
        return starting_objects(task, self)

    def pictures(self, task: FieldTask) -> tuple[Picture, ...]:
        """What each image of a task, or its video, is in Label Studio."""
        return pictures(self.config, TaskContent.of(task).data)[: len(task.media.sizes)]

    def regions(self, result: Sequence[Any]) -> list[VideoRegion]:
        """The video regions of a result that can be read; the others are left alone."""
        found: list[VideoRegion] = []
        for entry in result if self.control else ():
            if isinstance(entry, Mapping) and entry.get("type") == REGION_TYPE:
                try:
                    found += read_regions([entry], self.control or VideoControl("", ""))
                except InputError:
                    continue
        return found


def _classes(controls: Iterable[Control]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for control in controls for label in control.labels))


def frame_map(task: FieldTask, project: Project) -> FrameMap:
    """Label Studio's frame numbers of a packed video, by the original's times.

    Raises:
        InputError: a frame rate that cannot be read, or a kit without the facts of a video.
    """
    if task.media.info is None or project.config.video is None:
        raise InputError(f"task {task.id}", "the kit says nothing about the times of its video")
    content = TaskContent.of(task)
    regions = project.regions(content.result)
    told = next((r for r in regions if r.frames_count and r.duration), None)
    counted = told.frames_count if told else None
    attribute = project.config.video.object.attributes.get("framerate")
    rate = frame_rate(attribute, content.data, frames_count=counted, duration=told.duration if told else None)
    return FrameMap.of_video(task.media.info, rate, counted)


def starting_objects(task: FieldTask, project: Project) -> list[FieldObject]:
    """The regions of the chosen annotation that can be worked on, numbered from 1.

    Others, such as choices, ellipses or what is damaged, are no objects here and stay as they are.
    """
    result = [entry for entry in TaskContent.of(task).result if isinstance(entry, Mapping)]
    if task.media.kind == "video":
        frames = frame_map(task, project)
        tracks = [_track(region, frames, task.media.size()) for region in project.regions(result)]
        found = [track for track in tracks if track.rows]
    else:
        found = list(_shapes(result, task, project.pictures(task)))
    return [
        FieldObject(one.id, number, one.labels, given=True, prompts=one.prompts, rows=one.rows)
        for number, one in enumerate(found, start=1)
    ]


def plan_of(region: VideoRegion, frames: FrameMap, size: Size) -> RegionPlan:
    """What of a region holds, and the person's boxes in pixels of a video of size (H, W)."""
    return plan_region(region, Command(), frames, size)


# Images -----------------------------------------------------------------------------------------------


def _shapes(result: Sequence[Region], task: FieldTask, shown: Sequence[Picture]) -> Iterator[FieldObject]:
    beside = region_labels(result)
    frames = {(one.object.name, one.item or 0): frame for frame, one in enumerate(shown)}
    seen: set[str] = set()
    for entry in result:
        name, kind = entry.get("id"), entry.get("type")
        made = shape_class(kind.lower()) if isinstance(kind, str) else None
        if not isinstance(name, str) or not name or name in seen or made in (None, Click):
            continue
        frame = frames.get((str(entry.get("to_name")), entry.get("item_index") or 0))
        if frame is None:
            continue
        try:
            row = _row_of(entry, task.media.size(frame))
        except InputError:
            continue
        seen.add(name)
        value = entry.get("value")
        own = texts(value.get(str(kind).lower())) if isinstance(value, Mapping) else ()
        spec = {frame: Spec(box=row.box)} if row.mask is None else {}
        yield FieldObject(name, 0, own or beside.get(name, ()), prompts=spec, rows={frame: row})


def _row_of(entry: Region, size: Size) -> Row:
    """A drawn shape on the packed image.

    Raises:
        InputError: it cannot be read, or nothing of it is in the image.
    """
    kind = shape_class(str(entry["type"]).lower())
    assert kind is not None
    shape = checked(kind, entry.get("value"), "value")
    if isinstance(shape, Rectangle):
        x0, y0, x1, y1 = shape.box(size)
        if x1 <= x0 or y1 <= y0:
            raise PromptError("value", "expected a rectangle that lies in the image")
        return Row(box=(x0, y0, x1, y1), kept=True)
    assert isinstance(shape, Painted)
    return kept_mask(shape.mask(size, _drawn_at(entry, size)))


def kept_mask(mask: Mask) -> Row:
    """The row of a mask that came with the kit.

    Raises:
        InputError: it is empty.
    """
    box = mask_box(mask)
    if box is None:
        raise PromptError("value", "expected at least one painted pixel")
    return Row(box=box, mask=encode_rle(mask)["counts"], kept=True)


def _drawn_at(entry: Region, size: Size) -> Size:
    """(H, W) of the image as the browser saw it."""
    sides = entry.get("original_height"), entry.get("original_width")
    height, width = (side if isinstance(side, int) and 0 < side <= 2**16 else None for side in sides)
    return size if height is None or width is None else (height, width)


# Videos -----------------------------------------------------------------------------------------------


def _track(region: VideoRegion, frames: FrameMap, size: Size) -> FieldObject:
    """A region with its box on every frame of the file that it is shown on."""
    boxes = plan_of(region, frames, size).prompts
    rows: dict[int, Row] = {}
    for source, box in shown_boxes(region, frames, size):
        rows.setdefault(source, Row(box=box, kept=True))
    prompts = {frame: Spec(box=box) for frame, box in boxes.items()}
    return FieldObject(region.id, 0, region.labels, prompts=prompts, rows=rows)


def shown_boxes(
    region: VideoRegion, frames: FrameMap, size: Size
) -> Iterator[tuple[int, tuple[float, float, float, float]]]:
    """(frame of the file, box in pixels) wherever Label Studio shows the region.

    As its editor does: straight lines between keyframes, nothing after one that is not enabled until the
    next one, the last one held.
    """
    keyframes = [k for k in region.keyframes if 1 <= k.frame <= frames.count]
    for place, keyframe in enumerate(keyframes):
        after = keyframes[place + 1] if place + 1 < len(keyframes) else None
        last = (after.frame - 1 if after else frames.count) if keyframe.enabled else keyframe.frame
        for number in range(keyframe.frame, last + 1):
            box = (_between(keyframe, after, number) if after else keyframe).pixels(size)
            if box is not None:
                yield frames.source_of(number), box


def _between(first: Keyframe, last: Keyframe, number: int) -> Keyframe:
    """The box that Label Studio shows on a frame from one keyframe to the next."""
    share = (number - first.frame) / (last.frame - first.frame)
    turn = (last.rotation - first.rotation + 180) % 360 - 180  # the shortest way
    return replace(
        first,
        frame=number,
        x=first.x + (last.x - first.x) * share,
        y=first.y + (last.y - first.y) * share,
        width=first.width + (last.width - first.width) * share,
        height=first.height + (last.height - first.height) * share,
        rotation=first.rotation + turn * share,
    )
