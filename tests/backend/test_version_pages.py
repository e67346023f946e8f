"""Versions over HTTP, through the whole server: every fact, every switch, every refusal, and reports."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from backend.app import create_app
from backend.logs import Problems
from backend.services import Services
from backend.status_page import StatusPages
from edgetam_model import VersionStore
from tests.backend.server_fixtures import MemoryQueue, services_in
from tests.backend.version_fixtures import PNG, WHY, P, add_version, damage, fine_tuned, line_of, v

ROOT = f"/api/versions/{P}"


def with_pages(folder: Path, token: str = "") -> Services:
    services = services_in(folder, EDGETAM_TOKEN=token)
    queue: Any = MemoryQueue()
    pages = StatusPages.from_settings(services.settings, queue, services.models, Problems())
    return replace(services, pages=pages)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return with_pages(tmp_path)


@pytest.fixture
def store(services: Services) -> VersionStore:
    """v0001 and v0002 served in turn; v0003 is a candidate."""
    line_of(services.models.store, 1, 2)
    add_version(services.models.store, 3, parent=str(v(2)), report=False)
    return services.models.store


@pytest.fixture
def client(services: Services, store: VersionStore) -> FlaskClient:
    return create_app(services).test_client()


def problem_of(answer: TestResponse) -> str:
    assert answer.is_json
    return str(answer.get_json()["error"]["problem"])


def statuses(client: FlaskClient) -> dict[str, str]:
    return {row["label"]: row["status"] for row in client.get(ROOT).get_json()["versions"]}


def test_all_projects_with_their_versions(client: FlaskClient, store: VersionStore) -> None:
    add_version(store, 1, "project-12")
    first, second = client.get("/api/versions").get_json()["projects"]
    assert (first["project"], first["serves"]) == ("project-12", "base")
    assert (second["project"], second["serves"], second["problem"]) == (P, "v0002", "")
    assert second == client.get(ROOT).get_json()
    row = second["versions"][1]
    record = store.get(v(2)).record
    assert row == {
        "name": f"{P}/v0002",
        "label": "v0002",
        "status": "current",
        "created": record.created.timestamp(),
        "size": row["size"],
        "parent": f"{P}/v0001",
        "metrics": {
            "before": 0.61,
            "after": 0.8125,
            "gain": 0.2025,
            "updates": 300,
        },
        "reasons": [WHY],
        "report": True,
        "problem": "",
    }
    assert list(row["metrics"])[:3] == ["before", "after", "gain"]
    assert row["size"] > 1_000_000
    assert [one["report"] for one in second["versions"]] == [True, True, False]


def test_no_versions_are_an_empty_list(tmp_path: Path) -> None:
    client = create_app(with_pages(tmp_path)).test_client()
    assert client.get("/api/versions").get_json() == {"projects": []}


def test_one_version_with_its_record_and_history(client: FlaskClient, store: VersionStore) -> None:
    found = client.get(f"{ROOT}/v0001").get_json()
    assert found["record"]["fingerprint"] == fine_tuned(1).fingerprint()
    assert found["record"]["config"] == {"mode": "adapter"}
    assert (found["name"], found["status"], found["serves"]) == (f"{P}/v0001", "promoted", "v0002")
    assert [(one["before"], one["after"]) for one in found["history"]] == [
        ("base", "v0001"),
        ("v0001", "v0002"),
    ]
    assert found["report"] == ["index.html", "pictures/before and after.png"]
    assert found["content_hash"] == store.get(v(1)).content_hash


def test_promote_roll_back_and_delete(client: FlaskClient, services: Services, store: VersionStore) -> None:
    answer = client.post(f"{ROOT}/v0003/promote", json={"why": "looks right", "over": "v0002"}).get_json()
    assert answer["switch"] | {"time": ""} == {
        "time": "",
        "before": "v0002",
        "after": "v0003",
        "how": "promote",
        "why": "looks right",
    }
    assert answer["project"] == client.get(ROOT).get_json()
    assert services.models.serving("7").label == "v0003"
    assert client.post(f"{ROOT}/rollback", json={}).get_json()["switch"]["after"] == "v0002"
    for target in ("v0003", "base", "v0001"):
        client.post(f"{ROOT}/rollback", json={"to": target})
        assert services.models.serving("7").label == target
    assert client.post(f"{ROOT}/v0003/delete", json={}).get_json() == {"deleted": f"{P}/v0003"}
    assert statuses(client) == {"v0001": "current", "v0002": "promoted"}


def test_a_body_may_be_missing(client: FlaskClient, store: VersionStore) -> None:
    answer = client.post(f"{ROOT}/rollback", data=b"", content_type="application/json")
    assert answer.get_json()["switch"]["after"] == "v0001"


REFUSALS: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/api/versions/project-9", None, 404, "no such project"),
    ("GET", "/api/versions/edgetam", None, 404, "no such project"),
    ("GET", "/api/versions/..", None, 404, "no such project"),
    ("GET", f"{ROOT}/v0009", None, 404, "no such version"),
    ("GET", f"{ROOT}/v00001", None, 404, "no such version"),
    ("GET", f"{ROOT}/x", None, 404, ""),
    ("GET", f"{ROOT}/v0001/x", None, 404, ""),
    ("POST", f"{ROOT}/v0009/promote", {}, 404, "no such version"),
    ("POST", "/api/versions/project-9/rollback", {}, 404, "no such project"),
    ("POST", "/api/versions", {}, 405, "expected GET"),
    ("POST", ROOT, {}, 405, "expected GET"),
    ("POST", f"{ROOT}/v0001", {}, 405, "expected GET"),
    ("POST", f"{ROOT}/v0001/report/index.html", {}, 405, "expected GET"),
    ("GET", f"{ROOT}/rollback", None, 405, "expected POST"),
    ("GET", f"{ROOT}/v0001/promote", None, 405, "expected POST"),
    ("POST", f"{ROOT}/v0003/promote", {"over": "v0001"}, 409, "expected v0001 to serve project-7, found"),
    ("POST", f"{ROOT}/rollback", {"to": "v0003"}, 409, "version that served before"),
    ("POST", f"{ROOT}/v0002/delete", {}, 409, "serves project-7, or is the parent"),
    ("POST", f"{ROOT}/v0001/delete", {}, 409, "serves project-7, or is the parent"),
    ("POST", f"{ROOT}/rollback", {"to": "../v0001"}, 400, "match pattern"),
    ("POST", f"{ROOT}/rollback", {"too": "v0001"}, 400, "not permitted"),
    ("POST", f"{ROOT}/v0003/promote", {"why": 7}, 400, "string"),
    ("POST", f"{ROOT}/v0003/promote", {"why": "x" * 501}, 400, "500"),
    ("POST", f"{ROOT}/v0003/delete", [], 400, "JSON object"),
]


def test_refusals(client: FlaskClient, store: VersionStore) -> None:
    before = store.state(P), store.names(P)
    for method, path, body, status, words in REFUSALS:
        answer = client.open(path, method=method, json=body)
        assert (answer.status_code, words in problem_of(answer)) == (status, True), (path, problem_of(answer))
    assert (store.state(P), store.names(P)) == before


def test_a_project_that_never_served_anything(tmp_path: Path) -> None:
    services = with_pages(tmp_path)
    add_version(services.models.store, 1)
    answer = create_app(services).test_client().post(f"{ROOT}/rollback", json={})
    assert (answer.status_code, problem_of(answer)) == (409, f"{P}: nothing was promoted yet")


def test_what_is_damaged_is_told_and_never_promoted(client: FlaskClient, store: VersionStore) -> None:
    damage(store, v(3))
    answer = client.post(f"{ROOT}/v0003/promote", json={})
    assert answer.status_code == 409
    assert "damaged" in problem_of(answer)
    damage(store, v(1), "version.json")
    view = client.get(ROOT).get_json()
    assert "damaged" in view["versions"][0]["problem"]
    assert view["versions"][0]["created"] == 0
    assert client.get(f"{ROOT}/v0001").status_code == 409
    assert (view["serves"], view["problem"]) == ("v0002", "")


def test_a_current_version_that_cannot_be_loaded_is_told(
    client: FlaskClient, services: Services, store: VersionStore
) -> None:
    damage(store, v(2))
    services.models.serving("7").get(60)
    view = client.get(ROOT).get_json()
    assert view["serves"] == "v0002"
    assert view["problem"] == view["versions"][1]["problem"]
    assert "damaged" in view["problem"]


def test_one_damaged_pointer_hides_no_other_project(client: FlaskClient, store: VersionStore) -> None:
    line_of(store, 1, project="project-8")
    (store.root / P / "current.json").write_text("{")
    first, second = client.get("/api/versions").get_json()["projects"]
    assert (first["project"], "damaged" in first["problem"], first["versions"]) == (P, True, [])
    assert (second["project"], second["serves"]) == ("project-8", "v0001")
    assert client.get(f"{ROOT}/v0001").status_code == 409
    assert client.post(f"{ROOT}/rollback", json={}).status_code == 409


def test_versions_are_for_those_who_know_the_password(tmp_path: Path) -> None:
    services = with_pages(tmp_path, "s3cret")
    line_of(services.models.store, 1)
    client = create_app(services).test_client()
    known = {"Authorization": "Bearer s3cret"}
    for path in ("", f"/{P}", f"/{P}/v0001", f"/{P}/v0001/report/index.html"):
        assert client.get(f"/api/versions{path}").status_code == 401
        assert client.get(f"/api/versions{path}", headers=known).status_code == 200
    assert client.post(f"{ROOT}/rollback", json={}).status_code == 401
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = client.post(f"{ROOT}/rollback", data=b"{}", content_type=kind, headers=known)
        assert answer.status_code == 400
    assert services.models.serving("7").label == "v0001"


def test_a_report_shows_itself_and_runs_nothing(client: FlaskClient) -> None:
    for path in ("report/index.html", "report/"):
        answer = client.get(f"{ROOT}/v0001/{path}")
        assert (answer.data, answer.mimetype) == (b"<p>version of seed 1</p>", "text/html")
        policy = answer.headers["Content-Security-Policy"]
        assert answer.headers.getlist("Content-Security-Policy") == [policy]
        assert "default-src 'none'" in policy
        assert "img-src 'self' data:;" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    picture = client.get(f"{ROOT}/v0001/report/pictures/before%20and%20after.png")
    assert (picture.data, picture.content_type) == (PNG, "image/png")
    assert "img-src" not in picture.headers["Content-Security-Policy"]


def test_other_files_are_nobodys(client: FlaskClient, store: VersionStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret.html"
    secret.write_text("secret")
    folder = store.get(v(1)).folder
    (folder / "report" / "link.html").symlink_to(secret)
    (folder / "report" / "later.html").write_text("not of the version")
    (folder / "report" / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "report" / "pipe.html")
    tries = ["link.html", "later.html", "linked/secret.html", "pipe.html", "pictures", "pictures/", "no.html"]
    tries += [
        "../version.json",
        "../../v0002/report/index.html",
        "..%2f..%2fcurrent.json",
        "%2e%2e/SHA256SUMS",
    ]
    tries += ["pictures/../index.html", "./index.html", "/index.html", "index.html/", "index.html%00.png"]
    tries += [
        f"/{quote(str(secret), safe='')}",
        "pictures%5c..%5cindex.html",
        ".hidden.html",
        "index.html%0a",
    ]
    for path in tries:
        answer = client.get(f"{ROOT}/v0001/report/{path}")
        assert answer.status_code == 404, path
        assert "secret" not in answer.text
    assert client.get(f"{ROOT}/v0003/report/index.html").status_code == 404


def test_a_report_that_changed_is_not_shown(client: FlaskClient, store: VersionStore) -> None:
    path = store.get(v(1)).folder / "report" / "index.html"
    path.write_text(path.read_text() + "<script>alert(1)</script>")
    assert client.get(f"{ROOT}/v0001/report/index.html").status_code == 404


@hypothesis_settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.sampled_from(
            ["..", ".", "", "report", "index.html", "pictures", "v0001", "v0002", P, "version.json"]
        )
        | st.text(max_size=6),
        max_size=6,
    ),
    st.sampled_from(["GET", "POST"]),
)
def test_whatever_is_asked_for_gives_nothing_but_what_is_of_a_report(
    client: FlaskClient, store: VersionStore, words: list[str], method: str
) -> None:
    """Promote and the like are not among the words: nothing may change, and no other file be given."""
    before = store.state(P), store.names(P)
    for root in (f"{ROOT}/v0001/report", ROOT, "/api/versions"):
        answer = client.open(f"{root}/{quote('/'.join(words))}", method=method, json={})
        assert answer.status_code in (200, 404, 405), answer.text
        if answer.mimetype == "application/json":
            json.loads(answer.data)
        else:
            assert answer.data in (b"<p>version of seed 1</p>", b"<p>version of seed 2</p>", PNG)
    assert (store.state(P), store.names(P)) == before
