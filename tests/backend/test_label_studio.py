"""The API client against an imitation that keeps predictions, pages lists, and checks tokens as measured."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from backend.fetching import Request
from backend.label_studio import LabelStudio, LabelStudioError
from backend.label_studio_records import NewBackend, NewPrediction
from backend.label_studio_token import Token
from backend.settings import Settings
from edgetam_model import InputError
from tests.backend.web_fixtures import Answer, Asked, WebServer, local_fetcher, serving

LEGACY = "0123456789abcdef0123456789abcdef01234567"
REGION = {
    "id": "r1",
    "type": "videorectangle",
    "value": {"sequence": [{"frame": 1, "x": 1.5}], "labels": ["ä"]},
}


def jwt(**claims: object) -> str:
    parts = ({"alg": "HS256"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


PAT = jwt(token_type="refresh", exp=4e9)


class Imitation:
    """A Label Studio with one task and one project."""

    def __init__(self, web: WebServer, base: str = "") -> None:
        self.web = web
        self.accepted = {f"Token {LEGACY}"}
        self.life_s = 300.0
        self.exchanges = 0
        self.predictions: dict[int, dict[str, Any]] = {}
        self.items: dict[str, list[dict[str, Any]]] = {"ml": [], "webhooks": [], "projects": []}
        self.refusals: dict[tuple[str, str], Answer] = {}
        self.patterns: list[tuple[str, Callable[[Asked, re.Match[str]], Answer]]] = [
            ("/api/predictions/", self.all_predictions),
            (r"/api/predictions/(\d+)/", self.one_prediction),
            (r"/api/(ml|webhooks|projects)/", self.all_items),
            (r"/api/(ml|webhooks|projects)/(\d+)/?", self.one_item),
            ("/api/tasks/", self.tasks_of_project),
            (r"/api/tasks/7/", lambda asked, match: reply({"id": 7, "data": {"video": "x"}, "drafts": [{}]})),
            (r"/api/projects/1/import", lambda asked, match: reply({"task_count": 1, "task_ids": [7]}, 201)),
        ]
        web.routes = Routes(self.route, base)

    def route(self, asked: Asked, path: str) -> Answer:
        if path == "/api/token/refresh/":
            return self.exchange(asked)
        if asked.headers.get("Authorization") not in self.accepted:
            return reply({"detail": "Invalid token."}, 401)
        if refusal := self.refusals.get((asked.method, path)):
            return refusal
        for pattern, answer in self.patterns:
            if match := re.fullmatch(pattern, path):
                return answer(asked, match)
        return reply({"detail": "Not found."}, 404)

    def exchange(self, asked: Asked) -> Answer:
        if "Authorization" in asked.headers or json.loads(asked.body) != {"refresh": PAT}:
            return reply({"detail": "Token is invalid"}, 401)
        self.exchanges += 1
        access = jwt(token_type="access", exp=time.time() + self.life_s, n=self.exchanges)
        self.accepted = {f"Bearer {access}"}
        return reply({"access": access})

    def all_predictions(self, asked: Asked, match: re.Match[str]) -> Answer:
        if asked.method == "POST":
            made = {"id": max(self.predictions, default=0) + 1, **json.loads(asked.body)}
            self.predictions[made["id"]] = made
            return reply(made, 201)
        assert "task=7" in asked.path
        return reply(list(self.predictions.values()))

    def tasks_of_project(self, asked: Asked, match: re.Match[str]) -> Answer:
        """The Data Manager's list: task 7, whatever its project is called, where it is among the chosen."""
        query = parse_qs(urlsplit(asked.path).query)
        if query["project"][0] not in ("1", "7"):
            return reply({"detail": "No Project matches the given query."}, 404)
        chosen = json.loads(query["query"][0])["selectedItems"]
        assert chosen["all"] is False
        found = [{"id": 7, "data": {"video": "x"}, "project": 1}] if 7 in chosen["included"] else []
        return reply({"total": len(found), "tasks": found})

    def one_prediction(self, asked: Asked, match: re.Match[str]) -> Answer:
        assert asked.method == "DELETE"
        gone = self.predictions.pop(int(match[1]), None)
        return Answer(status=204) if gone else reply({"detail": "Not found."}, 404)

    def all_items(self, asked: Asked, match: re.Match[str]) -> Answer:
        items = self.items[match[1]]
        if asked.method == "POST":
            items.append({"id": len(items) + 1, **json.loads(asked.body)})
            return reply(items[-1], 201)
        if match[1] != "projects":
            return reply(items)
        page = int(re.findall(r"page=(\d+)", asked.path)[0])
        more = page * 100 < len(items)
        return reply(
            {
                "count": len(items),
                "next": "x" if more else None,
                "results": items[page * 100 - 100 : page * 100],
            }
        )

    def one_item(self, asked: Asked, match: re.Match[str]) -> Answer:
        item = self.items[match[1]][int(match[2]) - 1]
        if asked.method == "PATCH":
            item |= json.loads(asked.body)
        return reply(item)


class Routes(dict[str, Any]):
    """Every path leads to the imitation, below the path it is mounted at."""

    def __init__(self, route: Callable[[Asked, str], Answer], base: str) -> None:
        super().__init__()
        self.route, self.base = route, base

    def get(self, path: str, default: Any = None) -> Any:
        if not path.startswith(self.base):
            return default
        return lambda asked: self.route(asked, path.removeprefix(self.base))


def reply(content: object, status: int = 200) -> Answer:
    return Answer(json.dumps(content).encode(), status, {"Content-Type": "application/json"})


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@pytest.fixture
def imitation(web: WebServer) -> Imitation:
    return Imitation(web)


@pytest.fixture
def client(imitation: Imitation) -> LabelStudio:
    return connected(imitation.web)


def connected(web: WebServer, token: str = LEGACY, base: str = "") -> LabelStudio:
    return LabelStudio(f"{web.url}{base}", SecretStr(token), local_fetcher(web))


def prediction(score: float = 0.5, version: str = "nano-1") -> NewPrediction:
    return NewPrediction((REGION,), score, version)


def test_a_legacy_token_is_sent_as_it_is(client: LabelStudio, imitation: Imitation) -> None:
    task = client.get_task(7)
    assert (task.id, task.data, task.drafts, task.annotations) == (7, {"video": "x"}, ({},), ())
    assert imitation.web.asked[0].headers["Authorization"] == f"Token {LEGACY}"


def test_a_personal_access_token_is_exchanged_once(imitation: Imitation) -> None:
    client = connected(imitation.web, PAT)
    for _ in range(3):
        client.get_task(7)
    assert imitation.exchanges == 1
    assert all(PAT not in asked.headers.get("Authorization", "") for asked in imitation.web.asked)


def test_an_access_token_is_renewed_before_it_ends(imitation: Imitation) -> None:
    imitation.life_s = 29
    client = connected(imitation.web, PAT)
    client.get_task(7)
    client.get_task(7)
    assert imitation.exchanges == 2


def test_an_access_token_is_renewed_when_it_is_refused(imitation: Imitation) -> None:
    client = connected(imitation.web, PAT)
    client.get_task(7)
    imitation.accepted = set()
    assert client.get_task(7).id == 7
    assert imitation.exchanges == 2


def test_a_refused_upload_is_sent_again_whole(imitation: Imitation, tmp_path: Path) -> None:
    client = connected(imitation.web, PAT)
    client.get_task(7)
    imitation.accepted = set()
    (tmp_path / 'a".mp4').write_bytes(b"\r\n--content")
    assert client.import_file(1, tmp_path / 'a".mp4') == (7,)
    first, _, second = imitation.web.asked[-3:]
    assert first.body == second.body
    assert b'filename="a_.mp4"' in first.body
    assert b"\r\n\r\n\r\n--content\r\n--" in first.body
    with pytest.raises(InputError):
        client.import_file(1, tmp_path / "missing")


def test_a_revoked_personal_access_token_is_told_in_words(imitation: Imitation) -> None:
    client = connected(imitation.web, jwt(token_type="refresh", other=1))
    with pytest.raises(LabelStudioError, match="refused the token") as caught:
        client.get_task(7)
    assert caught.value.status == 401


def test_a_wrong_token_is_told_in_words_and_not_repeated(imitation: Imitation) -> None:
    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_API_KEY") as caught:
        connected(imitation.web, "hunter2").get_task(7)
    assert caught.value.status == 401
    assert "hunter2" not in str(caught.value)
    assert len(imitation.web.asked) == 1


@given(st.text() | st.lists(st.text(), min_size=3, max_size=3).map(".".join))
def test_any_text_is_a_token_of_some_kind(text: str) -> None:
    header = Token(SecretStr(text), lambda refresh: "access").header()
    assert header in (f"Token {text}", f"Bearer {text}", "Bearer access")


def test_a_prediction_is_stored_once(client: LabelStudio, imitation: Imitation) -> None:
    first = client.create_prediction(7, prediction())
    assert client.create_prediction(7, prediction()) == first
    stored = imitation.predictions[first]
    assert (stored["result"], stored["score"], stored["model_version"]) == ([REGION], 0.5, "nano-1")
    assert len(imitation.predictions) == 1


def test_a_better_prediction_replaces_its_own_kind_only(client: LabelStudio, imitation: Imitation) -> None:
    other = client.create_prediction(7, prediction(version="nano-2"))
    client.create_prediction(7, prediction(0.5))
    newest = client.create_prediction(7, prediction(0.9))
    assert set(imitation.predictions) == {other, newest}
    assert imitation.predictions[newest]["score"] == 0.9


def test_duplicates_of_a_crash_or_a_race_are_tidied_up(client: LabelStudio, imitation: Imitation) -> None:
    kept = {"task": 7, "result": [REGION], "score": 0.5, "model_version": "nano-1"}
    imitation.predictions = {1: {"id": 1, **kept, "result": []}, 2: {"id": 2, **kept}}
    assert client.create_prediction(7, prediction()) == 2
    assert set(imitation.predictions) == {2}


def test_predictions_of_other_tasks_are_left_alone(client: LabelStudio, imitation: Imitation) -> None:
    imitation.predictions = {1: {"id": 1, "task": 8, "result": [], "model_version": "nano-1", "score": 0.5}}
    client.create_prediction(7, prediction())
    assert set(imitation.predictions) == {1, 2}


def test_deleting_what_is_gone_is_no_error(client: LabelStudio) -> None:
    client.delete_prediction(99)


def test_lists_in_pages_come_whole(client: LabelStudio, imitation: Imitation) -> None:
    imitation.items["projects"] = [{"id": n, "title": f"p{n}"} for n in range(1, 251)]
    assert [project.id for project in client.list_projects()] == list(range(1, 251))


def test_a_project_is_made_and_changed(client: LabelStudio) -> None:
    made = client.create_project("Clips", "<View/>")
    assert client.get_project(made.id) == made
    assert client.update_project(made.id, "<View><Video/></View>").label_config == "<View><Video/></View>"


def test_a_backend_is_attached_once_and_then_brought_up_to_date(
    client: LabelStudio, imitation: Imitation
) -> None:
    backend = NewBackend("http://edgetam:9090", user="me", password=SecretStr("hunter2"))
    first = client.connect_backend(1, backend)
    assert client.connect_backend(1, NewBackend("http://edgetam:9090/", title="New")).id == first.id
    assert len(imitation.items["ml"]) == 1
    assert imitation.items["ml"][0]["basic_auth_pass"] == "hunter2"
    patch = imitation.web.asked[-1]
    assert patch.method == "PATCH"
    assert json.loads(patch.body)["url"] == "http://edgetam:9090/"
    assert "hunter2" not in repr(backend)


def test_a_webhook_is_added_once(client: LabelStudio, imitation: Imitation) -> None:
    first = client.connect_webhook(1, "http://edgetam:9090/webhook")
    again = client.connect_webhook(1, "http://edgetam:9090/webhook", ["ANNOTATION_CREATED"])
    assert again.id == first.id
    assert again.actions == ("ANNOTATION_CREATED",)
    assert not again.send_for_all_actions
    assert len(imitation.items["webhooks"]) == 1


def test_a_webhook_sends_the_password_and_keeps_other_headers(
    client: LabelStudio, imitation: Imitation
) -> None:
    """Label Studio makes webhooks without headers itself, when a backend is attached."""
    url = "http://edgetam:9090/webhook"
    client.connect_webhook(1, url)
    (kept,) = imitation.items["webhooks"]
    assert "headers" not in kept
    kept["headers"] = {"X-Proxy": "a", "authorization": "old"}
    found = client.connect_webhook(1, url, authorization=SecretStr("Basic bHM6cA=="))
    assert kept["headers"] == {"X-Proxy": "a", "Authorization": "Basic bHM6cA=="}
    assert "bHM6cA" not in repr(found)
    client.connect_webhook(1, url)
    assert kept["headers"]["Authorization"] == "Basic bHM6cA=="


def test_a_refused_local_address_says_what_to_do(client: LabelStudio, imitation: Imitation) -> None:
    detail = "URL resolves to a reserved network address (block: 127.0.0.0/8)"
    imitation.refusals["POST", "/api/ml/"] = reply({"detail": detail}, 403)
    with pytest.raises(
        LabelStudioError, match=r"LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false.*127.0.0.0/8"
    ) as caught:
        client.connect_backend(1, NewBackend("http://127.0.0.1:9090"))
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(b"<html>Bad gateway</html>", 502), "answered 502 to /api/tasks/7/: no reason given"),
        (reply({"validation_errors": {"label_config": ["is bad"]}}, 400), "is bad"),
        (reply(["a", "b"], 400), 'answered 400 .*"a", "b"'),
        (reply({"detail": "x" * 9999}, 400), "x{300}$"),
        (Answer(status=404), "knows no /api/tasks/7/"),
        (Answer(b"<html>welcome</html>"), "is this Label Studio"),
        (reply({"id": "seven"}), "something unexpected at id"),
        (reply([]), "something unexpected"),
        (Answer(status=302, headers={"Location": "http://10.0.0.1/"}), "leads to a private address"),
    ],
)
def test_what_goes_wrong_is_told_in_words(
    client: LabelStudio, imitation: Imitation, answer: Answer, words: str
) -> None:
    imitation.refusals["GET", "/api/tasks/7/"] = answer
    with pytest.raises(LabelStudioError, match=words):
        client.get_task(7)


def test_a_post_that_is_redirected_names_the_right_address(client: LabelStudio, imitation: Imitation) -> None:
    moved = Answer(status=301, headers={"Location": "https://ls.test/api/projects/?secret=1"})
    imitation.refusals["POST", "/api/projects/"] = moved
    with pytest.raises(LabelStudioError, match=r"set LABEL_STUDIO_URL") as caught:
        client.create_project("x", "<View/>")
    assert "https://ls.test/api/projects/" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_label_studio_that_is_down_is_told_in_words() -> None:
    with serving() as web:
        client = connected(web)
    with pytest.raises(LabelStudioError, match="cannot be reached") as caught:
        client.get_task(7)
    assert caught.value.status is None


def test_a_label_studio_below_a_path_is_found_there(web: WebServer) -> None:
    Imitation(web, base="/ls")
    client = connected(web, base="/ls/")
    assert client.get_task(7).id == 7
    assert str(client.address("/data/upload/1/a.mp4")) == f"{web.url}/ls/data/upload/1/a.mp4"
    assert str(client.address("/ls/data/upload/1/a.mp4")) == f"{web.url}/ls/data/upload/1/a.mp4"


ELSEWHERE = LabelStudio("http://ls.test:8080", SecretStr(LEGACY), local_fetcher())


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_no_path_leads_to_another_origin(path: str) -> None:
    assert ELSEWHERE.address(path).origin == ELSEWHERE.origin


def test_the_token_does_not_follow_a_redirect_to_storage(imitation: Imitation) -> None:
    client = connected(imitation.web, PAT)
    with serving() as storage:
        storage.routes["/clip"] = Answer(b"video")
        client = LabelStudio(imitation.web.url, SecretStr(LEGACY), local_fetcher(imitation.web, storage))
        imitation.refusals["GET", "/data/x"] = Answer(status=303, headers={"Location": f"{storage.url}/clip"})
        with client.open(Request(client.address("/data/x"))) as response:
            assert response.read(100) == b"video"
        assert "Authorization" not in storage.asked[0].headers


def test_the_client_comes_from_settings_where_they_are_complete() -> None:
    assert LabelStudio.from_settings(Settings(label_studio_url="http://ls.test")) is None
    complete = Settings(label_studio_url="http://ls.test", label_studio_api_key=SecretStr(LEGACY))
    client = LabelStudio.from_settings(complete)
    assert client
    assert str(client.origin) == "http://ls.test"
