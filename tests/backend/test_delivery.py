"""Tracks as predictions of an imitated Label Studio: once, beside other classes, and when it is away."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from backend.delivery import Delivery
from backend.jobs import TryAgain
from backend.label_studio import LabelStudio
from backend.settings import Settings
from backend.video_work import VideoFacts, VideoWork
from edgetam_model import VideoInfo
from edgetam_model.timetable import TimeTable
from tests.backend.test_label_studio import LEGACY, Imitation, reply
from tests.backend.test_video_work import request
from tests.backend.video_json import COUNT, SIZE, keyframe, moving, region
from tests.backend.web_fixtures import Answer, local_fetcher, serving

FACTS = VideoFacts.of(VideoInfo(SIZE[1], SIZE[0], TimeTable.constant(COUNT, 25), "h264"), "v")


@pytest.fixture
def imitation() -> Iterator[Imitation]:
    with serving() as web:
        yield Imitation(web)


def delivery(imitation: Imitation) -> Delivery:
    site = LabelStudio(imitation.web.url, SecretStr(LEGACY), local_fetcher(imitation.web))
    return Delivery(site, Settings(keyframe_tolerance=0))


def deliver(
    to: Delivery, *items: dict[str, Any], retry: bool = True, reach: int = COUNT - 1, project: str = ""
) -> str:
    work = VideoWork.of(request(*items), FACTS)
    found = {item["id"]: moving(0, reach, 0.9) for item in items}
    return to.deliver(7, work, found, "v", "job", project=project, may_retry=retry)


def stored(imitation: Imitation) -> list[list[str]]:
    """The region ids of each prediction."""
    return [[item["id"] for item in one["result"]] for one in imitation.predictions.values()]


def test_a_track_is_stored_once_however_often_it_is_delivered(imitation: Imitation) -> None:
    to, item = delivery(imitation), region(keyframe(1))
    assert [deliver(to, item), deliver(to, item)] == ["prediction 1", "prediction 1"]
    [prediction] = imitation.predictions.values()
    assert (prediction["task"], prediction["model_version"], prediction["score"]) == (7, "v", 0.9)
    assert len(prediction["result"][0]["value"]["sequence"]) == COUNT


def test_another_class_joins_and_a_newer_track_replaces(imitation: Imitation) -> None:
    to = delivery(imitation)
    deliver(to, region(keyframe(1)))
    deliver(to, region(keyframe(1), name="b", labels=("Ball",)))
    assert stored(imitation) == [["b", "a"]]
    deliver(to, region(keyframe(1, 20)))
    assert stored(imitation) == [["a", "b"]]
    deliver(to, region(keyframe(1, 20)))
    assert stored(imitation) == [["a", "b"]]


def test_a_label_studio_that_is_away_is_tried_again_then_given_up(imitation: Imitation) -> None:
    to, item = delivery(imitation), region(keyframe(1))
    imitation.refusals["GET", "/api/predictions/"] = Answer(status=503)
    with pytest.raises(TryAgain, match="not delivered yet"):
        deliver(to, item)
    assert deliver(to, item, retry=False).startswith("not delivered: Label Studio answered 503")
    imitation.refusals["GET", "/api/predictions/"] = Answer(status=403)
    assert deliver(to, item).startswith("not delivered: ")  # no use in trying again


def test_another_project_s_task_gets_nothing(imitation: Imitation) -> None:
    """Who asks says which project it is, and may have the token of that project alone."""
    to, item = delivery(imitation), region(keyframe(1))
    assert deliver(to, item, project="2").startswith("not delivered: ")
    imitation.patterns.insert(0, ("/api/tasks/", lambda asked, match: reply({"total": 0, "tasks": []})))
    refused = deliver(to, item, project="1")
    assert refused == "not delivered: Label Studio has no task 7 in project 1"
    assert imitation.predictions == {}
    del imitation.patterns[0]
    assert deliver(to, item, project="1") == "prediction 1"


def test_a_label_studio_that_cannot_say_whose_a_task_is_is_asked_again(imitation: Imitation) -> None:
    imitation.refusals["GET", "/api/tasks/"] = Answer(status=503)
    with pytest.raises(TryAgain, match="not delivered yet"):
        deliver(delivery(imitation), region(keyframe(1)), project="1")


def test_without_label_studio_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    to = Delivery(None, Settings())
    with caplog.at_level(logging.WARNING):
        assert {deliver(to, region(keyframe(1))) for _ in range(3)} == {
            "not delivered: no Label Studio is configured"
        }
    assert len(caplog.records) == 1
