"""Thousands of wrong requests to CVAT's functions and to the field page; see `test_fuzz_server` for more."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from backend.field.app import create_app
from tests.backend.field.conftest import desk_on, settle
from tests.backend.field.kits import clip, make_kit
from tests.backend.test_hostile_requests import Json
from tests.cvat_function.interactor.test_main import CLICK, contents, deployed, junk, likely, requests
from tests.cvat_function.nuclio_fixtures import Function, Reply, base64_of, tiny_weights
from tests.cvat_function.tracker.test_fuzz import FRAMES, body_of
from tests.cvat_function.tracker.tracker_fixtures import EACH, begun, deploy, init, track
from tests.hostile.fuzzing import damaged, many, text_of

KEY = "a-key"
DRAWN = {"points": [[40.0, 30.0]], "labels": [1]}
ACTIONS: list[dict[str, Any]] = [
    {"do": "prompt", "object": None, "labels": ["Ball"], "frame": 0, "spec": DRAWN},
    {"do": "prompt", "object": "o1", "labels": ["Post"], "frame": 2, "spec": {"box": [10, 20, 40, 50]}},
    {"do": "track", "object": None, "reverse": False},
    {"do": "stop"},
    {"do": "resume"},
    {"do": "undo"},
    {"do": "delete", "object": "o1"},
    {"do": "label", "object": "o1", "labels": ["Ball"]},
    {"do": "confirm", "object": "o1", "first": 0, "last": 3},
    {"do": "done", "done": True},
]


def answered(reply: Reply) -> None:
    assert reply.status in (200, 400), reply.text[:2000]
    assert "Traceback" not in reply.text
    if reply.status == 400:
        assert set(reply.body) == {"error"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


def test_fuzzed_interactor(weights: Path) -> None:
    function: Function = deployed(weights)

    @many
    @given(likely | requests | junk | damaged(CLICK, most=3), contents)
    def ask(request: Any, content_type: str) -> None:
        answered(function.send(text_of(request), content_type))

    ask()
    assert function.post(CLICK).status == 200


def test_fuzzed_tracker_and_states(weights: Path) -> None:
    function = deploy(weights)
    states = begun(function, list(EACH))
    samples: list[Callable[[], dict[str, Any]]] = [
        lambda: init([dict(shape) for shape in EACH], FRAMES[0]),
        lambda: track(states, FRAMES[1]),
        lambda: {"image": base64_of(FRAMES[1]), "shapes": [dict(EACH[0]), None], "states": [None, states[1]]},
    ]
    expected = function.post(track(states, FRAMES[1])).text

    @many
    @given(st.integers(0, 2**62))
    def ask(seed: int) -> None:
        answered(function.send(body_of(random.Random(seed), samples)))

    ask()
    assert function.post(track(states, FRAMES[1])).text == expected


@pytest.fixture
def field(tmp_path: Path, weights: Path) -> Iterator[FlaskClient]:
    """The page of a kit with a clip of six frames, for who has the key."""
    kit = make_kit(tmp_path / "kit", clip(tmp_path / "clip.mp4"), weights, video=True)
    with desk_on(kit) as desk:
        client = create_app(desk, KEY, 1234).test_client()
        assert client.get(f"/?key={KEY}").status_code == 303
        yield client
        client.post("/api/tasks/1", json={"do": "stop"})
        settle(desk)


def test_fuzzed_field_page(field: FlaskClient) -> None:
    numbers = st.sampled_from(["1", "1", "1", "0", "-1", "2", "x", "9" * 30, "1/frames/2", "1/pictures/9"])

    @many
    @given(
        damaged(*ACTIONS, most=3) | Json, numbers, st.sampled_from(["application/json"] * 5 + ["text/plain"])
    )
    def ask(body: Any, number: str, kind: str) -> None:
        answer = field.post(f"/api/tasks/{number}", data=text_of(body), content_type=kind)
        assert answer.status_code in (200, 400, 404, 405, 409, 415), answer.text
        assert "Traceback" not in answer.text
        if answer.status_code != 200:
            assert answer.get_json()["error"]["problem"]

    ask()
    assert field.get("/api/tasks/1").status_code == 200
