"""Retrieve Predictions in the real Label Studio: what people annotated comes back as tracks and masks."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from backend.brush_rle import decode_brush
from edgetam_model.masks import mask_iou
from tests.platforms import clips
from tests.platforms.clips import HEIGHT, RED, WIDTH
from tests.platforms.label_studio_server import LabelStudio
from tests.platforms.projects import (
    BOXES,
    VIDEO_CONFIG,
    Place,
    image_config,
    image_project,
    image_region,
    ious,
    video_project,
    video_region,
)
from tests.platforms.recorder import Recorder
from tests.platforms.sdk import Sdk

pytestmark = pytest.mark.platforms

DELIVERY_SECONDS = 90  # for a track of 40 frames, on a busy machine


def _retrieve(label_studio: LabelStudio, place: Place) -> None:
    """What Retrieve Predictions in the Data Manager sends for one chosen task."""
    chosen = {"selectedItems": {"all": False, "included": [place.task]}, "project": place.project}
    path = f"/api/dm/actions?id=retrieve_tasks_predictions&project={place.project}"
    label_studio.call("POST", path, chosen)


def _annotate(label_studio: LabelStudio, place: Place, region: dict[str, Any]) -> None:
    label_studio.call("POST", f"/api/tasks/{place.task}/annotations/", {"result": [region]})


def _delivered(label_studio: LabelStudio, place: Place) -> list[Any]:
    deadline = time.monotonic() + DELIVERY_SECONDS
    while not (found := label_studio.predictions(place.task)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def test_an_annotated_box_comes_back_as_one_track(
    label_studio: LabelStudio, backend: Recorder, sdk: Sdk, tmp_path: Path
) -> None:
    clip = clips.two_discs(tmp_path / "batch.mp4")
    place = video_project(label_studio, backend, clip)
    frames = len(clip.boxes)
    _annotate(label_studio, place, video_region(clip.boxes[0][RED], 1, frames))
    _retrieve(label_studio, place)
    (prediction,) = _delivered(label_studio, place)
    (region,) = prediction["result"]
    fits = ious(region, clip, RED, range(1, frames + 1))
    assert mean(fits) >= 0.7, fits
    assert region["value"]["labels"] == ["Ball"]
    assert 0 < prediction["score"] <= 1

    assert sdk.problems(VIDEO_CONFIG, {"result": prediction["result"]}) == []

    _retrieve(label_studio, place)
    _until_over(backend, place.task)  # a job that delivers ends after that
    assert len(label_studio.predictions(place.task)) == 1


def _until_over(backend: Recorder, task: int) -> None:
    deadline = time.monotonic() + DELIVERY_SECONDS
    while time.monotonic() < deadline:
        jobs = [job for job in backend.ask("/api/jobs")["jobs"] if job["title"].startswith(f"task {task}:")]
        if jobs and all(job["ended"] for job in jobs):
            return
        time.sleep(0.2)
    raise AssertionError(f"the jobs of task {task} do not end")


def test_an_annotated_rectangle_comes_back_as_a_brush(
    label_studio: LabelStudio, backend: Recorder, sdk: Sdk, tmp_path: Path
) -> None:
    picture, config = clips.still(tmp_path / "batch.png"), image_config(BOXES)
    place = image_project(label_studio, backend, picture, config)
    _annotate(label_studio, place, image_region(picture.boxes[0][RED]))
    _retrieve(label_studio, place)
    (prediction,) = _delivered(label_studio, place)
    (brush,) = [region for region in prediction["result"] if region["type"] == "brushlabels"]
    mask = decode_brush(brush["value"]["rle"], HEIGHT, WIDTH)
    assert mask_iou(mask, picture.masks[0][RED]) >= 0.7
    assert brush["value"]["brushlabels"] == ["Ball"]
    assert sdk.problems(config, {"result": prediction["result"]}) == []
    assert 0 < prediction["score"] <= 1


def test_a_task_without_a_drawing_gets_no_prediction(
    label_studio: LabelStudio, backend: Recorder, tmp_path: Path
) -> None:
    clip = clips.two_discs(tmp_path / "nothing.mp4", frames=10)
    place = video_project(label_studio, backend, clip)
    asked = len(backend.of("/predict"))
    _retrieve(label_studio, place)
    answers = backend.of("/predict")[asked:]
    assert answers
    assert all(answer.status == 200 and answer.answered["results"] == [] for answer in answers)
    assert label_studio.predictions(place.task) == []
