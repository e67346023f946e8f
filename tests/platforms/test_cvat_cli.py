"""The agent's functions under the real cvat-cli, which a server of the tests' own asks for work."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import cvat_sdk.masks
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cvat_function.shapes import TYPES, Shape, shape_mask, shape_of_mask
from edgetam_model.demo_clip import BALL, LADYBIRD, DemoScene
from edgetam_model.masks import Mask, mask_box, mask_iou
from tests.platforms.cvat_server import FUNCTION, PASSWORD, TASK, USER, Annotator, Cvat, Reply, serving
from tests.platforms.processes import RUN, RUN_ID, stop

pytestmark = pytest.mark.platforms

WIDTH, HEIGHT, FRAMES = 320, 180, 5
SECONDS = 180  # one call of cvat-cli, on a busy machine; each loads PyTorch in one or two processes
ROOT = Path(__file__).parents[2]

Truth = dict[int, Mask]


@pytest.fixture(scope="module")
def scene() -> list[tuple[NDArray[np.uint8], Truth]]:
    clip = DemoScene(60, WIDTH, HEIGHT)
    return [clip.frame(index) for index in range(FRAMES)]


@pytest.fixture(scope="module")
def truth(scene: list[tuple[NDArray[np.uint8], Truth]]) -> list[Truth]:
    return [masks for _, masks in scene]


@pytest.fixture(scope="module")
def files(scene: list[tuple[NDArray[np.uint8], Truth]]) -> list[bytes]:
    """The frames as a task's PNG files."""
    return [_png(rgb) for rgb, _ in scene]


def _png(rgb: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(rgb).save(file, "PNG")
    return file.getvalue()


def cvat_cli(cvat: Cvat, log: Path, folder: Path, kind: str, *arguments: str) -> str:
    """Run `cvat-cli function …` with our function to its end, and return what it printed."""
    command = [sys.executable, "-m", "cvat_cli", "--server-host", cvat.url, "--auth", f"{USER}:{PASSWORD}"]
    command += ["function", *arguments, "--function-module", "cvat_function.agent"]
    for parameter in (f"kind=str:{kind}", "weights=str:default", "device=str:cpu"):
        command += ["-p", parameter]
    env = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(folder), RUN: RUN_ID}
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
        try:
            printed, _ = process.communicate(timeout=SECONDS)
        finally:
            stop(process)
    assert process.returncode == 0, log.read_text()[-4000:]
    return printed.decode()


def run(annotator: Annotator, files: list[bytes], kind: str, logs: Path, folder: Path) -> Cvat:
    """Create the function and run its agent until the annotator asks for nothing more."""
    log = logs / f"cvat-cli-{kind}.log"
    with serving(Cvat(files, (WIDTH, HEIGHT), annotator)) as cvat:
        created = cvat_cli(cvat, log, folder, kind, "create-native", "EdgeTAM")
        assert created.strip() == str(FUNCTION)
        cvat_cli(cvat, log, folder, kind, "run-agent", str(FUNCTION), "--burst")
    assert cvat.pending is None, "the agent left before the annotator did"
    return cvat


def drawn(mask: Mask, kind: str) -> dict[str, Any]:
    shape = shape_of_mask(mask, kind)
    assert shape is not None
    return shape.to_json()


def box(mask: Mask) -> list[list[int]]:
    """As CVAT has boxes: two corners."""
    found = mask_box(mask)
    assert found is not None
    return [list(found[:2]), list(found[2:])]


def area(shape: dict[str, Any], width: int = WIDTH, height: int = HEIGHT) -> Mask:
    """The pixels of any shape; of a mask by CVAT's own decoder."""
    if shape["type"] == "mask":
        mask: Mask = cvat_sdk.masks.decode_mask(shape["points"], image_width=width, image_height=height)
        return mask
    points = shape["points"]
    if shape["type"] == "rectangle":
        x0, y0, x1, y1 = points
        points = [x0, y0, x1, y0, x1, y1, x0, y1]
    return shape_mask(Shape("polygon", tuple(points)), width, height)


def test_the_interactor_answers_boxes_and_clicks(
    files: list[bytes], truth: list[Truth], logs: Path, tmp_path: Path
) -> None:
    ball, ladybird = truth[0][BALL], truth[0][LADYBIRD]
    (left, top), (right, bottom) = box(ball)
    middle = [(left + right) / 2, (top + bottom) / 2]
    roi = [max(left - 30, 0), max(top - 30, 0), right + 30, bottom + 30]
    ask = {"type": "interact", "task": TASK, "frame": 0, "pos_points": [], "neg_points": [], "obj_bbox": []}
    in_roi = [[left - roi[0], top - roi[1]], [right - roi[0], bottom - roi[1]]]

    def annotator() -> Annotator:
        yield ask | {"obj_bbox": box(ball)}
        yield ask | {"obj_bbox": box(ball), "pos_points": [middle], "neg_points": [[3.5, 3.5]]}
        yield ask | {"obj_bbox": box(ball) + box(ladybird)}
        yield ask | {"neg_points": [[3.5, 3.5]]}
        yield ask | {"obj_bbox": in_roi, "roi": roi}
        yield ask | {"frame": 3, "pos_points": [middle]}

    cvat = run(annotator(), files, "interactor", logs, tmp_path)
    assert {name: cvat.function[name] for name in ("kind", "min_pos_points", "min_neg_points")} == {
        "kind": "interactor",
        "min_pos_points": 0,
        "min_neg_points": 0,
    }
    assert cvat.function["startswith_box_optional"] is True
    boxed, refined, both, refused, part, clicked = cvat.replies
    for reply in (boxed, refined):
        (shape,) = reply.body["shapes"]
        assert mask_iou(area(shape), ball) > 0.8
        assert 0.5 < float(shape["attributes"][0]["value"]) <= 1
    assert [
        mask_iou(area(s), t) > 0.8 for s, t in zip(both.body["shapes"], (ball, ladybird), strict=True)
    ] == [
        True,
        True,
    ]
    assert refused.kind == "fail"
    assert refused.body["exc_info"].endswith(
        "pos_points: expected a positive click or a box: nothing is selected yet"
    )
    cut = ball[roi[1] : roi[3], roi[0] : roi[2]]
    assert mask_iou(area(part.body["shapes"][0], cut.shape[1], cut.shape[0]), cut) > 0.8
    assert clicked.body["shapes"]
    assert cvat.downloads == [0, 0, 3]  # the whole frame, its part, another frame: nothing twice


def test_the_tracker_follows_every_kind_of_shape(
    files: list[bytes], truth: list[Truth], logs: Path, tmp_path: Path
) -> None:
    shapes = [drawn(truth[0][thing], kind) for kind in TYPES for thing in (BALL, LADYBIRD)]
    ask = {"type": "track", "task": TASK}

    def annotator() -> Annotator:
        begun: Reply = yield {"type": "init_tracking", "task": TASK, "frame": 0, "shapes": shapes}
        states = begun.body["states"]
        for frame in (1, 2):
            yield ask | {"frame": frame, "states": states}
        yield ask | {"frame": 3, "states": ["bogus"]}
        flat = {"type": "rectangle", "points": [9, 9, 9, 90]}
        yield {"type": "init_tracking", "task": TASK, "frame": 3, "shapes": [flat]}
        for frame in (3, 4):  # what failed in between has cost the others nothing
            yield ask | {"frame": frame, "states": states}

    cvat = run(annotator(), files, "tracker", logs, tmp_path)
    assert cvat.function["supported_shape_types"] == ["mask", "polygon", "rectangle"]
    begun, first, second, bogus, flat, third, fourth = cvat.replies
    assert len(set(begun.body["states"])) == len(shapes)
    assert "not found" in bogus.body["exc_info"]
    assert "rectangle: expected one with an area inside the image" in flat.body["exc_info"]
    for masks, reply in zip(truth[1:], (first, second, third, fourth), strict=True):
        assert reply.kind == "complete"
        assert reply.body["states"] == begun.body["states"]
        answers = reply.body["shapes"]
        assert [answer["type"] for answer in answers] == [shape["type"] for shape in shapes]
        for answer, thing in zip(answers, (BALL, LADYBIRD) * len(TYPES), strict=True):
            expected = area(drawn(masks[thing], answer["type"]))
            assert mask_iou(area(answer), expected) > 0.8
