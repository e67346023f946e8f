"""label-studio-ml 1.0.9, its own Flask app, around `EdgeTAMBackend`, asked as Label Studio asks."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from backend.brush_rle import decode_brush
from backend.embedded_redis import EmbeddedRedis
from backend.queue import JobQueue
from backend.queue_store import connect
from edgetam_model.masks import mask_iou
from tests.platforms import clips, label_studio_ml_server
from tests.platforms.clips import BLUE, FPS, HEIGHT, RED, WIDTH
from tests.platforms.installing import CACHE, required
from tests.platforms.label_studio_ml_server import Environment, Server, run
from tests.platforms.projects import (
    BOXES,
    CLICKS,
    VIDEO_CONFIG,
    image_config,
    image_region,
    ious,
    video_region,
)

pytestmark = pytest.mark.platforms

ROOT = Path(__file__).parents[2]
PRESSES = 20  # of 5 s each at most, for a busy machine; an idle one needs one or two
EVENT_SECONDS = 90  # of a process of its own that imports torch; 4 s on an idle machine
SETUP_SECONDS = 3.0  # Label Studio waits no longer
IMAGES = image_config(CLICKS + BOXES)


@pytest.fixture(scope="module")
def environment() -> Environment:
    return required(lambda: label_studio_ml_server.install(CACHE))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def server(
    environment: Environment, media: Path, logs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("label-studio-ml")
    env = {
        "EDGETAM_MEDIA_ROOTS": str(media),
        "EDGETAM_CACHE": str(folder / "cache"),
        "EDGETAM_WEIGHTS": os.environ.get("EDGETAM_TEST_WEIGHTS", "default"),
        "EDGETAM_DEVICE": "cpu",
        "EDGETAM_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    with label_studio_ml_server.serve(environment, folder, logs, env) as started:
        yield started


def call(server: Server, path: str, body: object) -> tuple[int, Any]:
    """POST JSON; the status and the JSON of the answer."""
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, data, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=110) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def open_project(server: Server, config: str) -> float:
    """What Label Studio sends when a page of the project is opened; how many seconds it took."""
    body = {"project": "7.1700000000", "schema": config, "hostname": "http://127.0.0.1:9", "access_token": ""}
    began = time.monotonic()
    status, answer = call(server, "/setup", body)
    assert status == 200, answer
    assert answer["model_version"]
    return time.monotonic() - began


def predict(server: Server, config: str, *tasks: dict[str, Any], context: Any = None) -> list[Any]:
    params = {"login": None, "password": None, "context": context}
    body = {"tasks": tasks, "project": "7.1700000000", "label_config": config, "params": params}
    status, answer = call(server, "/predict", body)
    assert status == 200, answer
    return list(answer["results"])


def task(field: str, file: Path, *regions: dict[str, Any]) -> dict[str, Any]:
    annotations = [{"id": 5, "result": list(regions)}] if regions else []
    data = {field: file.name, "fps": FPS}
    return {"id": 3, "project": 7, "data": data, "annotations": annotations, "predictions": []}


def test_the_class_works_on_the_packages_own_base(environment: Environment) -> None:
    tests = str(ROOT / "tests/backend/test_ls_backend.py")
    quiet = ("-W", "ignore::SyntaxWarning")  # 1.0.9's own, where it is not compiled yet
    output = run(environment.program("python"), "-m", "pytest", *quiet, "-k", "real", "-rs", tests, cwd=ROOT)
    assert "skipped" not in output


def test_a_page_is_opened_in_time(server: Server) -> None:
    with urllib.request.urlopen(f"{server.url}/health", timeout=1) as answer:
        assert json.loads(answer.read())["status"] == "UP"
    open_project(server, IMAGES)  # the first one connects the queue
    assert open_project(server, IMAGES) < SETUP_SECONDS


def test_a_click_becomes_a_brush(server: Server, media: Path) -> None:
    picture = clips.still(media / "click.png")
    open_project(server, IMAGES)
    x0, y0, x1, y1 = picture.boxes[0][BLUE]
    value = {"x": (x0 + x1) / 2 / WIDTH * 100, "y": (y0 + y1) / 2 / HEIGHT * 100, "width": 0.5}
    ends = {"from_name": "kp", "to_name": "image", "type": "keypointlabels", "is_positive": True}
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    click = {"id": "k", **ends, **size, "value": {**value, "keypointlabels": ["Ball"]}}
    (prediction,) = predict(server, IMAGES, task("image", picture.path), context={"result": [click]})
    (region,) = prediction["result"]
    assert (region["type"], region["value"]["brushlabels"]) == ("brushlabels", ["Ball"])
    mask = decode_brush(region["value"]["rle"], HEIGHT, WIDTH)
    assert mask_iou(mask, picture.masks[0][BLUE]) >= 0.7
    assert prediction["model_version"]


def test_annotated_tasks_become_masks_and_others_nothing(server: Server, media: Path) -> None:
    picture = clips.still(media / "batch.png")
    open_project(server, IMAGES)
    assert predict(server, IMAGES, task("image", picture.path)) == []
    boxed = task("image", picture.path, image_region(picture.boxes[0][RED]))
    first, second = predict(server, IMAGES, boxed, task("image", picture.path))
    assert second == []
    mask = decode_brush(first["result"][0]["value"]["rle"], HEIGHT, WIDTH)
    assert mask_iou(mask, picture.masks[0][RED]) >= 0.7


def test_a_press_becomes_a_track(server: Server, media: Path) -> None:
    clip = clips.two_discs(media / "track.mp4")
    frames = len(clip.boxes)
    open_project(server, VIDEO_CONFIG)
    region = video_region(clip.boxes[0][RED], 1, frames)
    for _ in range(PRESSES):
        (prediction,) = predict(server, VIDEO_CONFIG, task("video", clip.path), context={"result": [region]})
        (region,) = prediction["result"]
        if region["value"]["sequence"][-1]["frame"] == frames:
            break
    fits = ious(region, clip, RED, range(1, frames + 1))
    assert mean(fits) >= 0.7, fits
    assert region["value"]["labels"] == ["Ball"]


@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "ANNOTATIONS_DELETED", "START_TRAINING"])
def test_events_lead_to_a_training(server: Server, action: str) -> None:
    project = {"id": 7, "label_config": IMAGES, "title": "secret"}
    body = {"action": action, "project": project, "task": {"id": 3, "data": {}}, "annotation": {"id": 5}}
    status, answer = call(server, "/webhook", body)
    assert status == 201
    kept = server.model_dir / str(answer["job_id"]) / "job_result.json"
    deadline = time.monotonic() + EVENT_SECONDS
    while not (kept.exists() and kept.read_text()) and time.monotonic() < deadline:
        time.sleep(0.2)
    job = json.loads(kept.read_text())["job_id"]
    with EmbeddedRedis(server.model_dir / "redis") as redis:
        client = connect(redis.url, 1.0)
        payload = JobQueue(client).payload(job)
        client.close()
    assert payload == {"project": 7}, "the next training of the project, which all its events share"


def test_what_is_malformed_is_refused_and_the_next_is_answered(server: Server, media: Path) -> None:
    picture = clips.still(media / "after.png")
    open_project(server, IMAGES)
    body = {"tasks": ["x"], "label_config": IMAGES, "params": {"context": [1]}}
    status, answer = call(server, "/predict", body)
    assert status == 500  # the package's own answer to every error
    assert "tasks.0" in answer["detail"]
    boxed = task("image", picture.path, image_region(picture.boxes[0][RED]))
    assert len(predict(server, IMAGES, boxed)) == 1
