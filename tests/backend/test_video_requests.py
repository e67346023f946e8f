"""Presses of the button against a real queue and real tracking of the demo clip, with an untrained model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch

from backend.embedded_redis import EmbeddedRedis
from backend.jobs import JobStatus
from backend.loading import ModelNotReady
from backend.queue import JobQueue
from backend.tracking import track_job
from backend.video_requests import VideoRequests
from backend.video_work import read_parts
from edgetam_model import InputError
from edgetam_model.demo_clip import BALL, LADYBIRD, DemoClip
from tests.backend.queue_fixtures import frames_done, new_queue, until
from tests.backend.tracking_fixtures import (
    FRAMES,
    Marked,
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


def requests_in(folder: Path, queue: JobQueue, weights: str = "sees", **more: Any) -> VideoRequests:
    return VideoRequests(settings(folder, weights, **more), queue)


def press(queue: JobQueue, folder: Path, context: Any, seconds: float = 0.0, **more: Any) -> dict[str, Any]:
    asked = {"interactive": True, **more}
    return requests_in(folder, queue, answer_seconds=seconds).answer(
        asked.pop("task", task()), context, config(), asked.pop("serving", Marked()), hostname=None, **asked
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


def test_the_button_never_becomes_the_class(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    """Label Studio sends Track as the class where it is chosen and no class is."""
    bare = region([drawn(clip, BALL)], labels=("Track",))
    press(queue, folder, {"result": [bare]})
    work(queue, track_job(settings(folder)))
    found = regions(press(queue, folder, {"result": [bare]}))["a"]
    assert frames_of(found) == list(range(1, FRAMES + 1))
    assert "labels" not in found["value"]
    found["value"]["labels"] = ["Track"]
    again = regions(press(queue, folder, {"result": [found]}))["a"]
    assert "labels" not in again["value"]
    assert again["value"]["sequence"] == found["value"]["sequence"]
    assert len(jobs(queue)) == 1


def test_ten_presses_at_once_are_one_run(queue: JobQueue, folder: Path, clip: DemoClip, url: str) -> None:
    requests = requests_in(folder, queue, answer_seconds=1)
    barrier = Barrier(10)

    def answered() -> dict[str, Any]:
        barrier.wait()
        return requests.answer(task(), both(clip), config(), Marked())

    with tracking_process(queue, url, folder), ThreadPoolExecutor(10) as pool:
        assert all(regions(one.result()) for one in [pool.submit(answered) for _ in range(10)])
        until(lambda: jobs(queue)[0].is_over, 60)
    [job] = jobs(queue)
    assert (job.state, job.attempt) == ("done", 1)
    assert frames_done(queue, job.id) == list(range(FRAMES))


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
    requests = requests_in(folder, queue, "blind")
    requests.answer(task(), sent, config(), Marked("blind"))
    work(queue, track_job(settings(folder, "blind")))
    item = regions(requests.answer(task(), sent, config(), Marked("blind")))["a"]
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
        stall = queue.store.key("stall")
        queue.store.redis.set(stall, "")  # until the other one is there, however slow this machine is
        with tracking_process(queue, url, folder):
            before = len(frames_done(queue, job.id))
            first.kill()
            queue.store.redis.delete(stall)
            until(lambda: len(frames_done(queue, job.id)) > before, 10)
            until(lambda: jobs(queue)[0].is_over, 60)
    again = frames_done(queue, job.id)
    assert len(again) - len(set(again)) > 0
    assert (len(again) - len(set(again))) * STEP <= 2
    assert set(again) == set(range(FRAMES))
    whole = regions(press(queue, folder, {"result": list(partly.values())}))
    assert frames_of(whole["a"]) == frames_of(whole["b"]) == list(range(1, FRAMES + 1))
    assert queue.stats().ended == {("track", "done"): 1}
    assert (jobs(queue)[0].attempt, jobs(queue)[0].failures) == (2, 1)


def test_a_track_goes_on_where_it_was_when_redis_comes_back(
    folder: Path, clip: DemoClip, tmp_path: Path
) -> None:
    with EmbeddedRedis(tmp_path) as redis:
        queue = new_queue(redis.url)
        press(queue, folder, both(clip), task=task(8))  # waits behind the other
        with tracking_process(queue, redis.url, folder, STEP / 4):
            press(queue, folder, both(clip))
            until(lambda: sum(job.parts for job in jobs(queue)) > 2, 60)
            redis.stop()
            time.sleep(1)
            with EmbeddedRedis(tmp_path):
                until(lambda: all(job.is_over for job in jobs(queue)), 120)
                assert [(job.state, job.attempt) for job in jobs(queue)] == [("done", 1)] * 2
                for job in jobs(queue):
                    found = read_parts(queue.partials(job.id))[1]
                    assert all(sorted(found[name]) == list(range(FRAMES)) for name in "ab")
                    assert frames_done(queue, job.id) == list(range(FRAMES))
                whole = regions(press(queue, folder, both(clip)))
                assert frames_of(whole["a"]) == list(range(1, FRAMES + 1))


def pressed_meanwhile(queue: JobQueue, folder: Path, context: dict[str, Any]) -> dict[str, Any]:
    """The answer to a press while the waiting job is worked on and has handed in three parts."""
    with ThreadPoolExecutor(1) as pool:

        def later() -> dict[str, Any]:
            until(lambda: jobs(queue)[0].parts > 2)
            return press(queue, folder, context)

        answer = pool.submit(later)
        work(queue, slowly(queue, track_job(settings(folder)), STEP / 2))
        return answer.result()


def test_stop_ends_one_objects_track_and_the_others_go_on(
    queue: JobQueue, folder: Path, clip: DemoClip
) -> None:
    sent = both(clip)
    press(queue, folder, sent)
    stopping = {"result": [*sent["result"], command("stop")]}
    stopped = regions(pressed_meanwhile(queue, folder, stopping))
    assert stopped["b"] == sent["result"][1]  # nobody asked for it
    [job] = jobs(queue)
    assert job.state == "done"
    found = read_parts(queue.partials(job.id))[1]
    assert sorted(found["b"]) == list(range(FRAMES))
    assert 2 < len(found["a"]) < FRAMES - 10
    assert sorted(found["a"]) == list(range(len(found["a"])))
    assert frames_of(stopped["a"]) == list(range(1, len(frames_of(stopped["a"])) + 1))
    assert 2 < len(frames_of(stopped["a"])) <= len(found["a"])
    assert frames_done(queue, job.id) == list(range(FRAMES))  # the other one lost nothing by it
    press(queue, folder, {"result": list(stopped.values())})
    assert len(jobs(queue)) == 2  # the job that left one out is no answer to a press on both


def test_stop_on_the_last_object_ends_the_job(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    sent = both(clip)
    press(queue, folder, sent)
    for number, name in enumerate("ab"):
        press(queue, folder, {"result": [sent["result"][number], command("stop", name)]})
        assert jobs(queue)[0].state == ("cancelled" if name == "b" else "queued")


def test_stop_ends_the_job_and_keeps_what_is_finished(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    sent = {"result": both(clip)["result"][:1]}
    press(queue, folder, sent)
    stopping = {"result": [*sent["result"], command("stop")]}
    stopped = pressed_meanwhile(queue, folder, stopping)
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


def test_other_weights_are_another_job_and_another_name_is_none(
    queue: JobQueue, folder: Path, clip: DemoClip
) -> None:
    """The same name may stand for new weights, and one file may have two names: the fingerprint decides."""
    press(queue, folder, both(clip), serving=Marked("mark 1"))
    press(queue, folder, both(clip), serving=Marked("mark 1", label="v0001"))
    assert len(jobs(queue)) == 1
    press(queue, folder, both(clip), serving=Marked("mark 2"))
    assert [job.state for job in jobs(queue)] == ["queued", "cancelled"]


@dataclass(frozen=True)
class Loading(Marked):
    """Weights that are never there."""

    waited: list[float] = field(default_factory=list)

    def fingerprint(self, seconds: float) -> str:
        self.waited.append(seconds)
        raise ModelNotReady("the model is still being loaded")


def test_a_press_while_the_model_loads_says_so(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    loading = Loading()
    for interactive in (True, False):
        with pytest.raises(ModelNotReady):
            press(
                queue,
                folder,
                both(clip),
                task=annotated(clip),
                serving=loading,
                interactive=interactive,
            )
    assert loading.waited[0] > loading.waited[1]
    assert jobs(queue) == []


def annotated(clip: DemoClip) -> dict[str, Any]:
    """A task whose submitted annotation holds two boxes, as Label Studio sends it when it is opened."""
    return task() | {"annotations": [{"id": 1, "result": both(clip)["result"]}]}


def open_task(queue: JobQueue, folder: Path, opened: dict[str, Any]) -> dict[str, Any]:
    begun = time.monotonic()
    answer = press(queue, folder, None, task=opened, interactive=False)
    assert time.monotonic() - begun < 1  # its page waits
    return answer


def test_opening_a_task_often_is_one_job_of_low_priority(
    queue: JobQueue, folder: Path, clip: DemoClip
) -> None:
    for _ in range(3):
        assert open_task(queue, folder, annotated(clip)) == {"results": []}
    [job] = jobs(queue)
    assert (job.queue, job.state) == ("batch", "queued")
    queue.cancel(job.id)
    assert open_task(queue, folder, annotated(clip)) == {"results": []}
    assert [job.state for job in jobs(queue)] == ["cancelled"]  # who cancelled it meant it
    press(queue, folder, both(clip))
    assert [job.state for job in jobs(queue)] == ["queued", "cancelled"]


def test_opening_a_task_whose_video_cannot_be_read_tries_once(
    queue: JobQueue, folder: Path, clip: DemoClip
) -> None:
    opened = annotated(clip) | {"data": {"video": "never.mp4", "fps": 25}}
    open_task(queue, folder, opened)
    work(queue, track_job(settings(folder)))
    with pytest.raises(InputError, match="no such file"):
        open_task(queue, folder, opened)
    assert len(jobs(queue)) == 1


def test_opening_a_task_leaves_a_press_alone(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    press(queue, folder, {"result": both(clip)["result"][:1]})
    open_task(queue, folder, annotated(clip))  # has one object more
    assert [(job.queue, job.state) for job in jobs(queue)] == [("interactive", "queued")]


def test_a_press_after_the_task_was_opened_takes_its_job_along(
    queue: JobQueue, folder: Path, clip: DemoClip
) -> None:
    open_task(queue, folder, annotated(clip))
    press(queue, folder, both(clip))
    assert [(job.queue, job.state) for job in jobs(queue)] == [("interactive", "queued")]
    work(queue, track_job(settings(folder)))
    assert [job.state for job in jobs(queue)] == ["done"]


def test_a_track_that_is_whole_needs_no_job_to_be_opened(
    queue: JobQueue, folder: Path, clip: DemoClip
) -> None:
    press(queue, folder, both(clip))
    work(queue, track_job(settings(folder)))
    whole = list(regions(press(queue, folder, both(clip))).values())
    elsewhere = JobQueue(queue.store.redis, namespace=f"{queue.store.namespace}-later")  # all jobs forgotten
    opened = task() | {"annotations": [{"id": 1, "result": whole}]}
    assert open_task(elsewhere, folder, opened) == {"results": []}
    assert regions(press(elsewhere, folder, {"result": whole})) == {item["id"]: item for item in whole}
    assert jobs(elsewhere) == []


def test_the_ladybird_alone_is_another_job(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    press(queue, folder, {"result": [region([drawn(clip, LADYBIRD)], "b")]})
    press(queue, folder, {"result": [region([drawn(clip, LADYBIRD)], "b")]}, task=task(8))
    assert [job.state for job in jobs(queue)] == ["queued", "queued"]
