"""The HTTP edge: who may come in, and what goes out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from backend.field.app import create_app, field_html
from backend.field.desk import Desk
from tests.backend.field.conftest import desk_on
from tests.backend.field.kits import make_kit

KEY = "a-key"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, still: Path, weights: Path) -> Iterator[Desk]:
    with desk_on(make_kit(tmp_path_factory.mktemp("app") / "kit", still, weights)) as desk:
        yield desk


@pytest.fixture
def stranger(desk: Desk) -> FlaskClient:
    return create_app(desk, KEY, 1234).test_client()


@pytest.fixture
def client(stranger: FlaskClient) -> FlaskClient:
    assert stranger.get(f"/?key={KEY}").status_code == 303
    return stranger


@pytest.mark.parametrize(
    "path", ["/", "/?key=", "/?key=other", "/api/tasks", "/api/tasks/1/pictures/0", "/x"]
)
def test_without_the_key_nothing_is_told(stranger: FlaskClient, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 403
    assert "edgetam field run" in answer.get_json()["error"]["problem"]
    assert stranger.post("/api/tasks/1", json={"do": "undo"}).status_code == 403


def test_the_key_is_not_enough_below_the_page(stranger: FlaskClient) -> None:
    assert stranger.get(f"/api/tasks?key={KEY}").status_code == 403


def test_the_cookie_is_kept_from_scripts_and_other_sites(stranger: FlaskClient) -> None:
    cookie = stranger.get(f"/?key={KEY}").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert cookie.startswith("edgetam-field-1234=")


def test_the_page_runs_nothing_but_itself(client: FlaskClient) -> None:
    html = client.get("/").get_data(as_text=True)
    assert html == field_html()
    assert re.search(r"script-src 'sha256-[^']+'; style-src 'sha256-[^']+'", html)
    assert not re.findall(r"https?://|\bon\w+=|style=|src=\"(?!data:)", html)
    assert "innerHTML" not in html


def test_answers_are_guarded(client: FlaskClient) -> None:
    answer = client.get("/api/tasks")
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert client.get("/api/tasks/1/pictures/0").headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_only_json_is_taken(client: FlaskClient) -> None:
    answer = client.post("/api/tasks/1", data='{"do":"undo"}', content_type="text/plain")
    assert (answer.status_code, answer.get_json()["error"]["field"]) == (400, "Content-Type")
    assert client.post("/api/tasks/1", data="{", content_type="application/json").status_code == 400
    assert client.post("/api/tasks/1", json={"do": "undo"}).status_code == 400  # nothing to undo
    assert client.get("/api/tasks/7").status_code == 400
    assert client.get("/api/nothing").status_code == 404
