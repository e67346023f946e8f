"""Thousands of wrong requests to a real server: each is answered or refused in words, /health stays quick.

500 for each door; more by `EDGETAM_FUZZ=10000 python -m pytest --timeout=0 tests/hostile -k fuzz -s`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backend.server_fixtures import IMAGE_CONFIG, VIDEO_CONFIG, click, image_task, picture, predict_body
from tests.backend.test_hostile_requests import (
    REAL,
    Json,
    contexts,
    nearly_real,
    tasks,
    torn_configs,
)
from tests.hostile.doors import Doors, open_doors
from tests.hostile.fuzzing import Client, damaged, many, text_of
from tests.hostile.health import watching

HEALTHY = 1.0  # seconds that /health may take, whatever else goes on

SETUP = {
    "project": "7.1700000000",
    "schema": IMAGE_CONFIG,
    "hostname": "http://localhost:8080",
    "access_token": "0123456789abcdef",
    "extra_params": {"a": 1},
}
EVENT = {
    "action": "ANNOTATION_CREATED",
    "task": {"id": 3, "data": {"image": "a.png"}},
    "project": {"id": 7, "title": "x"},
    "annotation": {"id": 5, "result": [click(50, 50)]},
    "annotations": [{"id": 5}, {"id": 6}],
}
EVENTS = [
    EVENT,
    {**EVENT, "action": "START_TRAINING"},
    {"action": "ANNOTATIONS_DELETED", "project": {"id": 8}},
]
ADDRESSES = [
    *(
        "a.png",
        "/data/upload/1/a.png",
        "/data/local-files/?d=a.png",
        "s3://bucket/a.png",
        "http://127.0.0.1/a",
    ),
    *(
        "http://[::1]:80/a?b#c",
        "data:image/png;base64,iVBORw0KGgo=",
        "file:///etc/passwd",
        "../a.png",
        "/a\0b",
    ),
]
PATHS = ["/api/jobs", "/api/jobs/x/cancel", "/api/jobs/x/retry", "/api/jobs/x/thumbnail", "/api/workers"]
PATHS += [
    "/api/failures",
    "/api/versions",
    "/api/versions/7/v0001/promote",
    "/api/versions/7/rollback",
    "/versions",
]
PLENTY = {
    "EDGETAM_QUEUE_LIMIT": "1000000",
    "EDGETAM_FIT_AFTER": "1000000",
    "EDGETAM_RATE_LIMIT": "0",
}  # a full queue would hide the rest
KINDS = [
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "",
]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "media").mkdir()
    picture(folder / "media" / "a.png")
    with open_doors(folder, PLENTY, works=False) as doors:
        yield doors
        assert doors.alive()


@pytest.fixture
def client(doors: Doors) -> Iterator[Client]:
    host, _, port = doors.url.removeprefix("http://").partition(":")
    client = Client(host, int(port))
    with watching(doors.url) as health:
        yield client
        body = predict_body(image_task("a.png"), context={"result": [click(50, 50)]})
        assert client.ask("POST", "/predict", text_of(body))[0] == 200  # whatever came before
        client.close()
    asked, slow = sum(client.statuses.values()), sorted(health)[-5:]
    print(f"{asked} requests, {dict(client.statuses)}; {len(health)} looks at /health, slowest {slow}")  # noqa: T201
    assert health
    assert slow[-1] < HEALTHY


def test_fuzzed_predictions(client: Client) -> None:
    shaped = st.fixed_dictionaries(
        {
            "tasks": st.lists(tasks | Json, max_size=2) | Json,
            "params": st.fixed_dictionaries({"context": contexts}),
        },
        optional={"label_config": st.sampled_from([IMAGE_CONFIG, VIDEO_CONFIG]), "project": Json},
    )

    @many
    @given(nearly_real() | damaged(*REAL) | shaped)
    def ask(body: dict[str, Any]) -> None:
        status, data = client.ask("POST", "/predict", text_of(body))
        if status == 200:
            assert len(json.loads(data)["results"]) in (0, len(body["tasks"]))

    ask()


def test_fuzzed_setups_and_configs(client: Client) -> None:
    @many
    @given(damaged(SETUP) | torn_configs().map(lambda text: {**SETUP, "schema": text}) | Json)
    def ask(body: Any) -> None:
        client.ask("POST", "/setup", text_of(body))

    ask()


def test_fuzzed_configs_in_predictions(client: Client) -> None:
    @many
    @given(torn_configs(), st.sampled_from(REAL))
    def ask(config: str, body: dict[str, Any]) -> None:
        client.ask("POST", "/predict", text_of({**body, "label_config": config}))

    ask()


def test_fuzzed_events(client: Client) -> None:
    @many
    @given(damaged(*EVENTS, most=6) | Json)
    def ask(body: Any) -> None:
        client.ask("POST", "/webhook", text_of(body))

    ask()


def test_fuzzed_bytes_and_kinds(client: Client) -> None:
    odd = [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 5000,
        b"1e999",
        b"NaN",
        b'"\\ud800"',
        b"\xff\xfe{}",
        b"{}" * 9,
    ]

    @many
    @given(
        st.sampled_from(["/predict", "/setup", "/webhook"]),
        st.binary(max_size=60)
        | st.sampled_from(odd)
        | damaged(*REAL, SETUP, EVENT).map(lambda d: text_of(d)[:-9]),
        st.sampled_from(KINDS),
    )
    def ask(path: str, body: bytes, kind: str) -> None:
        client.ask("POST", path, body, kind)

    ask()


def test_fuzzed_media_addresses(client: Client) -> None:
    @st.composite
    def torn(draw: st.DrawFn) -> str:
        text = draw(st.sampled_from(ADDRESSES))
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 6)))
        return (
            text[:at]
            + draw(st.text(max_size=6) | st.sampled_from(["@", "\\", "%00", "//", "..", "#"]))
            + text[end:]
        )

    @many
    @given(torn() | st.text(max_size=40) | Json)
    def ask(value: Any) -> None:
        task = image_task("") | {"data": {"image": value}}
        client.ask("POST", "/predict", text_of(predict_body(task, context={"result": [click(50, 50)]})))

    ask()


def test_fuzzed_pages(client: Client) -> None:
    safe = st.text("abcxyz019-_./%~:;=&?", max_size=20)

    @many
    @given(
        st.sampled_from(PATHS) | st.builds(lambda path, more: path + more, st.sampled_from(PATHS), safe),
        st.sampled_from(["GET", "POST"]),
        Json,
        st.sampled_from(KINDS[:2]),
    )
    def ask(path: str, method: str, body: Any, kind: str) -> None:
        client.ask(method, path, text_of(body) if method == "POST" else b"", kind)

    ask()


def test_half_a_surrogate_pair_is_a_name_like_others(client: Client) -> None:
    """Found by the events' fuzzer: JSON may hold what UTF-8 may not."""
    for field in ("annotation", "task"):
        body = {"action": "ANNOTATION_CREATED", "project": {"id": 7}, field: {"id": "\udcff"}}
        assert client.ask("POST", "/webhook", text_of(body))[0] == 201
