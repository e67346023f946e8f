"""Reading requests: regions, keyframes, commands, and whatever else may come."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.keyframe import Keyframe, PromptMark, TrackedMark
from backend.video_plan import plan_request
from backend.video_prompts import read_regions, result_of
from edgetam_model import InputError
from tests.backend.video_json import CONTROL, FRAMES, SIZE, command, keyframe, read, region

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("frame", "x", "y", "width", "height", "rotation", "enabled", "time", "edgetam", "more")


@st.composite
def damaged_regions(draw: st.DrawFn) -> Any:
    """A region whose parts may each be anything."""
    drawn = keyframe(draw(st.integers(-5, 400)), draw(st.floats(-50, 150)))
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=2)):
        drawn[name] = draw(JSON)
    item = region(drawn, keyframe(draw(st.integers(1, 9))))
    if draw(st.booleans()):
        item["value"][draw(st.sampled_from(("sequence", "labels", "framesCount", "duration")))] = draw(JSON)
    if draw(st.booleans()):
        item[draw(st.sampled_from(("id", "value", "from_name", "type", "to_name")))] = draw(JSON)
    return item


@given(st.lists(damaged_regions() | JSON | st.builds(command, st.text(max_size=12)), max_size=4) | JSON)
def test_any_json_is_read_or_refused_by_name(items: Any) -> None:
    try:
        regions = read_regions(items, CONTROL)
        plans = plan_request(regions, FRAMES, SIZE)
    except InputError as error:
        assert error.field.startswith(("result[", "cmd"))  # noqa: PT017 - either outcome is right
        return
    assert len(plans) == len(regions)
    for made in plans:
        frames = [k.frame for k in made.region.keyframes]
        assert frames == sorted(set(frames))
        assert all(1 <= n <= FRAMES.count for s in made.stretches for n in (s.anchor, s.stop, s.done))


@given(JSON, JSON, JSON, JSON)
def test_any_task_and_context_hold_a_list_of_items(
    context: Any, result: Any, drafts: Any, entries: Any
) -> None:
    task = {"drafts": drafts, "annotations": [{"result": result}, entries]}
    assert isinstance(result_of(task, context), list)
    assert isinstance(result_of(task, {"result": context}), list)


def test_a_region_is_read() -> None:
    (found,) = read(region(keyframe(7, 30), keyframe(2, 10)), command("back 50"), {"type": "choices"})
    assert (found.id, found.from_name, found.to_name, found.labels) == ("a", "box", "video", ("Player",))
    assert [(k.frame, k.x, k.enabled, k.tracked) for k in found.keyframes] == [
        (2, 10, True, False),
        (7, 30, True, False),
    ]
    assert (found.frames_count, found.duration, found.command) == (300, 12.0, "back 50")
    assert found.command_raw == command("back 50")


def test_names_come_from_the_config_where_the_region_has_none() -> None:
    item = region(keyframe(1))
    del item["from_name"], item["to_name"]
    (found,) = read(item)
    assert (found.from_name, found.to_name) == ("box", "video")


@pytest.mark.parametrize(
    ("sent", "classes"), [(["Track"], []), (["Track", "Ball"], ["Ball"]), (["Ball", "Track"], ["Ball"])]
)
def test_a_button_is_no_class_and_does_not_go_back_as_one(sent: list[str], classes: list[str]) -> None:
    item = region(keyframe(1), labels=sent)
    (found,) = read_regions([item], replace(CONTROL, buttons=("Track",)))
    assert found.labels == tuple(classes)
    assert found.pressed
    assert found.raw["value"].get("labels", []) == classes
    assert {key: value for key, value in found.raw.items() if key != "value"} == {
        key: value for key, value in item.items() if key != "value"
    }
    assert item["value"]["labels"] == sent, "what came is left as it is"


def test_a_class_of_that_name_stays_where_the_config_has_no_button() -> None:
    (found,) = read(region(keyframe(1), labels=("Track",)))
    assert (found.labels, found.pressed) == (("Track",), False)


@pytest.mark.parametrize(("labels", "followed"), [(("Track",), True), ((), False)])
def test_a_box_without_a_class_is_tracked_where_the_button_was_pressed(
    labels: tuple[str, ...], followed: bool
) -> None:
    item = region(keyframe(1), labels=labels)
    (made,) = plan_request(read_regions([item], replace(CONTROL, buttons=("Track",))), FRAMES, SIZE)
    assert bool(made.stretches) == followed


def test_the_last_text_typed_in_the_named_box_is_the_command() -> None:
    several = command("x")
    several["value"]["text"] = ["track 5", "back 7", "  "]
    other = {**command("stop"), "from_name": "notes"}
    assert read(region(keyframe(1)), several, other)[0].command == "back 7"
    assert read(region(keyframe(1)), other)[0].command is None
    assert read(region(keyframe(1)), command("back 7", "b"))[0].command is None
    assert read(region(keyframe(1)), {**command(""), "value": {"text": "both"}})[0].command == "both"


def test_keyframes_are_sorted_and_each_frame_is_there_once() -> None:
    ours = Keyframe(5, 1, 2, 3, 4, mark=TrackedMark(score=0.5, job="j", source=1, anchor="s")).to_json(0.2)
    (found,) = read(region(keyframe(9), ours, keyframe(5, 50), keyframe(5, 60), ours, keyframe(1)))
    assert [(k.frame, k.x) for k in found.keyframes] == [(1, 10), (5, 60), (9, 10)]


def test_missing_rotation_and_enabled_have_label_studios_meaning() -> None:
    bare = {"frame": 3, "x": 1, "y": 2, "width": 3, "height": 4}
    (found,) = read(region(bare, {**bare, "frame": 4, "rotation": None, "enabled": None}))
    assert [(k.rotation, k.enabled) for k in found.keyframes] == [(0, True), (0, True)]


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("x", "left", "result[0].value.sequence[1].x"),
        ("frame", None, "result[0].value.sequence[1].frame"),
        ("width", float("nan"), "result[0].value.sequence[1].width"),
        ("y", 1e300, "result[0].value.sequence[1].y"),
    ],
)
def test_a_malformed_keyframe_is_named(field: str, value: object, path: str) -> None:
    with pytest.raises(InputError) as caught:
        read(region(keyframe(1), {**keyframe(2), field: value}))
    assert caught.value.field == path


def test_malformed_regions_are_named() -> None:
    for damage, path in (({"id": 5}, "result[1].id"), ({"value": None}, "result[1].value")):
        with pytest.raises(InputError) as caught:
            read(command(""), {**region(keyframe(1)), **damage})
        assert caught.value.field == path
    with pytest.raises(InputError) as caught:
        read(region({}) | {"value": {"sequence": 7}})
    assert caught.value.field == "result[0].value.sequence"


def test_where_regions_are_looked_for() -> None:
    here, drafted, old, skipped = (region(keyframe(1), name=name) for name in "abcd")
    task: dict[str, Any] = {
        "drafts": [{"result": [drafted]}, {"result": [{"type": "choices"}]}],
        "annotations": [{"result": [old]}, {"result": [skipped], "was_cancelled": True}],
    }
    assert result_of(task, {"result": [here]}) == [here]
    assert result_of(task, {"result": []}) == [drafted]
    assert result_of({**task, "drafts": []}) == [old]
    assert result_of({}) == []


NUMBERS = st.floats(-1000, 1000)


@given(st.integers(1, 10**6), NUMBERS, NUMBERS, st.floats(-360, 360), st.booleans(), st.floats(0, 1))
def test_a_keyframe_that_comes_back_as_it_was_is_ours(
    frame: int, x: float, width: float, rotation: float, enabled: bool, score: float
) -> None:
    mark = TrackedMark(score=score, job="j", source=1, anchor="s")
    ours = Keyframe(frame, x, -x, width, 7, rotation, enabled, mark, extra={"note": [1]})
    again = Keyframe.from_json(json.loads(json.dumps(ours.to_json(1.5))))
    assert again.tracked
    assert again.to_json(1.5) == ours.to_json(1.5)


@pytest.mark.parametrize(
    ("change", "revised"),
    [
        ({"x": 10.01}, True),
        ({"height": 5}, True),
        ({"rotation": 1}, True),
        ({"enabled": False}, True),
        ({"frame": 6}, False),  # Label Studio copies the next keyframe's keys into one inserted before it
    ],
)
def test_whatever_a_person_changes_makes_the_keyframe_theirs(change: dict[str, Any], revised: bool) -> None:
    for mark in (TrackedMark(score=1, job="j", source=1, anchor="s"), PromptMark(hid=False)):
        ours = Keyframe(5, 10, 20, 30, 40, mark=mark).to_json(0.2)
        theirs = Keyframe.from_json({**ours, **change})
        assert theirs.mark is None
        assert theirs.revised == revised
        assert "edgetam" not in theirs.to_json(0.2)
    assert not Keyframe.from_json(keyframe(5)).revised


@pytest.mark.parametrize(
    ("rotation", "box"),
    [
        (0, (40, 40, 80, 100)),
        (90, (0, 40, 40, 80)),  # 60 px high, turned clockwise about its top-left: lies to the left of it
        (-90, (40, 0, 100, 40)),
        (180, (0, 0, 40, 40)),
        (45, (0, 40, 40 + 40 * 0.5**0.5, 40 + 100 * 0.5**0.5)),
    ],
)
def test_a_rotated_rectangle_gives_the_box_around_it(rotation: float, box: tuple[float, ...]) -> None:
    drawn = Keyframe(1, 10, 20, 10, 30, rotation)  # 40 × 60 px at (40, 40) of 400 × 200
    assert drawn.pixels((200, 400)) == pytest.approx(box)


@pytest.mark.parametrize(
    "box", [(10, 10, 0, 5), (10, 10, 5, -1), (100, 0, 5, 5), (-10, 0, 5, 5), (0, 100, 5, 5)]
)
def test_nothing_in_the_frame_is_no_prompt(box: tuple[float, float, float, float]) -> None:
    assert Keyframe(1, *box).pixels((200, 400)) is None
