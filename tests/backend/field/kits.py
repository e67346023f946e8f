"""Kits for tests, made without a Label Studio: a still and a clip of discs, and what was drawn on them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.field.content import TaskContent, region_ids
from backend.field.kit import Kit
from backend.field.manifest import (
    NAME,
    Manifest,
    PackedFile,
    PackedMedia,
    PackedTask,
    Source,
)
from backend.field.packed_media import pack_image, pack_video
from edgetam_model import MediaLimits, OverlayWriter, load_model

_LABELS = '<Label value="Ball"/><Label value="Post"/>'
STILL_CONFIG = f"""<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image" smart="false">{_LABELS}</BrushLabels>
<RectangleLabels name="rect" toName="image" smart="true">{_LABELS}</RectangleLabels></View>"""
CLIP_CONFIG = f"""<View><Labels name="videoLabels" toName="video">{_LABELS}</Labels>
<Labels name="act" toName="video"><Label value="Track" hotkey="t"/></Labels>
<Video name="video" value="$video" frameRate="25"/><VideoRectangle name="box" toName="video"/></View>"""
MADE = "2026-01-02T03:04:05+00:00"
WIDTH, HEIGHT, SIDE = 96, 64, 20  # pixels of the clip, and of the square in it
Box = tuple[float, float, float, float]


def shipped() -> Path:
    """The weights that come with the package."""
    path: Path = load_model("default", "cpu").weights_info.path  # type: ignore[attr-defined]
    return path


def square(frame: int) -> Box:
    """Where the red square is: it goes right by two pixels a frame."""
    x = 10.0 + 2 * frame
    return x, 22.0, x + SIDE, 22.0 + SIDE


def picture(frame: int = 0) -> NDArray[np.uint8]:
    """uint8 (HEIGHT, WIDTH, 3): a red square on dull ground."""
    rgb = np.random.default_rng(5).integers(90, 110, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    x0, y0, x1, y1 = (int(edge) for edge in square(frame))
    rgb[y0:y1, x0:x1] = (220, 40, 30)
    return rgb


def clip(path: Path, frames: int = 6) -> Path:
    """A video of the square, 25 frames a second."""
    with OverlayWriter(path, WIDTH, HEIGHT, 25) as video:
        for frame in range(frames):
            video.write(picture(frame), frame / 25)
    return path


def rectangle(name: str, label: str = "Post") -> dict[str, Any]:
    """A person's rectangle in the lower right corner, as Label Studio stores it."""
    value = {"x": 75.0, "y": 75.0, "width": 20.0, "height": 20.0, "rotation": 0, "rectanglelabels": [label]}
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    ends = {"from_name": "rect", "to_name": "image", "type": "rectanglelabels", "origin": "manual"}
    return {"id": name, **ends, **size, "value": value}


def make_kit(
    root: Path,
    media: Path,
    weights: Path,
    *,
    result: Sequence[Mapping[str, Any]] | None = None,
    max_side: int | None = None,
    video: bool = False,
) -> Kit:
    """A kit with the one task 1; with a result it has the annotation 9."""
    (root / "tasks").mkdir(parents=True)
    (root / "config.xml").write_text(CLIP_CONFIG if video else STILL_CONFIG)
    shutil.copyfile(weights, root / "weights.safetensors")
    packer = pack_video if video else pack_image
    packed = packer(media, root, "media/task-1", max_side, MediaLimits())
    manifest = Manifest(
        made=MADE,
        source=Source(url="http://127.0.0.1:9/", project=3, title="discs"),
        config=PackedFile.of(root, "config.xml"),
        weights=PackedFile.of(root, "weights.safetensors"),
        weights_name="test",
        tasks=(_task(root, packed, list(result) if result is not None else None, video=video),),
    )
    (root / NAME).write_text(manifest.model_dump_json())
    return Kit.open(root)


def _task(root: Path, media: PackedMedia, result: list[Any] | None, *, video: bool) -> PackedTask:
    stored = () if result is None else ({"id": 9, "result": result, "updated_at": MADE},)
    key = "video" if video else "image"
    content = TaskContent(id=1, data={key: "/data/upload/3/x"}, annotations=stored)
    (root / "tasks/task-1.json").write_text(content.model_dump_json())
    return PackedTask(
        id=1,
        name="x",
        media=media,
        content=PackedFile.of(root, "tasks/task-1.json"),
        objects=len(region_ids(result or [])),
    )
