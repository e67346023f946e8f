"""The status page and its JSON over a real queue: every fact, both buttons, and nothing that could run."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from backend.jobs import JobOptions, QueueUnavailable, TryAgain
from backend.loading import BackgroundModel
from backend.logs import Problems
from backend.pages import Page
from backend.queue import JobQueue
from backend.queue_store import connect
from backend.status_page import StatusPages, status_html
from edgetam_model import WeightsError
from tests.backend.queue_fixtures import add, running, take, work

EVIL = "<img src=x onerror=alert(1)>\"'&"
JPEG = b"\xff\xd8\xff\xe0"


@pytest.fixture
def problems() -> Problems:
    return Problems()


def no_model() -> BackgroundModel:
    def fail() -> Any:
        raise WeightsError("no such weights")

    return BackgroundModel(fail)


@pytest.fixture
def pages(queue: JobQueue, problems: Problems) -> StatusPages:
    return StatusPages(queue, no_model(), problems, "cpu")


def get(pages: StatusPages, path: str) -> Any:
    page = pages.answer("GET", path, b"")
    assert page is not None
    assert page.status == 200
    assert page.content_type == "application/json"
    return json.loads(page.body)


def post(pages: StatusPages, path: str) -> Page:
    page = pages.answer("POST", path, b"{}")
    assert page is not None
    return page


def test_jobs_are_told_with_progress_and_what_is_left(pages: StatusPages, queue: JobQueue) -> None:
    job = running(queue, JobOptions(title="Reef"))
    job.progress(30, 120, "tracking")
    job.beat()
    waiting = add(queue, JobOptions(queue="batch"))
    facts = get(pages, "/api/jobs")
    found = {entry["id"]: entry for entry in facts["jobs"]}
    view = found[job.id]
    assert (view["title"], view["state"], view["done"], view["total"]) == ("Reef", "running", 30, 120)
    assert view["fraction"] == 0.25
    assert view["note"] == "tracking"
    assert view["can_cancel"]
    assert not view["can_retry"]
    assert found[waiting]["state"] == "queued"
    assert [(entry["name"], entry["waiting"]) for entry in facts["queues"]] == [
        ("interactive", 0),
        ("batch", 1),
        ("fit", 0),
    ]
    assert facts["running"] == 1
    assert facts["model"]["device"] == "cpu"
    assert get(pages, f"/api/jobs/{job.id}")["job"] == view


def test_a_running_job_is_listed_however_many_came_after(pages: StatusPages, queue: JobQueue) -> None:
    job = running(queue)
    greet(queue, job.id)
    for _ in range(50):
        add(queue, JobOptions(queue="batch"))
    facts = get(pages, "/api/jobs")
    assert facts["jobs"][0]["id"] == job.id
    assert facts["workers"][0]["job"] == job.id
    assert [worker["name"] for worker in get(pages, "/api/workers")["workers"]] == ["w"]


def test_running_jobs_come_first_then_those_that_are_served_next(pages: StatusPages, queue: JobQueue) -> None:
    running(queue, JobOptions(title="running"))
    queue.cancel(add(queue, JobOptions(title="ended")))
    for name, title in (("batch", "late"), ("interactive", "next")):
        add(queue, JobOptions(queue=name, title=title))  # type: ignore[arg-type]
    titles = [job["title"] for job in get(pages, "/api/jobs")["jobs"]]
    assert titles == ["running", "next", "late", "ended"]


def greet(queue: JobQueue, job_id: str) -> None:
    from backend import queue_scripts as scripts

    queue.store.run(scripts.GREET, "w", "host", 1, "interactive", job_id, 3.5, 0)


def test_cancel_and_retry(pages: StatusPages, queue: JobQueue) -> None:
    job_id = add(queue)
    assert json.loads(post(pages, f"/api/jobs/{job_id}/cancel").body)["job"]["state"] == "cancelled"
    again = post(pages, f"/api/jobs/{job_id}/cancel")
    assert again.status == 409
    assert b"nothing to cancel" in again.body
    assert json.loads(post(pages, f"/api/jobs/{job_id}/retry").body)["job"]["state"] == "queued"
    assert post(pages, f"/api/jobs/{job_id}/retry").status == 409
    assert take(queue) is not None


def test_a_running_job_is_told_to_be_stopping(pages: StatusPages, queue: JobQueue) -> None:
    job = running(queue)
    view = json.loads(post(pages, f"/api/jobs/{job.id}/cancel").body)["job"]
    assert view["stopping"]
    assert not view["can_cancel"]


def test_failures_of_jobs_and_requests_in_plain_words(
    pages: StatusPages, queue: JobQueue, problems: Problems
) -> None:
    def fail(job: object) -> None:
        raise TryAgain("the video cannot be fetched")

    job_id = add(queue, JobOptions(title="Reef", max_attempts=1))
    work(queue, fail)
    for _ in range(3):
        problems.handle(logging.LogRecord("x", logging.WARNING, "", 0, "no %s", ("prompt",), None))
    found = get(pages, "/api/failures")["failures"]
    assert found == get(pages, "/api/jobs")["failures"]
    assert [(f["problem"], f["times"], f["job"], f["title"]) for f in found] == [
        ("no prompt", 3, "", ""),
        ("the video cannot be fetched (tried 1 times)", 1, job_id, "Reef"),
    ]


def test_a_model_that_cannot_be_loaded_is_told(queue: JobQueue, problems: Problems) -> None:
    model = no_model()
    model.start()
    with pytest.raises(Exception, match="no such weights"):
        model.get(10)
    facts = get(StatusPages(queue, model, problems), "/api/jobs")
    assert facts["model"]["state"] == "failed"
    assert "no such weights" in facts["model"]["description"]


def test_thumbnails(pages: StatusPages, queue: JobQueue) -> None:
    job = running(queue)
    assert picture(pages, job.id).status == 404
    job.picture(JPEG)
    assert picture(pages, job.id) == Page(JPEG, "image/jpeg")
    assert picture(pages, "unknown").status == 404


def test_what_is_no_picture_is_not_served(pages: StatusPages, queue: JobQueue) -> None:
    job = running(queue)
    job.picture(b"<svg onload=alert(1)>")
    assert picture(pages, job.id).status == 404


def picture(pages: StatusPages, job_id: str) -> Page:
    page = pages.answer("GET", f"/api/jobs/{job_id}/thumbnail", b"")
    assert page is not None
    return page


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/jobs/", "/api/jobs/a/b", "/api/jobs/a.b", "/x"])
def test_other_paths_are_nobodys(pages: StatusPages, path: str) -> None:
    assert pages.answer("GET", path, b"") is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/", 405),
        ("POST", "/api/jobs", 405),
        ("GET", "/api/jobs/a/cancel", 405),
        ("POST", "/api/jobs/a/thumbnail", 405),
        ("GET", "/api/jobs/unknown", 404),
        ("POST", "/api/jobs/unknown/cancel", 404),
        ("POST", "/api/jobs/unknown/retry", 404),
    ],
)
def test_refusals_are_json(pages: StatusPages, method: str, path: str, status: int) -> None:
    page = pages.answer(method, path, b"{}")
    assert page is not None
    assert page.status == status
    assert json.loads(page.body)["error"]["problem"]


def test_a_queue_that_is_away_is_the_callers_to_tell(tmp_path: Any, problems: Problems) -> None:
    pages = StatusPages(JobQueue(connect(f"unix://{tmp_path}/none", patience=0)), no_model(), problems)
    with pytest.raises(QueueUnavailable):
        pages.answer("GET", "/api/jobs", b"")
    assert pages.answer("GET", "/", b"") is not None


class Reader(HTMLParser):
    """Tags, ids and references of a page."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def read_page() -> Reader:
    reader = Reader()
    reader.feed(status_html())
    reader.close()
    assert not reader.open
    return reader


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = read_page()
    for tag, attributes in page.attributes:
        for name in ("src", "href"):
            assert not re.match(r"[a-z]+:(?!,)|//", attributes.get(name) or ""), (tag, attributes)
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?://|@import|url\(", status_html())


def test_the_policy_lets_only_the_pages_own_script_and_style_run() -> None:
    html = status_html()
    policy = next(a["content"] for t, a in read_page().attributes if "http-equiv" in a) or ""
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_text_never_becomes_markup() -> None:
    script = "".join(read_page().scripts)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script
    )


def test_buttons_send_what_a_foreign_page_cannot() -> None:
    """The server lets POSTs in by this content type only, which needs a preflight from elsewhere."""
    script = "".join(read_page().scripts)
    assert re.findall(r"method: .*", script) == [
        'method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)};'
    ]


def test_every_part_that_the_script_names_is_there_and_described() -> None:
    page = read_page()
    ids = [attributes["id"] for _, attributes in page.attributes if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'at\("([^"]+)"\)', "".join(page.scripts))) <= set(ids)
    named = {a["aria-labelledby"] for _, a in page.attributes if "aria-labelledby" in a}
    assert named <= set(ids)
    assert ("html", {"lang": "en"}) in page.attributes


def test_titles_that_are_markup_stay_text_in_json(pages: StatusPages, queue: JobQueue) -> None:
    add(queue, JobOptions(title=EVIL))
    assert get(pages, "/api/jobs")["jobs"][0]["title"] == EVIL
