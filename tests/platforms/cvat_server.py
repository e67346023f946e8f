"""As much of a CVAT server as cvat-cli asks for: log in, functions, their queue of requests, a task's frames.

The person in front of CVAT is a generator that yields requests and is sent the agent's reply to each.
Bodies are checked as far as the real server's schema goes, so that what passes here has the form CVAT takes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from flask import Flask, Response, abort, jsonify, request
from werkzeug.serving import make_server

VERSION = "2.80.0"
TASK, FUNCTION, LABEL = 3, 11, 1
USER, PASSWORD = "annotator", "a password"
DEFAULTS = {
    "min_pos_points": 1,
    "min_neg_points": -1,
    "startswith_box": False,
    "startswith_box_optional": False,
}

Json = dict[str, Any]
Annotator = Generator[Json, "Reply", None]


@dataclass(frozen=True)
class Reply:
    """What the agent made of a request: a body for `complete`, or the reason of a `fail`."""

    kind: Literal["complete", "fail"]
    body: Json


@dataclass
class Cvat:
    """The server's state. `frames` are image files' bytes; `replies` come in the order of the requests."""

    frames: Sequence[bytes]
    size: tuple[int, int]  # width, height
    annotator: Annotator
    url: str = ""
    function: Json = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    downloads: list[int] = field(default_factory=list)
    pending: Json | None = None

    def begin(self) -> None:
        """The person's first request."""
        self.pending = next(self.annotator, None)

    def answered(self, reply: Reply) -> None:
        """Show a reply to the person, and take the next request."""
        self.replies.append(reply)
        try:
            self.pending = self.annotator.send(reply)
        except StopIteration:
            self.pending = None


@contextmanager
def serving(cvat: Cvat) -> Iterator[Cvat]:
    """Serve until the block ends, on a free port of this machine."""
    server = make_server("127.0.0.1", 0, _app(cvat), threaded=True)
    cvat.url = f"http://127.0.0.1:{server.port}"
    cvat.begin()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cvat
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _app(cvat: Cvat) -> Flask:
    app = Flask("cvat")
    _add_account(app)
    _add_task(app, cvat)
    _add_function(app, cvat)
    _add_queue(app, cvat)
    return app


def _add_account(app: Flask) -> None:
    @app.before_request
    def logged_in() -> None:
        known = request.cookies.get("sessionid") == "s"
        if not known and request.path not in ("/api/auth/login", "/api/server/about"):
            abort(HTTPStatus.UNAUTHORIZED)
        if known and request.method == "POST" and request.headers.get("X-CSRFToken") != "c":
            abort(HTTPStatus.FORBIDDEN)

    @app.post("/api/auth/login")
    def login() -> Response:
        sent = _body()
        if (sent["username"], sent["password"]) != (USER, PASSWORD):
            abort(HTTPStatus.BAD_REQUEST)
        answer = jsonify(key="k")
        answer.set_cookie("sessionid", "s")
        answer.set_cookie("csrftoken", "c")
        return answer

    @app.post("/api/auth/logout")
    def logout() -> Json:
        return {}

    @app.get("/api/server/about")
    def about() -> Json:
        return {"name": "CVAT", "description": "", "version": VERSION, "logo_url": "", "subtitle": ""}


def _add_task(app: Flask, cvat: Cvat) -> None:
    @app.get(f"/api/tasks/{TASK}")
    def task() -> Json:
        return {
            "id": TASK,
            "name": "clip",
            "jobs": {"count": 1, "completed": 0, "validation": 0, "url": f"{cvat.url}/api/jobs"},
            "labels": {"url": f"{cvat.url}/api/labels?task_id={TASK}"},
            "size": len(cvat.frames),
            "data_chunk_size": 8,
            "data_original_chunk_type": "imageset",
            "data_compressed_chunk_type": "imageset",
            "organization": None,
            "updated_date": "2026-01-01T00:00:00Z",
        }

    @app.get("/api/labels")
    def labels() -> Json:
        label = {"id": LABEL, "name": "thing", "attributes": [], "type": "any", "sublabels": []}
        return {"count": 1, "next": None, "previous": None, "results": [label]}

    @app.get(f"/api/tasks/{TASK}/data/meta")
    def meta() -> Json:
        width, height = cvat.size
        frames = [
            {"name": f"{i}.png", "width": width, "height": height, "related_files": 0}
            for i in range(len(cvat.frames))
        ]
        return {
            "chunks_updated_date": "2026-01-01T00:00:00Z",
            "frames": frames,
            "deleted_frames": [],
            "size": len(frames),
            "start_frame": 0,
            "stop_frame": len(frames) - 1,
        }

    @app.get(f"/api/tasks/{TASK}/data/")
    def data() -> Response:
        if (request.args["type"], request.args["quality"]) != ("frame", "original"):
            abort(HTTPStatus.BAD_REQUEST)
        number = int(request.args["number"])
        cvat.downloads.append(number)
        return Response(cvat.frames[number], mimetype="image/png")


def _add_function(app: Flask, cvat: Cvat) -> None:
    @app.post("/api/functions")
    def create() -> tuple[Json, int]:
        sent = _body()
        if sent["provider"] != "native" or sent["kind"] not in ("interactor", "tracker"):
            abort(HTTPStatus.BAD_REQUEST)
        defaults = DEFAULTS if sent["kind"] == "interactor" else {}
        cvat.function = {**defaults, **sent, "id": FUNCTION}
        return cvat.function, HTTPStatus.CREATED

    @app.get(f"/api/functions/{FUNCTION}")
    def function() -> Json:
        return cvat.function


def _add_queue(app: Flask, cvat: Cvat) -> None:
    queue = f"/api/functions/queues/function:{FUNCTION}/requests"

    @app.post(f"{queue}/acquire")
    def acquire() -> Json:
        if cvat.pending is None or _body()["request_category"] != "interactive":
            return {"ar_assignment": None}
        return {"ar_assignment": {"ar_id": str(len(cvat.replies)), "ar_params": cvat.pending}}

    @app.post(f"{queue}/<number>/complete")
    def complete(number: str) -> Json:
        return answered("complete", number)

    @app.post(f"{queue}/<number>/fail")
    def fail(number: str) -> Json:
        return answered("fail", number)

    @app.post(f"{queue}/<number>/update")
    def update(number: str) -> Json:
        return {}

    def answered(kind: Literal["complete", "fail"], number: str) -> Json:
        body = _body()
        if int(number) != len(cvat.replies) or not body.pop("agent_id"):
            abort(HTTPStatus.BAD_REQUEST)
        for shape in body.get("shapes", []):
            _check_shape(shape)
        cvat.answered(Reply(kind, body))
        return {}


def _body() -> Json:
    """The request's JSON; NaN and Infinity, which the real server's parser refuses, are refused."""

    def refuse(constant: str) -> float:
        abort(HTTPStatus.BAD_REQUEST, constant)

    sent = json.loads(request.get_data(), parse_constant=refuse)
    if not isinstance(sent, dict):
        abort(HTTPStatus.BAD_REQUEST)
    return sent


def _check_shape(shape: Mapping[str, Any] | None) -> None:
    """A shape as CVAT's schema has it: known fields, numbers, attributes as (int, str)."""
    if shape is None:
        return
    known = set(shape) <= {"type", "points", "attributes"} and shape["type"] in (
        "rectangle",
        "polygon",
        "mask",
    )
    numbers = all(isinstance(value, int | float) for value in shape["points"])
    attributes = shape.get("attributes", [])
    typed = all(isinstance(a["spec_id"], int) and isinstance(a["value"], str) for a in attributes)
    if not (known and numbers and typed):
        abort(HTTPStatus.BAD_REQUEST)
