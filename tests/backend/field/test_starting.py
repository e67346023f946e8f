from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.brush_rle import encode_brush
from backend.field.kit import Kit
from backend.field.starting import Project, frame_map, shown_boxes
from backend.label_config import parse_label_config
from edgetam_model.field_objects import Row
from edgetam_model.masks import decode_rle
from tests.backend.field.kits import CLIP_CONFIG, HEIGHT, STILL_CONFIG, WIDTH, make_kit, rectangle
from tests.backend.video_json import COUNT, FRAMES, SIZE, keyframe, read, region, shown

KEYFRAMES = st.dictionaries(
    st.integers(1, COUNT), st.tuples(st.integers(0, 80), st.booleans()), min_size=1, max_size=6
)


def project_of(kit: Kit) -> Project:
    return Project.read(kit.project_text())


@given(KEYFRAMES)
def test_boxes_are_those_that_label_studio_shows(drawn: Mapping[int, tuple[int, bool]]) -> None:
    item = region(*(keyframe(frame, x, enabled=on) for frame, (x, on) in sorted(drawn.items())))
    boxes = dict(shown_boxes(read(item)[0], FRAMES, SIZE))
    height, width = SIZE
    for number in range(1, COUNT + 1):
        expected, box = shown(item, number), boxes.get(FRAMES.source_of(number))
        assert (expected is None) == (box is None)
        if expected is not None and box is not None:
            x, y, w, h = expected
            corners = (x * width, y * height, (x + w) * width, (y + h) * height)
            assert box == pytest.approx([corner / 100 for corner in corners])


def test_drawn_regions_become_objects_and_others_do_not(tmp_path: Path, still: Path, weights: Path) -> None:
    mask = decode_rle({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * 10, HEIGHT * 2, HEIGHT * (WIDTH - 12)]})
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    value = {"format": "rle", "rle": list(encode_brush(mask)), "brushlabels": ["Ball"]}
    ends = {"from_name": "brush", "to_name": "image", "type": "brushlabels"}
    brush = {"id": "b", **ends, **size, "value": value}
    ellipse = {"id": "e", "to_name": "image", "type": "ellipselabels", "value": {"x": 1}}
    damaged = {**brush, "id": "d", "value": {"rle": [1, 2, 3]}}
    click = {"id": "k", "to_name": "image", "type": "keypointlabels", "value": {"x": 1, "y": 1}}
    choice = {"type": "choices", "value": {"choices": ["x"]}}
    result: list[Any] = [rectangle("r"), ellipse, brush, damaged, click, choice]
    kit = make_kit(tmp_path / "kit", still, weights, result=result, max_side=64)
    found = project_of(kit).objects(kit.task(1))
    assert [(one.id, one.number, one.labels) for one in found] == [("r", 1, ("Post",)), ("b", 2, ("Ball",))]
    assert found[0].rows[0].box == pytest.approx((48, 32.25, 60.8, 40.85))  # 64 × 43 pixels of 96 × 64
    row = found[1].rows[0]
    assert row.mask is not None
    assert abs(int(decode_rle({"size": [43, 64], "counts": row.mask}).sum()) - 43 * 64 * 2 / 96) <= 43


def test_tracks_stand_on_the_frames_of_the_file(tmp_path: Path, clip: Path, weights: Path) -> None:
    item = region(keyframe(2, 10), keyframe(4, 30, enabled=False))
    kit = make_kit(
        tmp_path / "kit", clip, weights, result=[item, {**item, "id": "x", "value": 7}], video=True
    )
    (one,) = project_of(kit).objects(kit.task(1))
    assert sorted(one.rows) == [1, 2, 3]
    assert sorted(one.prompts) == [1, 3]
    assert all(isinstance(row, Row) and row.kept for row in one.rows.values())
    boxes = [row.box for row in one.rows.values()]
    assert [box[0] for box in boxes if box] == pytest.approx([9.6, 19.2, 28.8])
    assert frame_map(kit.task(1), project_of(kit)).rate == 25


@pytest.mark.parametrize("config", [STILL_CONFIG, CLIP_CONFIG])
def test_labels_are_classes_and_no_buttons(
    config: str, tmp_path: Path, still: Path, clip: Path, weights: Path
) -> None:
    video = config is CLIP_CONFIG
    kit = make_kit(tmp_path / "kit", clip if video else still, weights, video=video)
    project = Project.of(parse_label_config(config))
    assert project.labels(kit.task(1)) == ("Ball", "Post")
    assert project.objects(kit.task(1)) == []
