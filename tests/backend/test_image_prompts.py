from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.bitmask_png import encode_bitmask
from backend.brush_rle import encode_brush
from backend.image_prompts import Canvas, DrawnObject, read_context, read_prompts, read_task
from backend.label_config import parse_label_config
from edgetam_model import Prompt
from edgetam_model.errors import InputError, PromptError

# A busy machine is no bug: neither the time of one example nor of making it counts.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIZE = (200, 400)
CONFIG = parse_label_config("""
<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="A"/><Label value="B"/></BrushLabels>
  <PolygonLabels name="poly" toName="image" smart="false"><Label value="A"/><Label value="B"/></PolygonLabels>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="A"/><Label value="B"/></KeyPointLabels>
  <RectangleLabels name="rect" toName="image" smart="true"><Label value="A"/></RectangleLabels>
</View>
""")


def region(kind: str, value: dict[str, Any], name: str, label: str | None, **more: Any) -> dict[str, Any]:
    labels = {} if label is None else {kind: [label]}
    common = {"original_width": 400, "original_height": 200, "image_rotation": 0, "to_name": "image"}
    return {**common, "id": name, "type": kind, "from_name": "x", "value": {**value, **labels}, **more}


def click(x: float, y: float, name: str = "k", label: str | None = "A", **more: Any) -> dict[str, Any]:
    return region("keypointlabels", {"x": x, "y": y, "width": 0.5}, name, label, **more)


def box(x: float, y: float, w: float, h: float, name: str = "r", label: str | None = "A") -> dict[str, Any]:
    value = {"x": x, "y": y, "width": w, "height": h, "rotation": 0}
    return region("rectanglelabels", value, name, label, from_name="rect")


def context(*regions: Any) -> tuple[DrawnObject, ...]:
    return read_context({"result": list(regions)}, CONFIG)


def only(found: tuple[DrawnObject, ...]) -> Prompt:
    (one,) = found
    return one.prompt(SIZE)


def saved(*regions: Any, **more: Any) -> dict[str, Any]:
    return {"result": list(regions), **more}


def test_all_clicks_of_a_label_are_one_prompt() -> None:
    found = context(
        click(25, 50, "k1", is_positive=True),
        click(50, 50, "k2", is_positive=False),
        click(75, 50, "k3"),
        click(10, 10, "k4", label="B"),
    )
    first, second = found
    assert (first.labels, second.labels) == (("A",), ("B",))
    prompt = first.prompt(SIZE)
    assert prompt.points.tolist() == [[100, 100], [200, 100], [300, 100]]
    assert prompt.labels.tolist() == [1, 0, 1]  # what says nothing is positive
    assert [control.name for control in first.outputs] == ["brush", "poly"]


@pytest.mark.parametrize("mark", [None, True])
def test_a_click_without_a_mark_is_positive(mark: bool | None) -> None:
    assert only(context(click(1, 1, is_positive=mark))).labels.tolist() == [1]


def test_negative_clicks_alone_are_nothing_yet() -> None:
    assert context(click(1, 1, is_positive=False)) == ()


def test_a_box_and_clicks_of_its_label_are_one_object() -> None:
    prompt = only(context(click(25, 50, is_positive=False), box(10, 10, 50, 50)))
    assert prompt.box.tolist() == [40, 20, 240, 120]
    assert prompt.labels.tolist() == [0]


def test_several_boxes_are_several_objects() -> None:
    found = context(box(0, 0, 10, 10, "r1"), box(50, 50, 10, 10, "r2"), click(90, 90))
    assert [one.prompt(SIZE).box is not None for one in found] == [True, True, False]
    assert len({one.region_id for one in found}) == 3


def test_painted_regions_are_mask_prompts() -> None:
    drawn = np.zeros((200, 400), np.bool_)
    drawn[20:60, 40:120] = True
    corners = [[10, 10], [30, 10], [30, 30], [10, 30]]
    for kind, value in (
        ("brushlabels", {"format": "rle", "rle": encode_brush(drawn)}),
        ("bitmasklabels", {"imageDataURL": encode_bitmask(drawn)}),
        ("polygonlabels", {"points": corners, "closed": True}),
    ):
        np.testing.assert_array_equal(only(context(region(kind, value, "m", "A"))).mask, drawn)


def test_a_painted_region_without_a_pixel_is_refused() -> None:
    nothing = {"rle": encode_brush(np.zeros(SIZE, np.bool_))}
    line = {"points": [[1, 1], [9, 1], [5, 1]]}
    for kind, value in (("brushlabels", nothing), ("polygonlabels", line)):
        with pytest.raises(PromptError, match="painted pixel"):
            only(context(region(kind, value, "m", "A")))


def test_labels_of_unlabelled_tools_come_from_the_entry_beside() -> None:
    value = {"x": 5, "y": 5, "width": 1}
    found = context(
        region("keypoint", value, "k", None), region("labels", {**value, "labels": ["B"]}, "k", None)
    )
    assert [one.labels for one in found] == [("B",)]
    assert context(region("keypoint", value, "k", None))[0].labels == ()


def test_ids_are_the_same_for_the_same_prompts_only() -> None:
    def name(*regions: Any) -> str:
        return context(*regions)[0].region_id

    assert name(click(1, 1, "a"), click(2, 2, "b")) == name(click(1, 1, "a"), click(2, 2, "b"))
    assert name(click(1, 1, "a")) != name(click(1, 1, "a"), click(2, 2, "b"))
    without = {key: value for key, value in click(1, 1).items() if key != "id"}
    moved = {**without, "value": {**without["value"], "x": 2}}
    assert name(without) == name(without) != name(moved)


def test_regions_that_draw_nothing_on_an_image_are_passed_over() -> None:
    assert (
        context(
            {"type": "relation", "from_id": "a", "to_id": "b"},
            {"type": "choices", "value": {"choices": ["x"]}, "from_name": "c", "to_name": "image"},
            {**click(1, 1), "to_name": "elsewhere"},
        )
        == ()
    )


@pytest.mark.parametrize("nothing", [None, {}, {"result": None}, {"result": []}, {"event": "x"}])
def test_an_empty_context_is_nothing_to_do(nothing: Any) -> None:
    assert read_context(nothing, CONFIG) == ()
    assert read_prompts({"data": {}}, nothing, CONFIG) == ()


@pytest.mark.parametrize(
    ("given_context", "field"),
    [
        ([], "context"),
        ("click", "context"),
        ({"result": {}}, "context.result"),
        ({"result": [{}] * 10_001}, "context.result"),
        ({"result": [None]}, "context.result.0.type"),
        ({"result": [{"type": 3}]}, "context.result.0.type"),
        ({"result": [{"type": "keypoint"}]}, "context.result.0.value"),
        ({"result": [click(1, 1), {"type": "keypoint", "value": {"x": 1}}]}, "context.result.1.value.y"),
        ({"result": [{**click(1, 1), "original_width": -3}]}, "context.result.0.original_width"),
        ({"result": [{**click(1, 1), "is_positive": "perhaps"}]}, "context.result.0.is_positive"),
        (
            {"result": [region("polygonlabels", {"points": [[1, 1]]}, "p", "A")]},
            "context.result.0.value.points",
        ),
        ({"result": [region("brushlabels", {"format": "rle"}, "b", "A")]}, "context.result.0.value.rle"),
    ],
)
def test_the_field_at_fault_is_named(given_context: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        read_context(given_context, CONFIG)
    assert caught.value.field == field


@pytest.mark.parametrize("bad", [click(150, 1), box(10, 10, 0, 5), box(200, 10, 5, 5), click(1, -20)])
def test_prompts_that_show_nothing_of_the_image_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        only(context(bad))


def test_drafts_come_before_annotations_and_the_newest_first() -> None:
    task = {
        "drafts": [
            saved(click(1, 1, "old"), updated_at="2026-11-01T10:00:00Z"),
            saved(click(2, 2, "new"), updated_at="2026-11-02T10:00:00Z"),
            saved(updated_at="2026-11-03T10:00:00Z"),
        ],
        "annotations": [saved(click(3, 3, "done"), updated_at="2026-11-04T10:00:00Z")],
    }
    assert [one.region_id for one in read_task(task, CONFIG)] == ["new"]
    assert [one.region_id for one in read_prompts(task, None, CONFIG)] == ["new"]
    assert read_prompts(task, {"result": [click(9, 9)]}, CONFIG)[0].region_id not in ("new", "done")
    del task["drafts"]
    assert [one.region_id for one in read_task(task, CONFIG)] == ["done"]


def test_a_context_that_points_at_nothing_yet_does_not_bring_back_the_annotation() -> None:
    task = {"annotations": [saved(click(3, 3, "done"))]}
    assert read_prompts(task, {"result": [click(9, 9, is_positive=False)]}, CONFIG) == ()
    assert len(read_prompts(task, {"result": []}, CONFIG)) == 1


def test_each_saved_region_is_an_object_and_keeps_its_id_and_label() -> None:
    task = {
        "annotations": [
            saved(
                click(10, 10, "k1"),
                click(20, 20, "k2"),
                box(50, 50, 10, 10, "r1"),
                click(11, 11, "k3", is_positive=False),
                click(90, 90, "k4", label="B"),
            )
        ]
    }
    found = read_task(task, CONFIG)
    assert [(one.region_id, one.labels[0]) for one in found] == [
        ("k1", "A"),
        ("k2", "A"),
        ("r1", "A"),
        ("k4", "B"),
    ]
    marks = [one.prompt(SIZE).labels.tolist() for one in found]
    assert marks == [[1, 0], [1, 0], [0], [1]]  # a negative click belongs to every object of its label


def test_skipped_annotations_and_finished_masks_are_no_prompts() -> None:
    outline = region("polygonlabels", {"points": [[1, 1], [9, 1], [9, 9]]}, "p", "A")
    assert read_task({"annotations": [saved(click(1, 1), was_cancelled=True), saved(outline)]}, CONFIG) == ()


def test_what_is_an_output_itself_is_no_prompt_for_itself() -> None:
    boxes = parse_label_config(
        '<View><Image name="image" value="$i"/><RectangleLabels name="rect" toName="image" smart="false"/>'
        '<KeyPointLabels name="kp" toName="image" smart="true"/></View>'
    )
    both = parse_label_config(
        '<View><Image name="image" value="$i"/><RectangleLabels name="rect" toName="image" smart="false"/>'
        '<Brush name="b" toName="image" smart="false"/></View>'
    )
    task = {"annotations": [saved(box(1, 1, 5, 5))]}
    assert read_task(task, boxes) == ()
    assert [[c.name for c in one.outputs] for one in read_task(task, both)] == [["b"]]


def test_the_canvas_is_the_browsers_where_it_can_be_of_this_image() -> None:
    assert Canvas("i").size_for((200, 400)) == (200, 400)
    assert Canvas("i", size=(100, 200)).size_for((200, 400)) == (100, 200)
    assert Canvas("i", size=(101, 200)).size_for((200, 400)) == (101, 200)  # rounded by the server
    assert Canvas("i", size=(400, 200)).size_for((200, 400)) == (200, 400)  # turned by its EXIF note
    assert Canvas("i", size=(2**15, 2**16)).size_for((200, 400)) == (200, 400)  # 2³¹ pixels


def test_what_an_entry_says_of_its_image_is_kept() -> None:
    (one,) = context({**click(1, 1), "item_index": 2, "image_rotation": 90})
    assert one.canvas == Canvas("image", 2, (200, 400), 90)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["result", "value", "type", "x", "id", "drafts"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
percent = st.floats(0, 100)
kinds = st.sampled_from(
    ["keypointlabels", "rectanglelabels", "brushlabels", "bitmasklabels", "polygonlabels"]
)
SQUARE = np.pad(np.ones((40, 40), np.bool_), ((10, 150), (20, 340)))
PAINTED = {"rle": encode_brush(SQUARE), "imageDataURL": encode_bitmask(SQUARE)}


@st.composite
def right_regions(draw: st.DrawFn) -> dict[str, Any]:
    """A region as the editor sends it; its value holds what any kind may need."""
    kind, label = draw(kinds), draw(st.sampled_from(["A", "B", None]))
    value = {
        **{key: draw(percent) for key in ("x", "y")},
        **{key: draw(st.floats(1, 50)) for key in ("width", "height")},
        "rotation": draw(st.floats(0, 360)),
        "points": draw(st.lists(st.tuples(percent, percent).map(list), min_size=3, max_size=5)),
        **PAINTED,
    }
    marks = draw(st.sampled_from([{}, {"is_positive": True}, {"is_positive": False}]))
    return region(kind, value, draw(st.sampled_from("abc")), label, **marks)


@st.composite
def damaged(draw: st.DrawFn, made: dict[str, Any]) -> dict[str, Any]:
    """The same with one field anywhere in it replaced by something else, or left out."""
    key = draw(st.sampled_from(sorted(made)))
    if key == "value" and draw(st.booleans()):
        return {**made, key: draw(damaged(made[key]))}
    if draw(st.booleans()):
        return {**made, key: draw(json_values)}
    return {name: value for name, value in made.items() if name != key}


results = st.lists(right_regions() | right_regions().flatmap(damaged), min_size=1, max_size=3)


@unhurried
@given(st.lists(right_regions(), min_size=1, max_size=3))
def test_what_the_editor_sends_becomes_prompts(sent: list[dict[str, Any]]) -> None:
    positive = [one for one in sent if one["type"] != "keypointlabels" or one.get("is_positive") is not False]
    found = read_context({"result": sent}, CONFIG)
    assert bool(found) == bool(positive)
    assert len(found) <= len(sent)
    for one in found:
        with suppress(PromptError):  # a box may lie beyond the edge, a polygon may have no area
            assert one.prompt(SIZE).has_positive


@unhurried
@given(results, st.sampled_from(["context", "drafts", "annotations"]))
def test_damaged_requests_are_read_or_refused(sent: list[Any], place: str) -> None:
    task: Any = {place: [{"result": sent}]}
    with suppress(InputError):
        found = read_context({"result": sent}, CONFIG) if place == "context" else read_task(task, CONFIG)
        for one in found:
            assert one.prompt(SIZE).has_positive


@unhurried
@given(json_values, json_values)
def test_any_json_is_read_or_refused(task: Any, given_context: Any) -> None:
    with suppress(InputError):
        for one in read_prompts(task, given_context, CONFIG):
            assert one.prompt(SIZE).has_positive
