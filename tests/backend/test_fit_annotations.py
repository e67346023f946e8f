"""What a team drew in Label Studio comes out as the masks it shows."""

from __future__ import annotations

import copy
import json
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backend.fit_annotations import read_tasks
from backend.image_regions import RegionOptions
from backend.label_config import parse_label_config
from backend.label_studio_records import Task
from edgetam_model import InputError
from edgetam_model.masks import mask_box, mask_iou
from edgetam_model.training.annotations import BoxShape, MaskShape, PolygonShape
from tests.backend.fit_json import (
    CONFIG,
    SIZE,
    annotation,
    blobs,
    click,
    disc,
    drawn,
    only,
    polygon,
    rectangle,
    result_of,
    task,
)
from tests.backend.video_json import keyframe, region

unhurried = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
PARSED = parse_label_config(CONFIG)


def box_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = mask_box(mask) or (0, 0, 0, 0)
    filled = np.zeros_like(mask)
    filled[y0:y1, x0:x1] = True
    return filled


@unhurried
@given(blobs)
def test_every_kind_comes_back_as_the_mask_it_was_written_from(mask: NDArray[np.bool_]) -> None:
    truth = result_of(mask).mask
    for kind in ("Brush", "Bitmask", "Polygon"):
        each = only(read_tasks([task(annotation(drawn(kind, mask)))], PARSED))
        assert mask_iou(each.sightings[0].shape.mask(SIZE), truth) >= 0.99, kind
        assert each.labels == ("cat",)
    each = only(read_tasks([task(annotation(drawn("Rectangle", mask)))], PARSED))
    assert mask_iou(each.sightings[0].shape.mask(SIZE), box_mask(truth)) >= 0.99


@unhurried
@given(blobs)
def test_a_simplified_polygon_differs_at_its_outline_alone(mask: NDArray[np.bool_]) -> None:
    tolerance = RegionOptions().polygon_tolerance
    each = only(read_tasks([task(annotation(drawn("Polygon", mask, tolerance)))]))
    truth = result_of(mask).mask
    different = each.sightings[0].shape.mask(SIZE) != truth
    # A pixel at the outline is 1 from the nearest one on the other side.
    assert depth(truth)[different].max(initial=0) <= tolerance + 1


def depth(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How far each pixel is from the nearest one across the outline; the frame's edge is one."""
    framed = np.pad(mask, 1).astype(np.uint8)
    inside = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(1 - framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.where(mask, inside[1:-1, 1:-1], outside[1:-1, 1:-1]), np.float32)


@given(st.floats(5, 60), st.floats(5, 60), st.floats(5, 30), st.floats(5, 30), st.floats(-180, 180))
def test_turned_rectangles_turn_about_their_corner(
    x: float, y: float, width: float, height: float, turn: float
) -> None:
    item = rectangle(x, y, width, height)
    item["value"]["rotation"] = turn
    shape = only(read_tasks([task(annotation(item))], PARSED)).sightings[0].shape
    assert isinstance(shape, BoxShape)
    corner, along = shape.corners(SIZE)[:2]
    assert corner == pytest.approx((2 * x, 1.2 * y))
    turned = np.radians(turn)
    assert along == pytest.approx((2 * x + 2 * width * np.cos(turned), 1.2 * y + 2 * width * np.sin(turned)))


def test_a_task_says_where_its_image_is_and_what_it_comes_from() -> None:
    (made,) = read_tasks([task(annotation(polygon(), number=9), number=4)], PARSED).tasks
    assert (made.id, made.kind, made.media, made.group) == ("4", "image", "/data/upload/1/a.png", "4")
    assert made.annotations == ("9",)
    assert isinstance(made.objects[0].sightings[0].shape, PolygonShape)


def test_the_records_of_the_api_are_taken_as_they_are() -> None:
    record = Task.model_validate(task(annotation(polygon())))
    assert len(read_tasks([record.model_dump()]).tasks) == 1


def test_labels_come_from_their_own_control_too() -> None:
    bare = polygon()
    bare["type"] = "polygon"
    del bare["value"]["polygonlabels"]
    named = {"id": "p", "type": "labels", "to_name": "image", "value": {"labels": ["dog"]}}
    assert only(read_tasks([task(annotation(bare, named))])).labels == ("dog",)
    assert only(read_tasks([task(annotation(bare))])).labels == ()


def test_what_a_model_drew_and_nobody_changed_counts_less() -> None:
    origins = []
    for origin in ("manual", "prediction", "prediction-changed"):
        each = only(read_tasks([task(annotation(polygon(origin=origin)))]))
        origins.append(each.sightings[0].origin)
    assert origins == ["human", "model", "human"]


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ([annotation(polygon(), was_cancelled=True)], "skipped annotations"),
        ([annotation()], "empty annotations"),
        ([{"id": 1, "result": None}], "empty annotations"),
        (["text"], "damaged annotations"),
        ([annotation(*["text"] * 3)], "damaged annotations"),
        ([annotation({"type": "brushlabels", "to_name": "image", "value": {}})], "damaged regions"),
        ([annotation({"type": "ellipselabels", "value": {}})], "regions of type 'ellipselabels'"),
        ([annotation(click(50, 50))], "clicks that belong to no mask"),
    ],
)
def test_what_is_left_out_is_counted(annotations: list[Any], reason: str) -> None:
    found = read_tasks([task(*annotations)], PARSED)
    assert not found.tasks
    assert found.ignored[reason] == 1


def test_tasks_without_annotations_drafts_and_predictions_leave_nothing() -> None:
    bare = {"id": 1, "data": {"image": "a.png"}, "drafts": [{"result": [polygon()]}]}
    found = read_tasks([{**bare, "predictions": [{"result": [polygon()]}], "annotations": []}])
    assert (found.tasks, found.ignored) == ((), {})


def test_one_damaged_region_costs_itself_alone() -> None:
    broken = drawn("Brush", disc())
    broken["value"]["rle"] = broken["value"]["rle"][:20]
    found = read_tasks([task(annotation(broken, polygon()))])
    assert len(found.tasks[0].objects) == 1
    assert found.ignored == {"damaged regions": 1}


def test_the_ground_truth_counts_else_the_newest() -> None:
    old = annotation(polygon("a"), number=1, updated_at="2026-01-01T00:00:00Z")
    new = annotation(polygon("b"), number=2, updated_at="2026-02-01T00:00:00Z")
    found = read_tasks([task(new, old)])
    assert found.tasks[0].annotations == ("2",)
    assert found.ignored == {"other annotations of the same task": 1}
    assert read_tasks([task(new, {**old, "ground_truth": True})]).tasks[0].annotations == ("1",)


def test_what_was_deleted_since_leaves_nothing_behind() -> None:
    both = [task(annotation(polygon()), number=1), task(annotation(polygon()), number=2)]
    later = [both[0], {**both[1], "annotations": []}]
    assert [made.id for made in read_tasks(both).tasks] == ["1", "2"]
    assert [made.id for made in read_tasks(later).tasks] == ["1"]


def test_clicks_and_boxes_are_the_prompts_of_the_masks_they_belong_to() -> None:
    left, right = drawn("Brush", disc(50, 60)), drawn("Bitmask", disc(150, 60))
    around_left = rectangle(9, 24, 32, 52)
    far_box = rectangle(90, 90, 8, 8)
    result = [left, right, around_left, far_box, click(25, 50), click(24, 5, positive=False), click(2, 2)]
    found = read_tasks([task(annotation(*result))], PARSED)
    first, second, third = found.tasks[0].objects
    told = first.sightings[0].given
    assert told is not None
    assert list(told.points) == [(25, 50), (24, 5)]
    assert list(told.labels) == [1, 0]
    prompt = told.prompt(SIZE)
    assert prompt is not None
    assert prompt.points.tolist() == [[50, 60], [48, 6]]
    assert prompt.box is not None
    assert [seen.given for seen in second.sightings] == [None]
    assert isinstance(third.sightings[0].shape, BoxShape)
    assert found.ignored == {"clicks that belong to no mask": 1}


def test_a_click_without_a_mark_is_positive() -> None:
    each = only(read_tasks([task(annotation(drawn("Brush", disc()), click(45, 50, positive=None)))]))
    assert each.sightings[0].given is not None
    assert each.sightings[0].given.labels == (1,)


def test_several_images_of_a_task_are_parted_never_from_each_other() -> None:
    pages = [{**polygon("a"), "item_index": 0}, {**polygon("b"), "item_index": 1}]
    data = {"image": ["x/a.png", "x/b.png"]}
    config = parse_label_config(CONFIG.replace('value="$image"', 'valueList="$image"'))
    for chosen in (config, None):
        found = read_tasks([{"id": 5, "data": data, "annotations": [annotation(*pages)]}], chosen).tasks
        assert [(made.id, made.media, made.group) for made in found] == [
            ("5:image:0", "x/a.png", "5"),
            ("5:image:1", "x/b.png", "5"),
        ]


def test_without_a_config_the_address_tells_the_media() -> None:
    local = "/data/local-files/?d=photos/a.JPG"
    item = polygon(to_name="elsewhere")
    assert read_tasks([task(annotation(item), picture=local, note="hello")]).tasks[0].media == local
    found = read_tasks([task(annotation(item), one="a.png", two="b.png")])
    assert found.ignored == {"tasks whose media or frame rate cannot be told": 1}


def test_images_and_videos_of_a_task_become_two() -> None:
    data = {"image": "a.png", "clip": "b.mp4", "fps": 25}
    result = [polygon(), region(keyframe(1))]
    found = read_tasks([{"id": 1, "data": data, "annotations": [annotation(*result)]}], PARSED).tasks
    assert [(made.id, made.kind, made.media) for made in found] == [
        ("1:image:0", "image", "a.png"),
        ("1:video:0", "video", "b.mp4"),
    ]


@pytest.mark.parametrize("tasks", [None, {}, "x", [None], [{}], [{"id": None}], [{"id": True}]])
def test_no_tasks_are_refused(tasks: Any) -> None:
    with pytest.raises(InputError, match="tasks"):
        read_tasks(tasks)


def test_a_task_twice_is_refused() -> None:
    with pytest.raises(InputError, match="each task once"):
        read_tasks([task(), task()])


LEAVES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({})
)
GOOD = [
    task(annotation(drawn("Brush", disc()), drawn("Bitmask", disc()), polygon(), click(45, 50))),
    task(annotation(rectangle(5, 5, 20, 20), polygon()), number=2),
    {
        "id": 3,
        "data": {"clip": "b.mp4", "fps": 25},
        "annotations": [annotation(region(keyframe(1), keyframe(9, enabled=False), keyframe(30)))],
    },
]


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where anything lies in a document; of long lists the beginning."""
    inner = (
        value.items() if isinstance(value, dict) else enumerate(value[:9] if isinstance(value, list) else [])
    )
    return [at] * bool(at) + [path for key, each in inner for path in paths(each, (*at, key))]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(paths(GOOD)), LEAVES), min_size=1, max_size=4), st.booleans())
def test_nothing_in_a_document_ends_in_another_error(
    changes: list[tuple[tuple[Any, ...], Any]], configured: bool
) -> None:
    document: Any = copy.deepcopy(GOOD)
    for path, leaf in changes:
        holder = document
        try:
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = leaf
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change took the place away
    try:
        found = read_tasks(document, PARSED if configured else None)
    except InputError:
        return
    for made in found.tasks:
        assert made.objects
        assert made.digest
        for each in made.objects:
            for seen in each.sightings:
                assert seen.shape.mask(SIZE).shape == SIZE


def test_the_undamaged_documents_are_read_whole() -> None:
    found = read_tasks(json.loads(json.dumps(GOOD)), PARSED)
    assert found.ignored == {"clicks that belong to no mask": 1}  # it lies on two masks
    assert [len(made.objects) for made in found.tasks] == [3, 2, 1]
    assert isinstance(found.tasks[0].objects[0].sightings[0].shape, MaskShape)
