"""Presses of the button against a real queue and real tracking of the demo clip, with an untrained model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.embedded_redis import EmbeddedRedis
from backend.jobs import JobStatus
from backend.queue import JobQueue
from backend.tracking import track_job
from backend.video_requests import VideoRequests
from edgetam_model import InputError
from edgetam_model.demo_clip import BALL, LADYBIRD, DemoClip
from tests.backend.queue_fixtures import frames_done, new_queue, until
from tests.backend.tracking_fixtures import (
    FRAMES,
    both,
    config,
    drawn,
    prepare,
    region,
    settings,
    slowly,
    task,
    tracking_process,
    work,
)
from tests.backend.video_json import command, shown

STEP = 0.1  # seconds that a slow worker takes for a frame


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def clip(folder: Path) -> DemoClip:
    return prepare(folder)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis.url


@pytest.fixture
def queue(url: str) -> JobQueue:
    return new_queue(url)


def jobs(queue: JobQueue) -> list[JobStatus]:
    return queue.recent()


def regions(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What comes back, as Label Studio would send it again; checks what holds of every answer."""
    [prediction] = answer["results"]
    assert 0 <= prediction["score"] <= 1
    result = json.loads(json.dumps(prediction["result"], allow_nan=False))
    for item in result:
        numbers = [k["frame"] for k in item["value"].get("sequence", [])]
        assert numbers == sorted(set(numbers))
        assert all(1 <= number <= FRAMES for number in numbers)
    return {item["id"]: item for item in result if item["type"] == "videorectangle"}


def press(queue: JobQueue, folder: Path, context: Any, seconds: float = 0.0, **more: Any) -> dict[str, Any]:
    asked = {"interactive": True, **more}
    return VideoRequests(settings(folder, answer_seconds=seconds), queue).answer(
        asked.pop("task", task()), context, config(), hostname=None, **asked
    )


def frames_of(item: dict[str, Any]) -> list[int]:
    return [k["frame"] for k in item["value"]["sequence"]]


def test_two_objects_in_one_press_and_the_second_press_returns_them(
    queue: JobQueue, folder: Path, clip: DemoClip
) -> None:
    sent = both(clip)
    first = regions(press(queue, folder, sent))
    assert [first["a"], first["b"]] == sent["result"]  # nobody works yet: as they came
    work(queue, track_job(settings(folder)))
    started = time.monotonic()
    second = press(queue, folder, sent, seconds=30)
    assert time.monotonic() - started < 5
    assert len(jobs(queue)) == 1
    found = regions(second)
    assert {name: frames_of(item) for name, item in found.items()} == {
        name: list(range(1, FRAMES + 1)) for name in "ab"
    }
    assert all(item["value"]["labels"] == ["Player"] for item in found.values())
    assert second["results"][0]["model_version"].startswith("edgetam-")
    assert second["results"][0]["score"] == min(item["score"] for item in found.values())
    result = queue.result(jobs(queue)[0].id)
    assert isinstance(result, dict)
    assert (result["frames"], result["total"], result["complete"]) == (FRAMES, FRAMES, True)
    third = regions(press(queue, folder, {"result": list(found.values())}))
    assert third == found  # settled: as they came
    assert len(jobs(queue)) == 1


def test_ten_presses_at_once_are_one_job(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    requests = VideoRequests(settings(folder), queue)
    with ThreadPoolExecutor(10) as pool:
        done = [pool.submit(requests.answer, task(), both(clip), config()) for _ in range(10)]
        assert all(regions(one.result()) for one in done)
    assert len(jobs(queue)) == 1


def test_a_corrected_box_supersedes_and_the_rest_follows_it(
    queue: JobQueue, folder: Path, clip: DemoClip
) -> None:
    press(queue, folder, both(clip))
    work(queue, track_job(settings(folder)))
    tracked = regions(press(queue, folder, both(clip)))
    corrected = json.loads(json.dumps(tracked["a"]))
    at = frames_of(corrected).index(30)
    corrected["value"]["sequence"][at] |= {"x": 40.0, "y": 30.0, "width": 20.0, "height": 30.0}
    context = {"result": [corrected, tracked["b"]]}
    press(queue, folder, context)
    # A second correction before anybody began: only the newest is wanted.
    corrected["value"]["sequence"][at]["x"] = 42.0
    press(queue, folder, context)
    newest, older, first = jobs(queue)
    assert (newest.state, older.state, first.state) == ("queued", "cancelled", "done")
    assert "newer" in older.error
    work(queue, track_job(settings(folder)))
    again = regions(press(queue, folder, context))
    assert len(jobs(queue)) == 3
    assert again["b"] == tracked["b"]
    before, after = tracked["a"]["value"]["sequence"], again["a"]["value"]["sequence"]
    assert before[1:29] == after[1:29]  # between the two boxes nothing was in doubt
    assert (after[29]["x"], after[29]["edgetam"]["onward"]["reach"]) == (42.0, FRAMES)
    assert {k["edgetam"]["source"] for k in after[30:]} == {30}
    assert frames_of(again["a"]) == list(range(1, FRAMES + 1))


def test_more_objects_of_the_class_end_the_older_job(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    one, two = both(clip)["result"]
    press(queue, folder, {"result": [one]})
    other = {**two, "value": {**two["value"], "labels": ["Ball"]}}
    press(queue, folder, {"result": [other]})
    assert [job.state for job in jobs(queue)] == ["queued", "queued"]  # another class: nobody's business
    press(queue, folder, {"result": [one, two]})
    assert [job.state for job in jobs(queue)] == ["queued", "cancelled", "cancelled"]


def test_a_lost_object_is_hidden(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    sent = {"result": [region([drawn(clip, BALL, frame=10)])]}
    requests = VideoRequests(settings(folder, "blind"), queue)
    requests.answer(task(), sent, config())
    work(queue, track_job(settings(folder, "blind")))
    item = regions(requests.answer(task(), sent, config()))["a"]
    assert [(k["frame"], k["enabled"]) for k in item["value"]["sequence"]] == [(10, False)]
    assert shown(item, 10)
    assert not shown(item, 11)


def test_a_command_goes_backward_and_is_sent_back(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    sent = {"result": [region([drawn(clip, BALL, frame=20)]), command("both 5")]}
    press(queue, folder, sent)
    work(queue, track_job(settings(folder)))
    answer = press(queue, folder, sent)
    assert frames_of(regions(answer)["a"]) == list(range(15, 26))
    assert sent["result"][1] in answer["results"][0]["result"]


def test_a_region_without_a_label_starts_nothing(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    bare = region([drawn(clip, BALL)], labels=())
    assert regions(press(queue, folder, {"result": [bare]}))["a"] == bare
    assert jobs(queue) == []
    assert press(queue, folder, {"result": []}) == {"results": []}
    assert press(queue, folder, None) == {"results": []}


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"id": "a", "type": "videorectangle", "value": {"sequence": [{"frame": "x"}]}}, "result[0]"),
        ({"id": "a", "type": "videorectangle", "value": 5}, "result[0].value"),
    ],
)
def test_junk_names_its_field(queue: JobQueue, folder: Path, item: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        press(queue, folder, {"result": [item]})
    assert caught.value.field.startswith(field)
    assert jobs(queue) == []


def test_a_bad_video_says_so_in_the_dead_letters_and_to_the_client(
    queue: JobQueue, folder: Path, clip: DemoClip
) -> None:
    (folder / "no.mp4").write_bytes(b"#!/bin/sh\n")
    for media, words in (("gone.mp4", "no such file"), ("no.mp4", "neither an image nor a video")):
        press(queue, folder, both(clip), task=task(media=media))
        work(queue, track_job(settings(folder)))
        [failed] = [job for job in queue.dead() if words in job.error]
        assert failed.failures <= 1
    press(queue, folder, both(clip), task=task(media="no.mp4"))
    with (
        tracked_by_thread(queue, folder, both(clip), task(media="no.mp4")) as answer,
        pytest.raises(InputError, match="neither an image nor a video"),
    ):
        answer()


def test_a_batch_is_answered_when_it_is_done(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    annotated = task() | {"annotations": [{"id": 1, "result": both(clip)["result"]}]}
    assert press(queue, folder, None, task=annotated, interactive=False) == {"results": []}
    assert press(queue, folder, None, task=annotated, interactive=False) == {"results": []}
    [job] = jobs(queue)
    assert job.queue == "batch"
    work(queue, track_job(settings(folder)))
    found = regions(press(queue, folder, None, task=annotated, interactive=False))
    assert frames_of(found["a"]) == list(range(1, FRAMES + 1))
    assert len(jobs(queue)) == 1


def test_what_a_person_deleted_of_an_older_job_is_tracked_again(
    queue: JobQueue, folder: Path, clip: DemoClip
) -> None:
    press(queue, folder, both(clip))
    work(queue, track_job(settings(folder)))
    item = regions(press(queue, folder, both(clip)))["a"]
    item["value"]["sequence"][29]["x"] = 42.0
    press(queue, folder, {"result": [item]})
    work(queue, track_job(settings(folder)))
    item["value"]["sequence"] = [item["value"]["sequence"][0], item["value"]["sequence"][29]]
    assert len(frames_of(regions(press(queue, folder, {"result": [item]}))["a"])) < FRAMES
    work(queue, track_job(settings(folder)))
    assert frames_of(regions(press(queue, folder, {"result": [item]}))["a"]) == list(range(1, FRAMES + 1))
    assert len(jobs(queue)) == 3


class tracked_by_thread:  # noqa: N801  reads as a word where it is used
    """A press that waits in a thread, while the worker, which needs the main one, does the job."""

    def __init__(self, queue: JobQueue, folder: Path, context: Any, asked: dict[str, Any]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._answer = self._pool.submit(press, queue, folder, context, 20.0, task=asked)
        time.sleep(0.1)
        work(queue, track_job(settings(folder)))

    def __enter__(self) -> Any:
        return self._answer.result

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def test_a_killed_workers_track_is_finished_by_another(
    queue: JobQueue, folder: Path, clip: DemoClip, url: str
) -> None:
    with tracking_process(queue, url, folder, STEP) as first:
        partly = regions(press(queue, folder, both(clip), seconds=4))
        [job] = jobs(queue)
        assert 1 < len(frames_of(partly["a"])) < FRAMES
        assert not shown(partly["a"], FRAMES)
        until(lambda: len(frames_done(queue, job.id)) > FRAMES // 2 + 10)
        first.kill()
        first.wait()
        with tracking_process(queue, url, folder):
            until(lambda: jobs(queue)[0].is_over, 30)
    again = frames_done(queue, job.id)
    assert len(again) - len(set(again)) > 0
    assert (len(again) - len(set(again))) * STEP <= 2
    assert set(again) == set(range(FRAMES))
    whole = regions(press(queue, folder, {"result": list(partly.values())}))
    assert frames_of(whole["a"]) == frames_of(whole["b"]) == list(range(1, FRAMES + 1))
    assert queue.stats().ended == {("track", "done"): 1}


def test_stop_ends_the_job_and_keeps_what_is_finished(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    sent = both(clip)
    press(queue, folder, sent)
    stopping = {"result": [sent["result"][0], command("stop")]}
    with ThreadPoolExecutor(1) as pool:

        def stop() -> dict[str, Any]:
            until(lambda: jobs(queue)[0].parts > 2)
            return press(queue, folder, stopping)

        answer = pool.submit(stop)
        work(queue, slowly(queue, track_job(settings(folder)), STEP / 2))
        stopped = answer.result()
    [job] = jobs(queue)
    assert job.state == "cancelled"
    finished = frames_of(regions(stopped)["a"])
    assert 2 < len(finished) < FRAMES
    assert finished == list(range(1, len(finished) + 1))
    types = [item["type"] for item in stopped["results"][0]["result"]]
    assert types == ["videorectangle"]  # the word is carried out, and gone
    press(queue, folder, {"result": [regions(stopped)["a"]]})
    work(queue, track_job(settings(folder)))
    rest = regions(press(queue, folder, {"result": [regions(stopped)["a"]]}))["a"]
    assert frames_of(rest) == list(range(1, FRAMES + 1))


def test_the_ladybird_alone_is_another_job(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    press(queue, folder, {"result": [region([drawn(clip, LADYBIRD)], "b")]})
    press(queue, folder, {"result": [region([drawn(clip, LADYBIRD)], "b")]}, task=task(8))
    assert [job.state for job in jobs(queue)] == ["queued", "queued"]
