from __future__ import annotations

import base64
import json
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from backend import app as edge
from backend.app import MAX_BODY_BYTES, create_app
from backend.jobs import QueueFull, QueueUnavailable
from backend.loading import BackgroundModel
from backend.pages import Page
from backend.services import Services
from edgetam_model import EdgeTAM, InputError, WeightsError
from tests.backend.server_fixtures import (
    IMAGE_CONFIG,
    VIDEO_CONFIG,
    MemoryQueue,
    MemoryVideo,
    box,
    click,
    image_task,
    picture,
    predict_body,
    services_in,
    tiny,
)


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    picture(tmp_path / "a.png")
    return create_app(services_in(tmp_path)).test_client()


def client_of(services: Services) -> FlaskClient:
    return create_app(services).test_client()


def problem_of(answer: TestResponse) -> tuple[str | None, str]:
    error = answer.get_json()["error"]
    return error["field"], error["problem"]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_health_says_up_and_how_far_the_model_is(client: FlaskClient) -> None:
    for path in ("/health", "/"):
        body = client.get(path).get_json()
        assert body["status"] == "UP"
        assert body["model_class"] == "EdgeTAM"
        assert body["model"]["state"] == "ready"


def test_ready_is_told_apart_from_alive(tmp_path: Path) -> None:
    release = threading.Event()

    def load() -> EdgeTAM:
        release.wait(20)
        return tiny()

    model = BackgroundModel(load)
    client = client_of(
        services_in(tmp_path, model=model, queue=MemoryQueue(failure=QueueUnavailable("away")))
    )
    model.start()
    assert client.get("/health").status_code == 200
    answer = client.get("/ready")
    assert (answer.status_code, answer.get_json()) == (503, {"ready": False, "model": "loading"})
    release.set()
    model.get(20)
    answer = client.get("/ready")  # images need no queue
    assert (answer.status_code, answer.get_json()) == (200, {"ready": True, "model": "ready"})


def test_a_model_that_cannot_be_loaded_is_never_ready(tmp_path: Path) -> None:
    def load() -> EdgeTAM:
        raise WeightsError("no such weights")

    model = BackgroundModel(load)
    with pytest.raises(Exception, match="no such weights"):
        model.get(20)
    answer = client_of(services_in(tmp_path, model=model)).get("/ready")
    assert (answer.status_code, answer.get_json()["model"]) == (503, "failed")


def test_health_and_setup_do_not_wait_for_the_model(tmp_path: Path) -> None:
    release = threading.Event()

    def load() -> EdgeTAM:
        release.wait(20)
        raise WeightsError("no such weights")

    model = BackgroundModel(load)
    model.start()
    client = client_of(services_in(tmp_path, model=model))
    begun = time.monotonic()
    assert client.get("/health").get_json()["model"]["state"] == "loading"
    assert client.post("/setup", json={"project": "1.2", "schema": "<View/>"}).status_code == 200
    assert time.monotonic() - begun < 1
    release.set()
    with pytest.raises(Exception, match="no such weights"):
        model.get(20)
    health = client.get("/health").get_json()
    assert health["status"] == "UP"
    assert "no such weights" in health["model"]["problem"]


def test_setup_tells_the_version_that_predictions_carry(client: FlaskClient) -> None:
    known = client.post("/setup", json={"project": "7.1", "schema": IMAGE_CONFIG}).get_json()
    body = predict_body(image_task("a.png"), context={"result": [click(50, 50)]})
    answer = client.post("/predict", json=body).get_json()["results"][0]
    assert answer["model_version"] == known["model_version"]
    assert client.get("/versions").get_json() == {"versions": [known["model_version"]]}


@pytest.mark.parametrize("extra", [None, {}, {"a": 1}, "", '{"a": 1}'])
def test_extra_params_may_be_an_object_or_its_text(client: FlaskClient, extra: Any) -> None:
    body = {"project": "7.1", "schema": IMAGE_CONFIG, "hostname": "http://ls", "extra_params": extra}
    assert client.post("/setup", json=body).status_code == 200


@pytest.mark.parametrize("extra", ["{", "[1]", [1], 3, '"x"'])
def test_other_extra_params_are_named(client: FlaskClient, extra: Any) -> None:
    answer = client.post("/setup", json={"project": "7.1", "schema": IMAGE_CONFIG, "extra_params": extra})
    assert answer.status_code == 400
    assert problem_of(answer)[0] == "extra_params"


def test_setup_says_what_is_wrong_with_a_config(client: FlaskClient) -> None:
    answer = client.post("/setup", json={"project": "7.1", "schema": "<View>"})
    assert answer.status_code == 400
    assert problem_of(answer)[0] == "label_config"


def test_a_click_becomes_every_output_of_the_config(client: FlaskClient) -> None:
    context = {"result": [click(50, 50, "k1"), click(20, 20, "k2", is_positive=False)]}
    answer = client.post("/predict", json=predict_body(image_task("a.png"), context=context))
    (prediction,) = answer.get_json()["results"]
    assert [region["type"] for region in prediction["result"]] == ["brushlabels", "rectanglelabels"]
    assert prediction["result"][0]["value"]["brushlabels"] == ["A"]
    assert 0 <= prediction["score"] <= 1


def test_an_opened_task_without_prompts_gets_no_results(client: FlaskClient) -> None:
    answer = client.post("/predict", json=predict_body(image_task("a.png")))
    assert answer.get_json() == {"results": []}
    assert client.post("/predict", json={"tasks": []}).get_json() == {"results": []}


def test_a_batch_has_one_result_per_task_whatever_fails(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [
        image_task("a.png", box(10, 10, 50, 50), number=1),
        image_task("missing.png", box(10, 10, 50, 50), number=2),
        image_task("a.png", number=3),
        image_task("a.png", box(10, 10, 50, 50), click(70, 70), number=4),
    ]
    results = client.post("/predict", json=predict_body(*tasks)).get_json()["results"]
    assert [bool(entry) for entry in results] == [True, False, False, True]
    assert results[1] == results[2] == []
    assert len(results[3]["result"]) == 4
    assert "task 2 is left out" in caplog.text


def test_a_config_from_setup_serves_requests_without_one(client: FlaskClient) -> None:
    body = predict_body(image_task("a.png"), context={"result": [click(50, 50)]})
    del body["label_config"]
    answer = client.post("/predict", json=body)
    assert problem_of(answer) == ("label_config", "expected the project's labeling config")
    client.post("/setup", json={"project": body["project"], "schema": IMAGE_CONFIG})
    assert len(client.post("/predict", json=body).get_json()["results"]) == 1


def test_video_tasks_go_to_the_video_service(tmp_path: Path) -> None:
    video = MemoryVideo(results=[{"result": [{"id": "x"}], "score": 0.5, "model_version": "v"}])
    client = client_of(services_in(tmp_path, video=video))
    client.post(
        "/setup", json={"project": "7.1700000000", "schema": VIDEO_CONFIG, "hostname": "http://ls:8080"}
    )
    task = {"id": 3, "data": {"video": "v.mp4"}}
    context = {"result": [{"id": "x", "type": "videorectangle"}]}
    answer = client.post("/predict", json=predict_body(task, config=VIDEO_CONFIG, context=context))
    assert answer.get_json() == {"results": video.results}
    assert video.asked == [(task, context, "http://ls:8080", True)]


@pytest.mark.parametrize(
    ("config", "variables", "told"),
    [
        (VIDEO_CONFIG, {}, 1),
        (IMAGE_CONFIG, {}, 0),  # fetched by the server, with the token that Label Studio sends
        (VIDEO_CONFIG, {"LABEL_STUDIO_URL": "http://ls", "LABEL_STUDIO_API_KEY": "k"}, 0),
    ],
)
def test_who_has_videos_and_no_token_for_the_workers_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, config: str, variables: Any, told: int
) -> None:
    services = services_in(tmp_path, **variables)
    body = {"project": "7.1", "schema": config, "hostname": "http://ls", "access_token": "acc3ss"}
    for _ in range(3):  # Label Studio repeats it with every page
        assert client_of(services).post("/setup", json=body).status_code == 200
    assert caplog.text.count("LABEL_STUDIO_API_KEY is not set") == told
    assert "acc3ss" not in caplog.text


def test_a_video_batch_keeps_the_order(tmp_path: Path) -> None:
    client = client_of(services_in(tmp_path, video=MemoryVideo(results=[])))
    tasks = [{"id": number, "data": {"video": "v.mp4"}} for number in (1, 2)]
    assert client.post("/predict", json=predict_body(*tasks, config=VIDEO_CONFIG)).get_json() == {
        "results": []
    }


@pytest.mark.parametrize(
    ("failure", "status", "header"),
    [
        (InputError("cmd", "expected frames"), 400, None),
        (QueueFull("interactive", 100, 7), 429, "7"),
        (QueueUnavailable("Redis cannot be reached"), 503, "5"),
        (ZeroDivisionError("the secret of task 3"), 500, None),
    ],
)
def test_errors_become_one_status_each(
    tmp_path: Path, failure: Exception, status: int, header: str | None
) -> None:
    client = client_of(services_in(tmp_path, video=MemoryVideo(failure=failure)))
    task = {"id": 3, "data": {"video": "v.mp4"}}
    answer = client.post("/predict", json=predict_body(task, config=VIDEO_CONFIG, context={"result": []}))
    assert answer.status_code == status
    assert answer.headers.get("Retry-After") == header
    field, problem = problem_of(answer)
    assert field == getattr(failure, "field", None)
    assert "secret" not in problem
    assert "Traceback" not in answer.text


def test_a_service_that_is_away_is_told_for_a_batch_too(tmp_path: Path) -> None:
    client = client_of(services_in(tmp_path, video=MemoryVideo(failure=QueueUnavailable("away"))))
    tasks = [{"id": number, "data": {"video": "v.mp4"}} for number in (1, 2)]
    assert client.post("/predict", json=predict_body(*tasks, config=VIDEO_CONFIG)).status_code == 503


def test_an_event_becomes_a_job(tmp_path: Path) -> None:
    """`test_events` has what follows from which."""
    queue = MemoryQueue()
    client = client_of(services_in(tmp_path, queue=queue, EDGETAM_FIT_AFTER="3"))
    body = {"action": "ANNOTATION_CREATED", "project": {"id": 7}, "annotation": {"id": 5, "result": []}}
    answer = client.post("/webhook", json=body)
    assert answer.status_code == 201
    assert answer.get_json() == {"status": "recorded", "job_id": "job-1"}
    ((kind, payload, gathering, things),) = queue.calls
    assert (kind, payload, gathering.count, things) == ("fit", {"project": 7}, 3, ("5",))


def test_other_events_are_ignored_with_a_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    queue = MemoryQueue()
    caplog.set_level(logging.INFO)
    answer = client_of(services_in(tmp_path, queue=queue)).post("/webhook", json={"action": "TASKS_CREATED"})
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ignored"})
    assert not queue.calls
    assert "TASKS_CREATED" in caplog.text


def test_only_probes_are_open_where_a_password_is_set(tmp_path: Path) -> None:
    services = services_in(tmp_path, BASIC_AUTH_USER="ls", BASIC_AUTH_PASS="pä:ss")
    client = client_of(services)
    assert client.get("/health").status_code == 200
    for path in ("/", "/versions", "/metrics", "/nowhere", "/api/jobs"):
        assert client.get(path).status_code == 401, path
    for path in ("/setup", "/predict", "/webhook"):
        assert client.post(path, json={}).status_code == 401, path
    assert client.get("/versions", headers=basic("ls", "pä:ss")).status_code == 200
    answer = client.get("/versions", headers=basic("ls", "other"))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_a_token_opens_too(tmp_path: Path) -> None:
    client = client_of(services_in(tmp_path, EDGETAM_TOKEN="s3cret"))
    assert client.get("/versions", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    for wrong in ("Bearer s3cre", "Bearer", "s3cret", "Basic s3cret", "Token s3cret", "Bearer s3crét"):
        assert client.get("/versions", headers={"Authorization": wrong}).status_code == 401, wrong


def test_label_studio_may_send_the_token_as_a_password(tmp_path: Path) -> None:
    client = client_of(services_in(tmp_path, EDGETAM_TOKEN="s3cret"))
    assert client.get("/versions", headers=basic("token", "s3cret")).status_code == 200
    for user, password in (("token", "s3cre"), ("", "s3cret"), ("ls", "s3cret")):
        answer = client.get("/versions", headers=basic(user, password))
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_every_route_but_those_of_probes_asks_for_the_password(tmp_path: Path) -> None:
    app = create_app(services_in(tmp_path, EDGETAM_TOKEN="s3cret"))
    client, routes = app.test_client(), list(app.url_map.iter_rules())
    assert {"/metrics", "/api/<path:rest>", "/", "/predict"} <= {rule.rule for rule in routes}
    for rule in routes:
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            answer = client.open(rule.rule.replace("<path:rest>", "jobs"), method=method, json={})
            assert (answer.status_code == 401) == (rule.rule not in ("/health", "/ready")), rule.rule


def test_no_answer_may_be_kept_framed_or_guessed_at(tmp_path: Path) -> None:
    class OnePage:
        def answer(self, method: str, path: str, body: bytes, project: str = "") -> Page | None:
            return Page(b"<html></html>")

    open_client = client_of(replace(services_in(tmp_path), pages=OnePage()))
    closed = client_of(services_in(tmp_path, EDGETAM_TOKEN="s3cret"))
    page = open_client.get("/", headers={"Accept": "text/html"})
    assert page.mimetype == "text/html"
    others = [open_client.get(path) for path in ("/health", "/metrics", "/nowhere")]
    for answer in (page, *others, closed.get("/"), closed.post("/predict", json={})):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        policy = answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert ("default-src 'none'" in policy) == (answer.mimetype != "text/html")


def test_bodies_have_a_limit(client: FlaskClient) -> None:
    body = b'{"tasks": "' + b"x" * MAX_BODY_BYTES + b'"}'
    answer = client.post("/predict", data=body, content_type="application/json")
    assert answer.status_code == 413
    assert f"{MAX_BODY_BYTES:,}" in problem_of(answer)[1]


def test_what_a_foreign_page_can_make_a_browser_post_is_refused(client: FlaskClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = client.post("/predict", data=json.dumps(predict_body()), content_type=kind)
        assert problem_of(answer)[0] == "Content-Type"


def test_unknown_paths_and_methods_answer_in_json(client: FlaskClient) -> None:
    assert client.get("/nowhere").status_code == 404
    assert problem_of(client.get("/nowhere"))[1]
    answer = client.get("/predict")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


def test_too_many_requests_at_once_are_turned_away_but_never_health(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "BUSY_THREADS", 0)
    client = client_of(services_in(tmp_path))
    answer = client.post("/predict", json=predict_body())
    assert answer.status_code == 429
    assert answer.headers["Retry-After"]
    assert client.get("/health").status_code == 200
    assert client.post("/setup", json={"project": "1.2", "schema": "<View/>"}).status_code == 200


def test_places_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BUSY_THREADS", 1)
    client = client_of(services_in(tmp_path))
    for body in (b"{", b"[]", json.dumps(predict_body()).encode()):
        for _ in range(3):
            assert client.post("/predict", data=body, content_type="application/json").status_code != 429


def test_metrics_are_prometheus_text(tmp_path: Path) -> None:
    client = client_of(services_in(tmp_path))
    client.get("/health")
    client.get("/secret-path")
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert 'edgetam_requests_total{route="/health",status="200"} 1' in answer.text
    assert 'edgetam_requests_total{route="unknown",status="404"} 1' in answer.text
    assert 'edgetam_queue_waiting{queue="interactive"} 2' in answer.text
    assert 'worker="w\\"1"' in answer.text
    assert "edgetam_model_ready 1" in answer.text
    assert "edgetam_queue_up 1" in answer.text
    assert "secret-path" not in answer.text


def test_failures_are_counted_by_kind(tmp_path: Path) -> None:
    queue = MemoryQueue(failure=QueueUnavailable("away"))
    client = client_of(services_in(tmp_path, queue=queue))
    client.post("/predict", json={"tasks": 7})
    client.post("/webhook", json={"action": "START_TRAINING", "project": 7})
    text = client.get("/metrics").text
    assert 'edgetam_failures_total{kind="InputError"} 1' in text
    assert 'edgetam_failures_total{kind="QueueUnavailable"} 1' in text


def test_metrics_tell_that_redis_is_away(tmp_path: Path) -> None:
    queue = MemoryQueue(failure=QueueUnavailable("away"))
    client = client_of(services_in(tmp_path, queue=queue))
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert "edgetam_queue_up 0" in answer.text
    assert client.post("/webhook", json={"action": "START_TRAINING", "project": 7}).status_code == 503


def test_browsers_get_the_status_page_where_there_is_one(tmp_path: Path) -> None:
    class Pages:
        def answer(self, method: str, path: str, body: bytes, project: str = "") -> Page | None:
            known = {"/": Page(b"<h1>"), "/api/jobs": Page(body or b"[]", "application/json")}
            return known.get(path)

    services = services_in(tmp_path)
    object.__setattr__(services, "pages", Pages())
    client = client_of(services)
    assert client.get("/", headers={"Accept": "text/html,*/*;q=0.8"}).data == b"<h1>"
    assert client.get("/", headers={"Accept": "*/*"}).get_json()["status"] == "UP"
    assert client.get("/api/jobs").get_json() == []
    assert client.post("/api/jobs", json={"id": 1}).get_json() == {"id": 1}
    assert client.get("/api/nothing").status_code == 404


def test_logs_have_neither_bodies_nor_tokens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = client_of(services_in(tmp_path, EDGETAM_TOKEN="t0ken"))
    known = {"Authorization": "Bearer t0ken"}
    body = {
        "project": "7.1",
        "schema": IMAGE_CONFIG,
        "access_token": "acc3ss",
        "extra_params": {"key": "v4lue"},
    }
    client.post("/setup?q=qu3ry", json=body, headers=known)
    client.post("/predict", json={"tasks": "b0dy"}, headers=known)
    client.post("/predict", json=predict_body(), headers={"Authorization": "Bearer wr0ng"})
    assert "/setup" in caplog.text
    for secret in ("t0ken", "acc3ss", "v4lue", "qu3ry", "b0dy", "wr0ng"):
        assert secret not in caplog.text


def test_ten_clicks_at_once_while_health_answers(tmp_path: Path) -> None:
    names = [picture(tmp_path / f"{n}.png", 320, 240, n) for n in range(5)]
    app = create_app(services_in(tmp_path))
    answers: list[int] = []

    def click_twice(name: str) -> None:
        client = app.test_client()
        for x in (40, 60):
            body = predict_body(image_task(name), context={"result": [click(x, 50)]})
            answers.append(client.post("/predict", json=body).status_code)

    threads = [threading.Thread(target=click_twice, args=(names[n % 5],)) for n in range(10)]
    for thread in threads:
        thread.start()
    slowest, client = 0.0, app.test_client()
    while any(thread.is_alive() for thread in threads):
        begun = time.monotonic()
        assert client.get("/health").status_code == 200
        slowest = max(slowest, time.monotonic() - begun)
        time.sleep(0.01)
    assert answers == [200] * 20
    assert slowest < 1
