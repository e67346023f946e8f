"""What goes through Redis comes back as it was: facts of the video, finished frames, requests."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.frame_map import FrameMap
from backend.video_keyframes import KeyframeOptions, TrackedBox
from backend.video_work import TrackRequest, VideoFacts, VideoWork, frame_row, read_parts
from edgetam_model import InputError, MaskResult, VideoInfo
from edgetam_model.timetable import TimeTable
from tests.backend.video_json import COUNT, SIZE, command, keyframe, moving, region

FACTS = VideoFacts.of(VideoInfo(SIZE[1], SIZE[0], TimeTable.constant(COUNT, 25), "h264"), "v")
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def request(*items: Any, rate: str | None = "25", **data: Any) -> TrackRequest:
    return TrackRequest(
        task=7,
        media="clip.mp4",
        hostname=None,
        from_name="box",
        to_name="video",
        command="cmd",
        rate=rate,
        data=data,
        regions=list(items),
    )


@given(
    st.lists(st.integers(0, 2000), max_size=60),
    st.integers(-5000, 5000),
    st.integers(0, 3000),
    st.fractions(Fraction(1, 100_000), Fraction(1), max_denominator=100_000),
    st.fractions(-2, 2, max_denominator=90_000),
)
def test_the_facts_show_the_same_frames(
    steps: list[int], first: int, last: int, base: Fraction, origin: Fraction
) -> None:
    pts = np.cumsum([first, *steps])
    table = TimeTable(pts, int(pts[-1]) + last, base, origin)
    sent = VideoFacts.of(VideoInfo(64, 48, table, "h264", media_duration=1.5), "v1")
    facts = VideoFacts.read(json.loads(json.dumps(sent.to_json())))
    back = facts.info()
    assert (facts.size, facts.version, back.media_duration) == ((48, 64), "v1", 1.5)
    assert back.table.pts.tolist() == table.pts.tolist()
    assert (back.table.end, back.table.time_base, back.table.origin) == (table.end, base, origin)


def test_a_steady_video_is_told_in_a_few_bytes() -> None:
    table = TimeTable.constant(1_000_000, 30)
    assert len(json.dumps(VideoFacts.of(VideoInfo(64, 48, table, "h264"), "v").to_json())) < 300


def test_finished_frames_come_back_and_the_later_result_counts() -> None:
    logits = np.full((8, 8), -4, np.float32)
    logits[2:4, 2:6] = 4
    result = MaskResult(logits, (80, 80), iou=0.5, object_score=0.0)
    gone = MaskResult(logits, (80, 80), iou=2.0, object_score=-900.0, state="absent")
    row = frame_row(3, result)
    assert isinstance(row, list)
    parts = [
        {"video": FACTS.to_json()},
        {"frames": {"a": [[3, None, 0.1, "lost"], frame_row(4, gone)]}},
        {"frames": {"a": [row]}},
    ]
    facts, found = read_parts(json.loads(json.dumps(parts)))
    assert facts == FACTS
    assert found["a"] == {
        3: TrackedBox((float(result.box[0]), *map(float, result.box[1:])), 0.25),  # type: ignore[index,arg-type]
        4: TrackedBox(None, 0.0, "absent"),
    }


@pytest.mark.parametrize("part", [5, {"other": 1}, {"frames": {"a": [[1, None, 0.5, "odd"]]}}])
def test_parts_of_another_version_are_refused(part: Any) -> None:
    with pytest.raises(InputError):
        read_parts([part])


def test_the_key_is_of_the_boxes_and_the_commands_not_of_what_is_done() -> None:
    def key(*items: Any, weights: str = "w", **more: Any) -> str:
        asked = request(*items, **more)
        return asked.key(asked.sketch(), weights)

    item = region(keyframe(1))
    base = VideoWork.of(request(item), FACTS)
    half = base.prediction({"a": moving(0, 99)}, KeyframeOptions(), "j", "v")["result"]
    assert key(item) == key(*half) == key(item, region(keyframe(1), name="z", labels=()))
    others = [key(region(keyframe(1, 11))), key(item, command("back")), key(item, weights="other")]
    others += [key(item, rate="$fps", fps=30), key(item, rate="$fps", fps=25)]
    others += [key(item, region(keyframe(1), name="b"))]
    assert len({key(item), *others}) == 7


def test_a_quality_is_typed_for_all_regions() -> None:
    item, other = region(keyframe(1)), region(keyframe(1), name="b")
    assert request(item).quality() is None
    fast = request(item, command("track fast"))
    assert fast.quality() == "fast"
    plain = request(item, command("track"))
    assert fast.key(fast.sketch(), "w") != plain.key(plain.sketch(), "w")
    both = (item, command("track fast"), other)
    assert request(*both, command("stop", name="b")).quality() == "fast"
    with pytest.raises(InputError, match="cmd: expected the same quality beside every region"):
        request(*both, command("back 5", name="b")).sketch()


def test_work_lacks_what_nobody_tracked() -> None:
    work = VideoWork.of(request(region(keyframe(1))), FACTS)
    assert work.lacks({})
    assert work.lacks({"a": moving(0, COUNT - 2)})
    assert not work.lacks({"a": moving(0, COUNT - 1)})
    assert isinstance(work.frames, FrameMap)


@given(st.lists(JUNK, max_size=3), JUNK, st.sampled_from([None, "$fps", "25", "x", ""]))
def test_whatever_comes_is_read_or_refused(items: list[Any], value: Any, rate: str | None) -> None:
    junk = [{"id": "a", "type": "videorectangle", "value": value}, {"type": "textarea", "value": value}]
    junk += [{"id": "b", "type": "videorectangle", "value": {"sequence": items, "labels": ["x"]}}]
    for regions in (items, [junk[0], junk[1]], [junk[2]]):
        asked = request(*regions, rate=rate, fps=value)
        try:
            plans = asked.sketch()
            key = asked.key(plans, "w")
        except InputError:
            continue
        assert len(key) == 32
