"""Connecting a project, with an imitation of Label Studio: nothing twice, nothing lost, refusals in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from backend.access import Access
from backend.connect import Connection, Plan, Wish, carry_out, make_plan
from backend.label_config_edit import adapted_config
from backend.label_studio import LabelStudio, LabelStudioError
from edgetam_model import InputError
from tests.backend.test_label_studio import LEGACY, Imitation, reply
from tests.backend.web_fixtures import Answer, Asked, WebServer, local_fetcher, serving

BACKEND = "http://10.0.0.5:9090"
OWN = """<View>
  <Labels name="own" toName="v"><Label value="Fish"/></Labels>
  <Video name="v" value="$video"/>
  <VideoRectangle name="r" toName="v"/>
</View>"""
BLOCKED = reply({"detail": "URL resolves to a reserved network address (block: 10.0.0.0/8)"}, 403)


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@pytest.fixture
def server(web: WebServer) -> Imitation:
    found = Imitation(web)
    found.items["projects"].append(
        {"id": 1, "title": "Reef", "label_config": OWN, "total_annotations_number": 4}
    )
    return found


@pytest.fixture
def studio(web: WebServer, server: Imitation) -> LabelStudio:
    return LabelStudio(web.url, SecretStr(LEGACY), local_fetcher(web))


def connect(studio: LabelStudio, wish: Wish, folder: Path) -> tuple[Plan, Connection]:
    plan = make_plan(studio, wish)
    return plan, carry_out(studio, wish, plan, folder, lambda line: None)


def test_a_plan_changes_nothing(studio: LabelStudio, server: Imitation) -> None:
    plan = make_plan(studio, Wish(BACKEND, project=1))
    assert plan.needs_consent
    assert {asked.method for asked in server.web.asked} == {"GET"}
    assert '+    <Label value="Track" hotkey="t"/>' in plan.diff
    assert not [line for line in plan.diff.splitlines()[2:] if line.startswith("-")]


def test_an_own_project_is_adapted_and_its_config_kept(
    studio: LabelStudio, server: Imitation, tmp_path: Path
) -> None:
    _, done = connect(studio, Wish(BACKEND, project=1), tmp_path)
    assert done.backup is not None
    assert done.backup.read_text() == OWN
    assert server.items["projects"][0]["label_config"] == adapted_config(OWN, "video")
    (backend,) = server.items["ml"]
    assert backend["url"] == BACKEND
    assert backend["is_interactive"] is True
    (webhook,) = server.items["webhooks"]
    assert webhook["url"] == f"{BACKEND}/webhook"
    assert webhook["actions"] == ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]
    assert done.url == f"{server.web.url}/projects/1/data"


def test_the_backup_is_written_before_anything_is_changed(
    studio: LabelStudio, server: Imitation, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="backup-dir"):
        connect(studio, Wish(BACKEND, project=1), blocked)
    assert {asked.method for asked in server.web.asked} == {"GET"}


def test_a_second_run_adds_nothing(studio: LabelStudio, server: Imitation, tmp_path: Path) -> None:
    connect(studio, Wish(BACKEND, project=1), tmp_path)
    plan, done = connect(studio, Wish(BACKEND + "/", project=1), tmp_path)
    assert not plan.changes
    assert not plan.needs_consent
    assert done.backup is None
    assert (len(server.items["ml"]), len(server.items["webhooks"])) == (1, 1)


def test_a_project_is_created_once(studio: LabelStudio, server: Imitation, tmp_path: Path) -> None:
    wish = Wish(BACKEND, create="Cells", kind="image", labels=("Nucleus",))
    plan, done = connect(studio, wish, tmp_path)
    assert not plan.needs_consent
    assert done.project == 2
    assert server.items["projects"][1]["label_config"] == adapted_config("", "image", ["Nucleus"])
    with pytest.raises(InputError, match="--project 2"):
        make_plan(studio, wish)


def test_user_and_password_reach_label_studio(studio: LabelStudio, server: Imitation, tmp_path: Path) -> None:
    connect(studio, Wish(BACKEND, project=1, user="ls", password=SecretStr("pass-word")), tmp_path)
    assert server.items["ml"][0]["basic_auth_pass"] == "pass-word"
    header = server.items["webhooks"][0]["headers"]["Authorization"]
    Access("ls", SecretStr("pass-word")).check(header)  # as the server does with what Label Studio sends


def test_a_blocked_address_says_which_settings_allow_it(
    studio: LabelStudio, server: Imitation, tmp_path: Path
) -> None:
    server.refusals["POST", "/api/ml/"] = BLOCKED
    with pytest.raises(LabelStudioError) as caught:
        connect(studio, Wish(BACKEND, project=1), tmp_path)
    assert "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false" in str(caught.value)
    assert "edgetam serve" in str(caught.value)


def test_a_backend_that_was_kept_though_refused_is_connected(
    studio: LabelStudio, server: Imitation, tmp_path: Path
) -> None:
    """As 1.23.2 does where only its webhook is blocked."""

    def keep_and_refuse(asked: Asked, _match: re.Match[str]) -> Answer:
        if asked.method == "POST":
            server.items["ml"].append({"id": 1, "state": "CO", **json.loads(asked.body)})
            return BLOCKED
        return reply(server.items["ml"])

    server.patterns.insert(0, ("/api/ml/", keep_and_refuse))
    server.refusals["POST", "/api/webhooks/"] = BLOCKED
    _, done = connect(studio, Wish(BACKEND, project=1), tmp_path)
    assert done.state == "connected"
    (warning,) = done.warnings
    assert warning.startswith("no webhook")
    assert "LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false" in warning


def test_a_backend_that_label_studio_cannot_reach_is_told(
    studio: LabelStudio, server: Imitation, tmp_path: Path
) -> None:
    server.items["ml"].append({"id": 1, "url": BACKEND, "state": "DI"})
    _, done = connect(studio, Wish(BACKEND, project=1), tmp_path)
    assert done.state == "not reachable from Label Studio"
    assert any("is `edgetam serve` running" in line for line in done.warnings)


@pytest.mark.parametrize(
    ("url", "blocked", "elsewhere"),
    [
        ("http://10.0.0.5:9090", True, False),
        ("http://localhost:9090", True, True),
        ("http://127.0.0.1:9090", True, False),  # Label Studio is there too
        ("http://edgetam.example.org", False, False),
    ],
)
def test_local_addresses_are_warned_of(studio: LabelStudio, url: str, blocked: bool, elsewhere: bool) -> None:
    warnings = " ".join(make_plan(studio, Wish(url, project=1)).warnings)
    assert ("BLOCK_LOCAL_IP" in warnings) == blocked
    assert ("own machine" in warnings) == elsewhere


def test_another_server_than_label_studio_is_told(studio: LabelStudio, server: Imitation) -> None:
    server.refusals["GET", "/api/projects/"] = Answer(status=404)
    with pytest.raises(LabelStudioError, match=r"is no Label Studio .*--backend"):
        make_plan(studio, Wish(BACKEND, project=1))


def test_a_label_studio_that_does_not_run_is_told(web: WebServer) -> None:
    away = LabelStudio("http://127.0.0.1:1", SecretStr(LEGACY), local_fetcher(web, WebServer(port=1)))
    with pytest.raises(LabelStudioError, match=r"127.0.0.1:1: cannot be reached.* Is it running"):
        make_plan(away, Wish(BACKEND, project=1))


def test_unknown_projects_name_those_that_are_there(studio: LabelStudio) -> None:
    with pytest.raises(InputError, match=r"1 \(Reef\)"):
        make_plan(studio, Wish(BACKEND, project=9))


@pytest.mark.parametrize(
    ("xml", "kind"), [("", "video"), ('<View><Image name="i" value="$i"/></View>', "image")]
)
def test_the_kind_comes_from_the_config(studio: LabelStudio, server: Imitation, xml: str, kind: str) -> None:
    server.items["projects"][0]["label_config"] = xml
    assert f"${kind}" in make_plan(studio, Wish(BACKEND, project=1)).after or kind == "image"


def test_another_kind_of_config_has_to_be_named(studio: LabelStudio, server: Imitation) -> None:
    server.items["projects"][0]["label_config"] = '<View><Text name="t" value="$t"/></View>'
    with pytest.raises(InputError, match="kind"):
        make_plan(studio, Wish(BACKEND, project=1))
    assert "VideoRectangle" in make_plan(studio, Wish(BACKEND, project=1, kind="video")).after


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("project", {}),
        ("project", {"project": 1, "create": "x"}),
        ("backend", {"project": 1, "backend": "ftp://x"}),
        ("backend", {"project": 1, "backend": "http://u:p@x"}),
    ],
)
def test_bad_wishes_name_the_field(field: str, arguments: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        Wish(**{"backend": BACKEND, **arguments})  # type: ignore[arg-type]
    assert caught.value.field == field
