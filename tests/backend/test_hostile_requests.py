"""Whatever a request holds, the server answers it or says what is wrong with it; it never breaks.

300 examples each; EDGETAM_EXAMPLES sets another number, as for a longer run on a server before a release:
`EDGETAM_EXAMPLES=3000 python -m pytest tests/backend/test_hostile_requests.py`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from backend.answers import Answers
from backend.app import create_app
from backend.embedded_redis import EmbeddedRedis
from backend.queue import JobQueue, QueueLimits
from backend.queue_store import connect
from backend.video_requests import VideoRequests
from tests.backend.server_fixtures import (
    IMAGE_CONFIG,
    box,
    click,
    image_task,
    picture,
    predict_body,
    services_in,
    settings_in,
)
from tests.backend.tracking_fixtures import CONFIG as VIDEO_CONFIG
from tests.backend.video_json import command, keyframe, region

EXAMPLES = int(os.environ.get("EDGETAM_EXAMPLES", "300"))
PLENTY = 10**6  # jobs that may wait: a full queue would hide what comes after it
many = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """The whole server over a real queue that nobody works on."""
    folder = tmp_path_factory.mktemp("server")
    picture(folder / "a.png")
    with EmbeddedRedis(folder / "redis") as redis:
        connection = connect(redis.url)
        queue = JobQueue(connection, QueueLimits(PLENTY, PLENTY, PLENTY))
        services = services_in(folder)
        waiting = settings_in(folder, EDGETAM_ANSWER_SECONDS="0")
        video = VideoRequests(waiting, queue)
        answers = Answers(services.images, video, services.projects, services.models)
        yield create_app(replace(services, answers=answers, queue=queue)).test_client()
        connection.close()


Json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)

# What Label Studio sends when a person clicks, draws a box, presses t, types a command, or retrieves
# predictions.
DRAWN = [click(50, 50, "k1"), click(20, 20, "k2", is_positive=False)]
BOXED = [{**box(10, 10, 50, 50), "original_width": 64, "original_height": 40, "image_rotation": 0}]
BRUSHED = [
    {
        "id": "b",
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": "image",
        "value": {"format": "rle", "rle": [0, 0, 0, 8, 57, 27, 252, 96, 17, 255, 128], "brushlabels": ["A"]},
    }
]
TRACKED = [region(keyframe(1), keyframe(40, 30.0, enabled=False), name="a"), region(keyframe(7), name="b")]
COMMANDED = [*TRACKED, command("both 50")]


def video_task(*regions: Any) -> dict[str, Any]:
    return {**image_task("a.png", *regions), "data": {"video": "clip.mp4", "fps": 25}}


REAL: list[dict[str, Any]] = [
    predict_body(image_task("a.png"), context={"result": DRAWN}),
    predict_body(image_task("a.png"), context={"result": BOXED}),
    predict_body(image_task("a.png", *DRAWN, *BOXED, *BRUSHED), image_task("a.png")),
    predict_body(video_task(), config=VIDEO_CONFIG, context={"result": TRACKED}),
    predict_body(video_task(), config=VIDEO_CONFIG, context={"result": COMMANDED}),
    predict_body(video_task(*TRACKED), video_task(), config=VIDEO_CONFIG),
]
EXTREME: list[Any] = [
    0,
    -1,
    1,
    0.5,
    100,
    101,
    -1e-9,
    1e9,
    1e308,
    -1e308,
    2**31,
    2**63,
    10**30,
    True,
    None,
    "",
    "1",
    [],
    {},
]
SPOTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=3)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every value in a document, by what holds it and the key or index there."""
    found: list[tuple[Any, Any]] = []
    if isinstance(document, dict | list):
        for key in list(document) if isinstance(document, dict) else range(len(document)):
            found += [(document, key), *places(document[key])]
    return found


@st.composite
def nearly_real(draw: st.DrawFn) -> dict[str, Any]:
    """A real request in which up to three values are gone, doubled, moved, or something else."""
    body = copy.deepcopy(draw(st.sampled_from(REAL)))
    for spot in draw(SPOTS):
        options = places(body)
        if not options:
            break
        holder, key = options[spot % len(options)]
        match draw(st.sampled_from(["other", "extreme", "gone", "double", "wrapped", "moved"])):
            case "other":
                holder[key] = draw(Json)
            case "extreme":
                holder[key] = draw(st.sampled_from(EXTREME))
            case "gone":
                del holder[key]
            case "double" if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case "double" | "wrapped":
                holder[key] = [holder[key]]
            case "moved":
                source, name = options[draw(st.integers(0, len(options) - 1))]
                holder[key] = copy.deepcopy(source[name])
    return body


@many
@given(nearly_real())
def test_no_nearly_real_request_gives_a_500(client: FlaskClient, body: dict[str, Any]) -> None:
    answer = client.post("/predict", json=body)
    event(f"status {answer.status_code}")
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 200:
        assert len(answer.get_json()["results"]) in (0, len(body["tasks"]))


@pytest.mark.parametrize("number", range(len(REAL)))
def test_the_real_requests_are_answered(client: FlaskClient, number: int) -> None:
    answer = client.post("/predict", json=REAL[number])
    assert answer.status_code == 200, answer.text
    interactive = REAL[number]["params"]["context"] is not None
    video = REAL[number]["label_config"] == VIDEO_CONFIG
    assert bool(answer.get_json()["results"]) == (interactive or not video)  # a batch waits for its track


number = st.floats(-200, 300) | st.integers(-3, 200) | Json
value = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("x", "y", "width", "height", "rotation", "framesCount", "duration"), number),
        **dict.fromkeys(("keypointlabels", "rectanglelabels", "rle", "points", "format", "labels"), Json),
        "sequence": st.lists(
            st.fixed_dictionaries(
                {},
                optional=dict.fromkeys(("frame", "x", "y", "width", "height", "enabled", "edgetam"), number),
            )
            | Json,
            max_size=3,
        ),
        "text": Json,
    },
)
KNOWN_TYPES = [
    *("keypointlabels", "rectanglelabels", "brushlabels", "polygonlabels", "bitmasklabels", "labels"),
    *("videorectangle", "textarea", "relation"),
]
entry = st.fixed_dictionaries(
    {"type": st.sampled_from(KNOWN_TYPES) | Json, "value": value | Json},
    optional=dict.fromkeys(
        ("id", "from_name", "to_name", "is_positive", "original_width", "original_height", "item_index"), Json
    ),
)
contexts = st.fixed_dictionaries({"result": st.lists(entry | Json, max_size=3) | Json}) | Json
tasks = st.fixed_dictionaries(
    {"data": st.sampled_from([{"image": "a.png"}, {"video": "clip.mp4", "fps": 25}]) | Json},
    optional={"id": Json, "annotations": st.lists(contexts, max_size=2) | Json, "drafts": Json},
)
configs = st.sampled_from([IMAGE_CONFIG, VIDEO_CONFIG])


@many
@given(st.lists(tasks | Json, max_size=2) | Json, contexts, configs)
def test_no_task_and_no_context_gives_a_500(
    client: FlaskClient, given_tasks: Any, context: Any, config: str
) -> None:
    body = {**predict_body(config=config), "tasks": given_tasks, "params": {"context": context}}
    answer = client.post("/predict", json=body)
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 200 and isinstance(given_tasks, list):
        assert len(answer.get_json()["results"]) in (0, len(given_tasks))


@st.composite
def torn_configs(draw: st.DrawFn) -> str:
    """A label config in which some text is cut out, doubled or replaced."""
    text = draw(configs)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        between = draw(st.sampled_from(["", text[start:end] * 2]) | st.text(max_size=8))
        text = text[:start] + between + text[end:]
    return text


@many
@given(torn_configs(), st.sampled_from(REAL))
def test_no_label_config_gives_a_500(client: FlaskClient, config: str, body: dict[str, Any]) -> None:
    setup = client.post("/setup", json={"project": "8.1", "schema": config})
    answer = client.post("/predict", json={**body, "label_config": config})
    assert {setup.status_code, answer.status_code} <= {200, 400}, answer.text


known_keys = ["tasks", "params", "project", "label_config", "schema", "extra_params", "action", "task"]
bodies = Json | st.dictionaries(st.sampled_from(known_keys), Json)


@many
@given(st.sampled_from(["/predict", "/setup", "/webhook"]), bodies)
def test_no_json_gives_a_500(client: FlaskClient, path: str, body: Any) -> None:
    assert client.post(path, json=body).status_code in (200, 201, 400)


@many
@given(
    st.binary(max_size=40) | st.sampled_from([b"[" * 100_000, b"9" * 5000, b"1e999", b"NaN", b'"\\ud800"'])
)
def test_no_bytes_give_a_500(client: FlaskClient, body: bytes) -> None:
    for wrapped in (body, b'{"tasks": [{"id": ' + body + b"}]}", b'{"project": ' + body + b"}"):
        for path in ("/predict", "/setup"):
            answer = client.post(path, data=wrapped, content_type="application/json")
            assert answer.status_code in (200, 400), answer.text
