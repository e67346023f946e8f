"""The field page's HTTP edge: on this machine only, and only for who has the key that was printed."""

from __future__ import annotations

import functools
import hmac
import logging
import uuid
from http import HTTPStatus
from pathlib import Path

from flask import Flask, Response, jsonify, redirect, request
from werkzeug.exceptions import HTTPException

from backend.field.desk import BusyError, Desk
from backend.status_page import POLICY_MARK, policy_of
from edgetam_model import EdgeTAMError, InputError, SessionError

TEMPLATE = Path(__file__).parent / "templates" / "field.html"
JSON_TYPE = "application/json"  # asked for: what a foreign web page can have a browser post is something else
MAX_BODY_BYTES = 1 << 20
GUARDS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = "Content-Security-Policy"
NO_KEY = "open the whole address that `edgetam field run` printed, its key included"
log = logging.getLogger(__name__)

STATUS: tuple[tuple[type[EdgeTAMError], HTTPStatus], ...] = (
    (InputError, HTTPStatus.BAD_REQUEST),
    (BusyError, HTTPStatus.CONFLICT),
    (SessionError, HTTPStatus.CONFLICT),
    (EdgeTAMError, HTTPStatus.INTERNAL_SERVER_ERROR),
)


def create_app(desk: Desk, key: str, port: int) -> Flask:
    """The WSGI application.

    Args:
        desk: what answers.
        key: `/?key=…` leaves it in a cookie, without which nothing is told; others on this machine have none.
        port: cookies know no ports, so its name must.
    """
    app = Flask("edgetam-field", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    cookie = f"edgetam-field-{port}"
    app.before_request(lambda: _enter(key, cookie))
    app.after_request(_leave)
    _add_routes(app, desk)
    _add_errors(app)
    return app


def _add_routes(app: Flask, desk: Desk) -> None:
    @app.get("/")
    def page() -> Response:
        return Response(field_html(), content_type="text/html; charset=utf-8")

    @app.get("/api/tasks")
    def tasks() -> Response:
        return jsonify(desk.overview())

    @app.get("/api/tasks/<int:task>")
    def task_of(task: int) -> Response:
        return jsonify(desk.task(task))

    @app.get("/api/tasks/<int:task>/frames/<int:frame>")
    def frame_of(task: int, frame: int) -> Response:
        return jsonify(desk.frame(task, frame))

    @app.get("/api/tasks/<int:task>/pictures/<int:frame>")
    def picture_of(task: int, frame: int) -> Response:
        content, kind = desk.picture(task, frame)
        return Response(content, content_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    @app.post("/api/tasks/<int:task>")
    def act(task: int) -> Response:
        if request.mimetype != JSON_TYPE:
            raise InputError("Content-Type", f"expected {JSON_TYPE}")
        return jsonify(desk.act(task, request.get_json()))


@functools.cache
def field_html() -> str:
    """The page, whole: nothing comes from elsewhere; its policy names its one script and its one style."""
    text = TEMPLATE.read_text(encoding="utf-8")
    return text.replace(POLICY_MARK, policy_of(text))


def _enter(key: str, cookie: str) -> Response | None:
    """Who has the key gets a cookie; who has the cookie may come in."""
    given = request.args.get("key", "")
    if request.path == "/" and given and hmac.compare_digest(given.encode(), key.encode()):
        answer = redirect("/", HTTPStatus.SEE_OTHER)
        answer.set_cookie(cookie, key, httponly=True, samesite="Strict")
        return Response(answer.get_data(), answer.status_code, answer.headers)
    known = request.cookies.get(cookie, "")
    if not hmac.compare_digest(known.encode(), key.encode()):
        return _error(HTTPStatus.FORBIDDEN, NO_KEY)
    return None


def _leave(response: Response) -> Response:
    response.headers.update(GUARDS)
    response.headers.setdefault("Cache-Control", "no-store")
    page = response.mimetype == "text/html" and response.status_code == HTTPStatus.OK
    response.headers[POLICY] = "frame-ancestors 'none'" if page else "default-src 'none'"
    return response


def _add_errors(app: Flask) -> None:
    """Errors as JSON: `{"error": {"field": …, "problem": …}}`."""

    @app.errorhandler(EdgeTAMError)
    def expected(error: EdgeTAMError) -> Response:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        if isinstance(error, InputError):
            return _error(status, error.problem, error.field)
        return _error(status, str(error))

    @app.errorhandler(HTTPException)
    def protocol(error: HTTPException) -> Response:
        return _error(HTTPStatus(error.code or 500), error.description or error.name)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        mark = uuid.uuid4().hex[:12]
        log.error("unexpected error %s", mark, exc_info=error)
        return _error(HTTPStatus.INTERNAL_SERVER_ERROR, f"unexpected error {mark}: the terminal tells more")


def _error(status: HTTPStatus, problem: str, field: str | None = None) -> Response:
    answer = jsonify(error={"field": field, "problem": problem})
    answer.status_code = status
    return answer
