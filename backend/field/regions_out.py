"""The work of the field as Label Studio's regions: what nobody touched goes back as it came. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from backend.field.content import TaskContent, region_ids
from backend.field.starting import Project, frame_map, plan_of
from backend.fit_regions import region_labels
from backend.frame_map import FrameMap
from backend.image_prompts import Canvas, DrawnObject
from backend.image_regions import RegionOptions, regions_from_mask
from backend.image_shapes import shape_class
from backend.keyframe import DECIMALS, Keyframe, PromptMark
from backend.label_config import Control
from backend.video_keyframes import KeyframeOptions, TrackedBox, build_track, region_json
from backend.video_plan import RegionPlan, Stretch
from backend.video_prompts import REGION_TYPE
from edgetam_model import InputError, MaskResult
from edgetam_model.field_objects import FieldObject, Row
from edgetam_model.field_places import FieldTask, FieldWork, Size
from edgetam_model.masks import decode_rle

Entry = dict[str, Any]
JOB = "field"  # noted in every keyframe that was tracked here


@dataclass(frozen=True)
class OutOptions:
    """How shapes are written, as the server writes them."""

    regions: RegionOptions = field(default_factory=RegionOptions)
    keyframes: KeyframeOptions = field(default_factory=lambda: KeyframeOptions(tolerance=1.0))


def merged_result(work: FieldWork, project: Project, options: OutOptions | None = None) -> list[Any]:
    """The whole result of a task's annotation with what was done in the field.

    Regions keep their ids and their order; what is new comes after them. Relations to what was deleted go.

    Raises:
        InputError: the kit is damaged.
    """
    packed = TaskContent.of(work.task).result
    writer = _Writer(work.task, project, options or OutOptions(), packed)
    gone = set(work.given) - set(work.now)
    drawn = {one.id for one in work.now.values() if _rewritten(one, work)}
    result: list[Any] = []
    for entry in packed:
        name = entry.get("id") if isinstance(entry, Mapping) else None
        if name in gone or _leads_to(entry, gone):
            continue
        if name in drawn:
            result += writer.rewritten(work.now[str(name)], work, entry)
        else:
            result.append(entry)
    known = set(region_ids(packed))
    for one in work.now.values():
        if one.id not in known:
            result += writer.new(one)
    return list(json.loads(json.dumps(result, allow_nan=False)))  # as it comes back, to compare


def _rewritten(one: FieldObject, work: FieldWork) -> bool:
    given = work.given.get(one.id)
    return given is not None and (one.drawn or one.labels != given.labels)


def _leads_to(entry: Any, gone: set[str]) -> bool:
    """Whether it is a relation to or from what is gone."""
    if not isinstance(entry, Mapping) or entry.get("type") != "relation":
        return False
    return entry.get("from_id") in gone or entry.get("to_id") in gone


class _Writer:
    """Writes the objects of one task."""

    def __init__(self, task: FieldTask, project: Project, options: OutOptions, packed: Sequence[Any]) -> None:
        self._task = task
        self._project = project
        self._options = options
        self._beside = region_labels([entry for entry in packed if isinstance(entry, Mapping)])
        video = task.media.kind == "video"
        self._frames = frame_map(task, project) if video else None
        self._pictures = project.pictures(task)

    def new(self, one: FieldObject) -> list[Entry]:
        """The regions of an object that was found in the field; none where nothing of it is to be seen."""
        if self._frames is None:
            shown = self._pictures[min(one.rows, default=0)].object
            return self._painted(one, self._project.config.outputs_for(shown.name))
        setup = self._project.config.video
        if setup is None or not any(row.visible for row in one.rows.values()):
            return []
        value: Entry = {"framesCount": self._frames.count, "sequence": []}
        value["duration"] = self._frames.time_of(self._frames.count)
        if one.labels:
            value["labels"] = list(one.labels)
        ends = {"from_name": setup.rectangle.name, "to_name": setup.object.name}
        raw = {"id": one.id, **ends, "type": REGION_TYPE, "origin": "manual", "value": value}
        return [self._track(one, raw, self._frames)]

    def rewritten(self, one: FieldObject, work: FieldWork, entry: Entry) -> list[Entry]:
        """An entry of a region that was changed in the field: its shape anew, what else it holds as it is."""
        kind = str(entry.get("type", "")).lower()
        if kind == "labels":
            return [_labelled(entry, one.labels)]
        if kind == REGION_TYPE:
            same = one.labels == work.given[one.id].labels
            raw = entry if same else _labelled(entry, one.labels)
            found = one.drawn and any(not row.kept for row in one.rows.values())
            return [self._track(one, raw, self._frames) if found and self._frames else raw]
        if shape_class(kind) is None:
            return [entry]
        control = self._project.config.control(str(entry.get("from_name")))
        shapes = self._painted(one, (control,)) if one.drawn and control and control.kind else []
        if not shapes:  # relabelled alone, or nothing was found where it is
            return [_labelled(entry, one.labels)]
        anew = next(shape for shape in shapes if shape["type"] == control.type) if control else shapes[0]
        return [{**entry, **anew, "image_rotation": entry.get("image_rotation", 0)}]

    def _painted(self, one: FieldObject, outputs: tuple[Control, ...]) -> list[Entry]:
        frame = min(one.rows, default=0)  # an object of images is on one of them
        row = one.rows.get(frame)
        if row is None or row.mask is None or not row.visible:
            return []
        shown, media = self._pictures[frame], self._task.media
        canvas = Canvas(shown.object.name, shown.item, media.original(frame))
        drawn = DrawnObject((), one.labels, one.id, canvas, outputs)
        mask = _mask(row, media.size(frame))
        found = regions_from_mask(mask, drawn, self._project.config, self._options.regions)
        origin = {} if one.given else {"origin": "prediction"}  # as what is accepted in the editor
        return [{**region.model_dump(mode="json", exclude_none=True), **origin} for region in found]

    # Videos

    def _track(self, one: FieldObject, raw: Entry, frames: FrameMap) -> Entry:
        size = self._task.media.size()
        region = self._region(_with_prompts(raw, one, frames, size))
        plan = plan_of(region, frames, size)
        rows = {frame: row for frame, row in one.rows.items() if not row.kept}
        stretches = tuple(_stretches(plan, rows, frames))
        plan = replace(plan, stretches=stretches)
        found = {frame: _tracked(row) for frame, row in rows.items()}
        track = build_track(plan, found, frames, size, job=JOB, options=self._options.keyframes)
        track = replace(track, keyframes=tuple(_ended(k, one, frames) for k in track.keyframes))
        if plan.settled:  # pointed at, and not tracked
            sequence = [k.to_json(frames.time_of(k.frame)) for k in track.keyframes]
            return {**region.raw, "value": {**region.raw["value"], "sequence": sequence}}
        return region_json(plan, track, frames)

    def _region(self, raw: Entry) -> Any:
        found = self._project.regions([raw])
        if not found:
            raise InputError(f"task {self._task.id}", f"region {raw.get('id')} cannot be read")
        return found[0]


def _with_prompts(raw: Entry, one: FieldObject, frames: FrameMap, size: tuple[int, int]) -> Entry:
    """The region with a person's keyframe wherever somebody pointed at the object in the field."""
    sequence = {k.get("frame"): k for k in raw["value"].get("sequence", []) if isinstance(k, Mapping)}
    for frame, row in sorted(one.rows.items()):
        if row.prompted and not row.kept and row.visible and row.box is not None:
            number = number_of(frames, frame)
            x, y, width, height = _percent(row.box, size)
            sequence[number] = Keyframe(number, x, y, width, height).to_json(frames.time_of(number))
    return {**raw, "value": {**raw["value"], "sequence": list(sequence.values())}}


def number_of(frames: FrameMap, source: int) -> int:
    """Label Studio's number for a frame of the file; the next one's where it passes the frame over."""
    for frame in range(source, len(frames.table)):
        if numbers := frames.numbers_of(frame):
            return numbers[0]
    return frames.count


def _stretches(plan: RegionPlan, rows: Mapping[int, Row], frames: FrameMap) -> Iterator[Stretch]:
    """What was tracked in the field: from each person's keyframe back, as far as is left, and on."""
    anchors = sorted(k.frame for k in plan.keyframes if not k.tracked)
    reached = 0
    for place, anchor in enumerate(anchors):
        back = anchor
        while back - 1 > reached and frames.source_of(back - 1) in rows:
            back -= 1
        if back < anchor:
            yield Stretch(anchor, back, anchor)
        end = anchors[place + 1] - 1 if place + 1 < len(anchors) else frames.count
        reached = anchor
        while reached < end and frames.source_of(reached + 1) in rows:
            reached += 1
        if reached > anchor:
            yield Stretch(anchor, reached, anchor)


def _ended(keyframe: Keyframe, one: FieldObject, frames: FrameMap) -> Keyframe:
    """A person's keyframe, hidden after its frame where nothing is known of the next.

    Label Studio would go on showing the box. The mark says that it was us, so that tracking goes on from it.
    """
    after = keyframe.frame + 1
    if keyframe.tracked or not keyframe.enabled or after > frames.count:
        return keyframe
    if frames.source_of(keyframe.frame) not in one.prompts or frames.source_of(after) in one.rows:
        return keyframe
    mark = keyframe.mark if isinstance(keyframe.mark, PromptMark) else PromptMark()
    return replace(keyframe, enabled=False, mark=mark.model_copy(update={"hid": True}))


def _mask(row: Row, size: Size) -> MaskResult:
    """A mask of the journal as a result of the model, its logits as large as the image."""
    mask = decode_rle({"size": list(size), "counts": row.mask})
    return MaskResult(np.where(mask, np.float32(1), np.float32(-1)), size, row.score, 1.0)


def _tracked(row: Row) -> TrackedBox:
    return TrackedBox(row.box if row.visible else None, row.score, row.state)


def _percent(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, ...]:
    height, width = size
    x0, y0, x1, y1 = (
        round(100 * min(max(edge, 0), side) / side, DECIMALS)
        for edge, side in zip(box, (width, height, width, height), strict=True)
    )
    return x0, y0, round(x1 - x0, DECIMALS), round(y1 - y0, DECIMALS)


def _labelled(entry: Entry, labels: tuple[str, ...]) -> Entry:
    """An entry with other labels, where it holds any or is to."""
    kind = str(entry.get("type", "")).lower()
    key = "labels" if kind in ("labels", REGION_TYPE) else kind
    if not key.endswith("labels"):
        return entry
    value = {name: content for name, content in entry["value"].items() if name != key}
    return {**entry, "value": {**value, key: list(labels)} if labels else value}
