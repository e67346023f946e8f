"""Label Studio projects as the documentation shows them, and what their regions mean in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.backend.video_json import shown
from tests.platforms.clips import FPS, HEIGHT, WIDTH, Box, Clip
from tests.platforms.label_studio_server import LabelStudio
from tests.platforms.recorder import Recorder

VIDEO_CONFIG = """
<View>
  <Labels name="videoLabels" toName="video" allowEmpty="true">
    <Label value="Ball"/><Label value="Post"/>
  </Labels>
  <Labels name="act" toName="video"><Label value="Track" hotkey="t"/></Labels>
  <Video name="video" value="$video" frameRate="$fps"/>
  <VideoRectangle name="box" toName="video"/>
  <TextArea name="cmd" toName="video" perRegion="true" placeholder="track 100 | back 50 | both"/>
</View>"""

_LABELS = '<Label value="Ball"/><Label value="Post"/>'
BRUSH = f'<BrushLabels name="brush" toName="image" smart="false">{_LABELS}</BrushLabels>'
ALL_SHAPES = f"""{BRUSH}
  <BitmaskLabels name="bitmask" toName="image" smart="false">{_LABELS}</BitmaskLabels>
  <PolygonLabels name="polygon" toName="image" smart="false">{_LABELS}</PolygonLabels>
  <RectangleLabels name="rectangle" toName="image" smart="false">{_LABELS}</RectangleLabels>"""
_CLASSES = '<Label value="Post" hotkey="j"/><Label value="Ball" hotkey="k"/>'
CLICKS = f'<KeyPointLabels name="kp" toName="image" smart="true">{_CLASSES}</KeyPointLabels>'
BOXES = f'<RectangleLabels name="rect" toName="image" smart="true">{_CLASSES}</RectangleLabels>'


@dataclass(frozen=True)
class Place:
    """A project with one task."""

    project: int
    task: int


def video_project(label_studio: LabelStudio, backend: Recorder, clip: Clip) -> Place:
    """A project whose one task is this clip, with the backend attached."""
    return _project(label_studio, backend, VIDEO_CONFIG, clip.path, {"fps": FPS})


def image_config(prompts: str, outputs: str = BRUSH) -> str:
    """A config that is prompted by CLICKS or BOXES and takes BRUSH or ALL_SHAPES."""
    return f'<View>\n  <Image name="image" value="$image" zoom="true"/>\n  {outputs}\n  {prompts}\n</View>'


def image_project(label_studio: LabelStudio, backend: Recorder, clip: Clip, config: str) -> Place:
    """A project whose one task is this picture, with the backend attached."""
    return _project(label_studio, backend, config, clip.path, {})


def video_region(box: Box, frame: int, frames: int, label: str = "Ball") -> dict[str, Any]:
    """A person's region with one keyframe, as Label Studio stores it."""
    keyframe = {"frame": frame, "enabled": True, "rotation": 0, "time": frame / FPS, **_percents(box)}
    value = {"framesCount": frames, "duration": frames / FPS, "sequence": [keyframe], "labels": [label]}
    ends = {"from_name": "box", "to_name": "video", "type": "videorectangle", "origin": "manual"}
    return {"id": uuid4().hex[:10], **ends, "value": value}


def image_region(box: Box, label: str = "Ball") -> dict[str, Any]:
    """A person's rectangle, as Label Studio stores it."""
    ends = {"from_name": "rect", "to_name": "image", "type": "rectanglelabels", "origin": "manual"}
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {
        "id": uuid4().hex[:10],
        **ends,
        **size,
        "value": {**_percents(box), "rotation": 0, "rectanglelabels": [label]},
    }


def box_on(region: Mapping[str, Any], frame: int) -> Box | None:
    """The box in pixels that the editor shows on a frame (its own number); None where it shows none."""
    seen = shown(region, frame)
    if seen is None:
        return None
    x, y, width, height = seen
    right, below = (x + width) * WIDTH / 100, (y + height) * HEIGHT / 100
    return x * WIDTH / 100, y * HEIGHT / 100, right, below


def box_iou(a: Box | None, b: Box | None) -> float:
    """Intersection over union; 0 where one of them is missing."""
    if a is None or b is None:
        return 0.0
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def ious(region: Mapping[str, Any], clip: Clip, name: str, frames: Iterable[int]) -> list[float]:
    """How well a region fits an object on each of these frames, by Label Studio's numbers."""
    return [box_iou(box_on(region, frame), clip.boxes[frame - 1].get(name)) for frame in frames]


def _project(
    label_studio: LabelStudio, backend: Recorder, config: str, file: Path, data: Mapping[str, Any]
) -> Place:
    project = label_studio.create_project(file.stem, config)
    label_studio.attach(project, backend.url)
    return Place(project, label_studio.import_media(project, file, data))


def _percents(box: Box) -> dict[str, float]:
    x0, y0, x1, y1 = box
    return {
        "x": x0 / WIDTH * 100,
        "y": y0 / HEIGHT * 100,
        "width": (x1 - x0) / WIDTH * 100,
        "height": (y1 - y0) / HEIGHT * 100,
    }
