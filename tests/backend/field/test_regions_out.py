from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.field.events import Deleted, Event, Found, Pointed, Relabelled, Tracked
from backend.field.journal import Journal
from backend.field.kit import Kit
from backend.field.regions_out import OutOptions, merged_result
from backend.field.starting import Project
from backend.field.work import Work
from backend.video_keyframes import KeyframeOptions, TrackedBox
from edgetam_model.field_objects import Row, Spec
from edgetam_model.field_places import FieldWork
from tests.backend.field.kits import HEIGHT, WIDTH, clip, make_kit, rectangle
from tests.backend.video_json import keyframe, region, shown, tracked

FRAMES = 30
EVERY = OutOptions(keyframes=KeyframeOptions(tolerance=0.0))
Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Kit:
    folder = tmp_path_factory.mktemp("regions")
    return make_kit(folder / "kit", clip(folder / "clip.mp4", FRAMES), weights, video=True)


def with_regions(kit: Kit, folder: Path, result: list[Any]) -> Kit:
    """The same kit with an annotation."""
    media, weights = kit.root / "media/task-1.video", kit.root / "weights.safetensors"
    return make_kit(folder / "kit", media, weights, result=result, video=True)


def merged(kit: Kit, events: Sequence[Event], options: OutOptions = EVERY) -> list[Any]:
    task, project = kit.task(1), Project.read(kit.project_text())
    with TemporaryDirectory() as folder:
        work = Work(Journal(Path(folder) / "journal.jsonl"), project.objects(task))
        for event in events:
            work.add(event)
        done = FieldWork(task, work.given.objects, work.now.objects)
        return merged_result(done, project, options)


def place(frame: int, jump: float = 0.0) -> Box:
    x = 3.0 + 2 * frame + jump
    return x, 10.0, x + 20, 30.0


def box_at(item: dict[str, Any], frame: int) -> Box | None:
    seen = shown(item, frame + 1)
    if seen is None:
        return None
    x, y, w, h = seen
    return x * WIDTH / 100, y * HEIGHT / 100, (x + w) * WIDTH / 100, (y + h) * HEIGHT / 100


def point(name: str, frame: int, box: Box, labels: tuple[str, ...] = ()) -> Pointed:
    row = Row(box=box, prompted=True)
    return Pointed(object=name, labels=labels, frame=frame, spec=Spec(box=box), row=row)


@given(
    prompts=st.sets(st.integers(0, FRAMES - 1), min_size=1, max_size=4),
    ends=st.tuples(st.integers(0, FRAMES - 1), st.integers(0, FRAMES - 1)),
    hidden=st.sets(st.integers(0, FRAMES - 1), max_size=8),
    tolerance=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_label_studio_shows_what_was_tracked(
    kit: Kit, prompts: set[int], ends: tuple[int, int], hidden: set[int], tolerance: float
) -> None:
    first, last = min(*ends, *prompts), max(*ends, *prompts)
    rows = {
        frame: Row(score=0.1, state="absent") if frame in hidden else Row(box=place(frame), score=0.9)
        for frame in range(first, last + 1)
        if frame not in prompts
    }
    events: list[Event] = [point("n", frame, place(frame), ("Ball",)) for frame in sorted(prompts)]
    events += [Tracked(), Found(rows={"n": tuple(rows.items())})]
    (item,) = merged(kit, events, OutOptions(keyframes=KeyframeOptions(tolerance=tolerance)))
    numbers = [k["frame"] for k in item["value"]["sequence"]]
    assert numbers == sorted(set(numbers))
    assert (item["id"], item["value"]["labels"], item["value"]["framesCount"]) == ("n", ["Ball"], FRAMES)
    for frame in range(FRAMES):
        row, seen = rows.get(frame), box_at(item, frame)
        if frame in prompts or (row is not None and row.visible):
            assert seen == pytest.approx(place(frame), abs=tolerance + 0.01)
        else:  # not there, or nothing is known of it
            assert seen is None


def test_a_track_of_the_server_is_corrected_and_the_rest_of_it_stays(kit: Kit, tmp_path: Path) -> None:
    """A person's keyframe on 1, tracked to 20 by the backend; in the field a box on 11, tracked to 14."""
    found = {frame: TrackedBox((10 + frame, 20, 30 + frame, 60), 0.8) for frame in range(20)}
    stored = tracked(region(keyframe(1, 10, width=20, height=20), name="s"), found, "track 19")
    assert len(stored["value"]["sequence"]) == 20
    stored["value"] |= {"framesCount": FRAMES, "duration": FRAMES / 25}
    own = with_regions(kit, tmp_path, [stored])
    assert merged(own, []) == [json.loads(json.dumps(stored))]
    rows = tuple((frame, Row(box=place(frame, 9))) for frame in range(8, 14) if frame != 10)
    events: list[Event] = [point("s", 10, place(10, 9)), Found(rows={"s": rows})]
    (item,) = merged(own, events)
    for frame in range(8, 14):
        assert box_at(item, frame) == pytest.approx(place(frame, 9), abs=0.01)
    before = item["value"]["sequence"][:8]
    assert [k["frame"] for k in before] == list(range(1, 9))
    assert before[1:] == stored["value"]["sequence"][1:8]  # the first one's mark tells of less
    assert box_at(item, 15) is None  # what followed from the box before the correction is stale
    assert (item["id"], item["origin"], item["value"]["labels"]) == ("s", "manual", ["Player"])


def test_regions_that_nobody_touched_are_the_same_to_the_byte(kit: Kit, tmp_path: Path) -> None:
    odd = {"id": "x", "type": "unknown", "value": {"a": [1, 2.5, None]}}
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    text = {
        "id": "a",
        "type": "textarea",
        "from_name": "cmd",
        "to_name": "video",
        "value": {"text": ["back 5"]},
    }
    result = [region(keyframe(3), name="a"), text, odd, relation, region(keyframe(1), name="b")]
    own = with_regions(kit, tmp_path, result)
    assert merged(own, []) == result
    assert merged(own, [Deleted(object="b")]) == result[:3]
    other = merged(own, [Relabelled(object="b", labels=("Ball",))])
    assert other[:4] == result[:4]
    assert other[4]["value"] == {**result[4]["value"], "labels": ["Ball"]}


def test_labels_beside_unlabelled_shapes_change_there(tmp_path: Path, still: Path, weights: Path) -> None:
    shape = rectangle("r")
    value = {key: part for key, part in shape["value"].items() if key != "rectanglelabels"}
    bare = {**shape, "type": "rectangle", "value": value}
    beside = {
        "id": "r",
        "type": "labels",
        "from_name": "l",
        "to_name": "image",
        "value": {**value, "labels": ["Post"]},
    }
    kit = make_kit(tmp_path / "kit", still, weights, result=[bare, beside])
    found = merged(kit, [Relabelled(object="r", labels=("Ball",))])
    assert found[0] == bare
    assert found[1]["value"] == {**value, "labels": ["Ball"]}


def test_what_is_nowhere_to_be_seen_is_no_region(kit: Kit) -> None:
    row = Row(score=0.1, state="absent", prompted=True)
    event = Pointed(object="n", labels=("Ball",), frame=0, spec=Spec(points=((1, 1, 1),)), row=row)
    assert merged(kit, [event]) == []
