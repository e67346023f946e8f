"""label-studio-sdk, as Label Studio itself uses it, judges all that is sent to Label Studio."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from backend.app import create_app
from backend.brush_rle import decode_brush, encode_brush
from backend.embedded_redis import EmbeddedRedis
from backend.image_prompts import Canvas, DrawnObject
from backend.image_regions import regions_from_mask
from backend.label_config import parse_label_config
from backend.predictions import prediction_of, response_of
from backend.tracking import track_job
from backend.video_keyframes import KeyframeOptions, TrackedBox
from backend.video_requests import VideoRequests
from edgetam_model import MaskResult
from tests.backend import tracking_fixtures as tracking
from tests.backend.queue_fixtures import new_queue
from tests.backend.server_fixtures import box, click, image_task, picture, predict_body, services_in
from tests.backend.video_json import COUNT, command, keyframe, region, shown, tracked
from tests.platforms.sdk import Sdk

pytestmark = pytest.mark.platforms

VERSION = "2.1.2"
unhurried = settings(
    max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)

LABELS = '<Label value="A"/><Label value="B"/>'
KINDS = ("Brush", "Bitmask", "Polygon", "Rectangle", "KeyPoint")
LABELLED = "".join(
    f'<{kind}Labels name="{kind.lower()}" toName="image" smart="false">{LABELS}</{kind}Labels>'
    for kind in KINDS
)
UNLABELLED = (
    "".join(f'<{kind} name="{kind.lower()}" toName="image" smart="false"/>' for kind in KINDS)
    + f'<Labels name="class" toName="image">{LABELS}</Labels>'
)
SMART = "".join(
    f'<{kind}Labels name="{name}" toName="image" smart="true">{LABELS}</{kind}Labels>'
    for kind, name in (("KeyPoint", "kp"), ("Rectangle", "rect"))
)
both_styles = pytest.mark.parametrize("outputs", [LABELLED, UNLABELLED], ids=["labelled", "unlabelled"])


def view(inner: str) -> str:
    return f'<View><Image name="image" value="$image"/>{inner}</View>'


def test_it_is_the_version_that_the_documentation_names(sdk: Sdk) -> None:
    assert sdk.version == VERSION


def test_it_can_tell_what_is_wrong(sdk: Sdk) -> None:
    """Else all that follows would prove nothing."""
    good = {"id": "r", "from_name": "brush", "to_name": "image", "type": "brushlabels"}
    config = view(LABELLED)
    for wrong in (
        {"rle": [1], "format": "rle", "brushlabels": ["C"]},
        {"rle": [256], "format": "rle", "brushlabels": ["A"]},
        {"format": "rle", "brushlabels": ["A"]},
    ):
        assert sdk.problems(config, {"result": [{**good, "value": wrong}], "score": 0.5})
    right = {"rle": [1], "format": "rle", "brushlabels": ["A"]}
    assert sdk.problems(config, {"result": [{**good, "value": right}], "score": 2})
    assert sdk.problems(config, {"result": [{**good, "value": right}], "score": 0.5}) == []


masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


@unhurried
@given(masks)
def test_brushes_are_packed_as_it_packs_them(sdk: Sdk, mask: NDArray[np.bool_]) -> None:
    packed = encode_brush(mask)
    assert packed == sdk.pack(mask)
    np.testing.assert_array_equal(sdk.unpack(packed, *mask.shape), mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (2, 16384), (7, 9400), (1080, 1920)])
def test_large_and_odd_brushes_too(sdk: Sdk, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    few = 0.002 if shape[0] > 1000 else 0.5  # single pixels make long streams, which the SDK packs slowly
    for share in (0.0, few, 1.0):
        mask = rng.random(shape) < share
        packed = sdk.pack(mask)
        assert encode_brush(mask) == packed
        np.testing.assert_array_equal(decode_brush(packed, *shape), mask)


blobs = st.tuples(
    *(st.integers(0, 255) for _ in range(4)), st.integers(1, 90), st.integers(1, 90), st.integers(0, 180)
)


@both_styles
@unhurried
@given(blobs, st.sampled_from([(), ("B",), ("A", "B"), ("unknown",)]), st.integers(1, 400))
def test_every_mask_becomes_valid_regions(
    sdk: Sdk, outputs: str, numbers: tuple[int, ...], labels: tuple[str, ...], width: int
) -> None:
    x, y, x1, y1, long, short, angle = numbers
    canvas = np.zeros((256, 256), np.uint8)
    cv2.ellipse(canvas, (x, y), (long, short), angle, 0, 360, 1, -1)
    canvas[y1, x1] = 1
    result = MaskResult(canvas.astype(np.float32) - 0.5, (width // 2 + 1, width), 0.9, 1.0)
    config = parse_label_config(view(outputs))
    drawn = DrawnObject((), labels, "r1", Canvas("image"), config.outputs_for("image"))
    made = prediction_of(regions_from_mask(result, drawn, config), "v1")
    if made is not None:
        (answer,) = response_of([made])["results"]
        assert sdk.problems(view(outputs), answer) == []


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    folder = tmp_path_factory.mktemp("server")
    picture(folder / "a.png")
    return create_app(services_in(folder)).test_client()


percents = st.floats(0, 100)
labels = st.sampled_from(["A", "B"])
clicks = st.builds(
    lambda x, y, label, good: click(x, y, f"k{x}-{y}", label, is_positive=good),
    percents,
    percents,
    labels,
    st.booleans(),
)
boxes = st.builds(
    lambda x, y, w, h, label: box(x, y, w, h, f"r{x}-{y}", label),
    st.floats(0, 90),
    st.floats(0, 90),
    st.floats(5, 90),
    st.floats(5, 90),
    labels,
)


@both_styles
@unhurried
@given(st.lists(clicks, min_size=1, max_size=3) | st.lists(boxes, min_size=1, max_size=2))
def test_every_answer_to_what_is_drawn_is_valid(
    sdk: Sdk, client: FlaskClient, outputs: str, drawn: list[Any]
) -> None:
    config = view(outputs + SMART)
    body = predict_body(image_task("a.png"), config=config, context={"result": drawn})
    answers = client.post("/predict", json=body).get_json()["results"]
    for answer in answers:
        assert sdk.problems(config, answer) == []
    event(f"{len(answers)} answers")


@both_styles
def test_every_answer_to_a_batch_is_valid(sdk: Sdk, client: FlaskClient, outputs: str) -> None:
    config = view(outputs + SMART)
    tasks = [
        image_task("a.png", box(10, 10, 50, 50), number=1),
        image_task("a.png", box(10, 10, 50, 50, "r1"), click(70, 70, "k1", "B"), number=2),
        image_task("a.png", click(20, 30), number=3),
    ]
    answers = client.post("/predict", json=predict_body(*tasks, config=config)).get_json()["results"]
    assert len(answers) == len(tasks)
    for answer in answers:
        assert {entry["type"].removesuffix("labels") for entry in answer["result"] if "score" in entry} >= {
            kind.lower() for kind in KINDS
        }
        assert sdk.problems(config, answer) == []


STATES: list[Literal["visible", "absent", "lost"]] = ["visible", "visible", "visible", "absent", "lost"]


@st.composite
def walks(draw: st.DrawFn) -> dict[int, TrackedBox]:
    """A box on each frame that moves as it likes, within the video and out of it, and is lost at times."""
    found = {}
    for frame in range(draw(st.integers(1, 40))):
        x, y = draw(st.integers(-50, 420)), draw(st.integers(-50, 220))
        state = draw(st.sampled_from(STATES))
        edges = (x, y, x + draw(st.integers(1, 300)), y + draw(st.integers(1, 200)))
        seen = state != "absent" and edges[0] < 400 and edges[1] < 200 and min(edges[2:]) > 0
        found[frame] = TrackedBox(edges if seen else None, draw(st.floats(0, 1)), state)
    return found


@unhurried
@given(walks(), st.sampled_from([0.0, 2.0]), st.sampled_from([(), ("Player",)]), st.booleans())
def test_every_track_is_valid_and_exported_as_the_editor_shows_it(
    sdk: Sdk, found: dict[int, TrackedBox], tolerance: float, classes: tuple[str, ...], typed: bool
) -> None:
    drawn, options = region(keyframe(1), labels=classes), KeyframeOptions(tolerance=tolerance)
    made = tracked(drawn, found, options=options)
    result = [made, command("track 100")] if typed else [made]
    assert sdk.problems(tracking.CONFIG, {"result": result, "score": made.get("score", 0.0)}) == []
    exported = {entry["frame"]: entry for entry in sdk.frames(made)}
    seen = {number: shape for number in range(1, COUNT + 1) if (shape := shown(made, number))}
    assert sorted(exported) == sorted(seen)
    for number, shape in seen.items():
        sides = [exported[number][side] for side in ("x", "y", "width", "height")]
        assert sides == pytest.approx(shape, abs=1e-6)


def test_every_answer_to_a_press_and_to_a_batch_is_valid(sdk: Sdk, tmp_path: Path) -> None:
    clip = tracking.prepare(tmp_path)
    drawn = tracking.both(clip)["result"]
    commanded = [*drawn, command("track 10")]
    with EmbeddedRedis(tmp_path / "redis") as redis:
        queue = new_queue(redis.url)
        requests = VideoRequests(tracking.settings(tmp_path), queue)
        everybody = tracking.config(), tracking.Marked()
        answers = []
        for context in ({"result": drawn}, {"result": commanded}):
            answers.append(requests.answer(tracking.task(), context, *everybody))  # nothing done yet
            tracking.work(queue, track_job(tracking.settings(tmp_path)))
            answers.append(requests.answer(tracking.task(), context, *everybody))
        batch = {**tracking.task(8), "annotations": [{"id": 1, "result": drawn}]}
        assert requests.answer(batch, None, *everybody, interactive=False) == {"results": []}
        tracking.work(queue, track_job(tracking.settings(tmp_path)))
        answers.append(requests.answer(batch, None, *everybody, interactive=False))
    lengths = []
    for answer in answers:
        (prediction,) = answer["results"]
        assert sdk.problems(tracking.CONFIG, prediction) == []
        lengths.append(max(len(entry["value"].get("sequence", ())) for entry in prediction["result"]))
    assert lengths[0] == 1
    assert lengths[1] == lengths[4] == tracking.FRAMES
