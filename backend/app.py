"""The HTTP edge: Label Studio's ML-backend protocol, and the one place where errors become status codes."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from http import HTTPStatus
from typing import TypeVar

from flask import Flask, Request, Response, g, jsonify, request
from pydantic import BaseModel
from werkzeug.exceptions import HTTPException, NotFound, RequestEntityTooLarge

from backend import acts, events, metrics
from backend.access import Forbidden, Unauthorized
from backend.fit_schedule import FitSchedule
from backend.gate import Asked, Client, WrongHost
from backend.jobs import QueueFull, QueueUnavailable
from backend.label_config import parse_label_config
from backend.label_studio import LabelStudioError
from backend.loading import ModelNotReady
from backend.logs import fields
from backend.pages import Page
from backend.protocol import PredictRequest, SetupRequest, WebhookRequest, project_id, read_body
from backend.rates import TooManyRequests
from backend.services import Services
from edgetam_model import EdgeTAMError, InputError

MAX_BODY_BYTES = 32 << 20  # a task with 300 brush masks has some 10 MB; while JSON is read, all others wait
WEB_THREADS = 64
BUSY_THREADS = 48  # so many may compute or wait; the others keep /health and /setup below their second
ALWAYS_OPEN = frozenset({"health", "ready"})  # no password: probes of containers have none
ALWAYS_SERVED = frozenset({"health", "ready", "setup"})
# Answers hold what people label: no cache, no frame of another page and no foreign address may get at them.
GUARDS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
POLICY = "Content-Security-Policy"
DATA = "default-src 'none'; frame-ancestors 'none'"
PAGES = "frame-ancestors 'none'"  # a page names its own scripts in itself, where frames cannot be spoken of
JSON_TYPE = "application/json"  # asked for: what a foreign web page can have a browser post is something else

# The first class that an error is of decides. The text of these is for people; others tell only an id.
STATUS: tuple[tuple[type[EdgeTAMError], HTTPStatus], ...] = (
    (InputError, HTTPStatus.BAD_REQUEST),
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (WrongHost, HTTPStatus.MISDIRECTED_REQUEST),
    (TooManyRequests, HTTPStatus.TOO_MANY_REQUESTS),
    (QueueFull, HTTPStatus.TOO_MANY_REQUESTS),
    (QueueUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (ModelNotReady, HTTPStatus.SERVICE_UNAVAILABLE),
    (LabelStudioError, HTTPStatus.BAD_GATEWAY),
    (EdgeTAMError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
# Images are fetched here with the token that comes along; it is not put into Redis, so workers have none.
NO_KEY = (
    "project %s labels videos, but LABEL_STUDIO_API_KEY is not set: workers can fetch no video from Label "
    "Studio and store no track there; set it and LABEL_STUDIO_URL for `edgetam serve` and `edgetam worker`"
)
RETRY_SECONDS = 5  # told where the error itself knows no better
Body = TypeVar("Body", bound=BaseModel)
log = logging.getLogger(__name__)


def create_app(services: Services) -> Flask:
    """The WSGI application. It starts nothing; every request may come on a thread of its own."""
    app = Flask("edgetam", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of Flask's own provider, which this is
    busy = threading.BoundedSemaphore(BUSY_THREADS)
    app.before_request(lambda: _enter(services, busy))
    app.after_request(lambda response: _leave(services, response))
    app.teardown_request(lambda _error: _let_go(busy))
    _add_protocol(app, services)
    _add_monitoring(app, services)
    _add_errors(app, services)
    return app


def _add_protocol(app: Flask, services: Services) -> None:
    """What Label Studio calls."""

    @app.post("/setup")
    def setup() -> Response:
        asked = _body(SetupRequest)
        _client().require(project_id(asked.project))
        config = parse_label_config(asked.label_config) if asked.label_config else None
        if asked.extra_params:
            log.info(
                "project %s: extra_params are not used: %s", asked.project, ", ".join(asked.extra_params)
            )
        has_video = config is not None and config.video is not None
        if services.projects.remember(asked) and has_video and services.settings.label_studio_api_key is None:
            log.warning(NO_KEY, asked.project)
        return jsonify(model_version=services.models.serving(project_id(asked.project)).version)

    @app.post("/predict")
    def predict() -> Response:
        asked = _body(PredictRequest)
        for project in asked.projects:
            _client().require(project)
        return jsonify(services.answers.predict(asked))

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        schedule = FitSchedule.from_settings(services.settings)
        event = _body(WebhookRequest)
        _client().require(project_id(event.project_id))
        job = events.record(event, services.queue, schedule)
        if job is None:
            return jsonify(status="ignored"), HTTPStatus.OK
        act = "train" if event.action == events.START else "annotate"
        acts.record(act, {"job": job, "project": project_id(event.project_id)})
        return jsonify(status="recorded", job_id=job), HTTPStatus.CREATED

    @app.get("/versions")
    def versions() -> Response:
        # Label Studio asks without a project, and gets the versions of all that it may know.
        project = project_id(request.args.get("project")) or _client().project
        _client().require(project)
        return jsonify(versions=services.models.versions(project))


def _add_monitoring(app: Flask, services: Services) -> None:
    """What monitors and people call."""

    @app.get("/health")
    def health() -> Response:
        return jsonify(_health(services))

    @app.get("/ready")
    def ready() -> tuple[Response, int]:
        state = services.model.state
        good = state == "ready"
        return jsonify(ready=good, model=state), HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE

    @app.get("/")
    def root() -> Response:
        best = request.accept_mimetypes.best_match([JSON_TYPE, "text/html"])
        page = services.pages.answer("GET", "/", b"") if services.pages and best == "text/html" else None
        return jsonify(_health(services)) if page is None else _page(page)

    @app.route("/api/<path:rest>", methods=["GET", "POST"])
    def api(rest: str) -> Response:
        asked = services.pages
        if asked is None:
            raise NotFound
        body = request.get_data(cache=False)
        page = asked.answer(request.method, f"/api/{rest}", body, _client().project)
        if page is None:
            raise NotFound
        if request.method == "POST" and page.status < HTTPStatus.BAD_REQUEST:
            _record_page(rest)
        return _page(page)

    @app.get("/metrics")
    def numbers() -> Response:
        _client().require()
        families = services.own_families()
        try:
            families += services.queue_families()
            up = True
        except QueueUnavailable as error:
            log.warning("metrics: %s", error)
            up = False
        families.append(metrics.Family.gauge("edgetam_queue_up", "1: Redis answers.", up))
        return Response(metrics.render(families), content_type=metrics.CONTENT_TYPE)


def _record_page(rest: str) -> None:
    """What a button has changed: `jobs/ID/cancel`, `versions/PROJECT/v0003/promote`."""
    words = rest.split("/")
    kinds = ("job",) if words[0] == "jobs" else ("project", "version")
    acts.record(words[-1], dict(zip(kinds, words[1:-1], strict=False)))


def _page(page: Page) -> Response:
    headers = {POLICY: page.policy} if page.policy else {}
    return Response(page.body, page.status, headers, content_type=page.content_type)


def _health(services: Services) -> dict[str, object]:
    """Alive, and how far the model is; asks nobody, so that it is told at once whatever goes on."""
    model: dict[str, str] = {"state": services.model.state, "version": services.model.version}
    if services.model.problem:
        model["problem"] = services.model.problem
    health: dict[str, object] = {"status": "UP", "model_class": "EdgeTAM", "model": model}
    unusable = services.models.problems()
    return health | {"unusable_versions": unusable} if unusable else health


def _add_errors(app: Flask, services: Services) -> None:
    """Errors as JSON: `{"error": {"field": …, "problem": …}}`."""

    @app.errorhandler(EdgeTAMError)
    def expected(error: EdgeTAMError) -> Response:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        services.requests.fail(type(error).__name__)
        client = _client()
        who = fields(who=client.who, address=client.address)
        log.log(_level(status), "%s: %s", _route(request), error, extra=who)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            services.requests.limit(getattr(error, "reason", "unknown"))
        if isinstance(error, InputError):
            return _error(status, error.problem, error.field)
        answer = _error(status, str(error))
        if status == HTTPStatus.UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = services.access.challenge
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            answer.headers["Retry-After"] = str(getattr(error, "retry_after", RETRY_SECONDS))
        return answer

    @app.errorhandler(HTTPException)
    def protocol(error: HTTPException) -> Response:
        problem = error.description or error.name
        if isinstance(error, RequestEntityTooLarge):
            problem = f"expected a body of at most {MAX_BODY_BYTES:,} bytes"
        answer = _error(HTTPStatus(error.code or 500), problem)
        answer.headers.extend(h for h in error.get_headers() if h[0].lower() not in _OURS)
        return answer

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        services.requests.fail(metrics.UNEXPECTED)
        mark = uuid.uuid4().hex[:12]
        log.error("%s: unexpected error %s", _route(request), mark, exc_info=error)
        problem = f"unexpected error {mark}: the log of the server tells more"
        return _error(HTTPStatus.INTERNAL_SERVER_ERROR, problem)


_OURS = frozenset({"content-type", "content-length"})


def _error(status: HTTPStatus, problem: str, field: str | None = None) -> Response:
    answer = jsonify(error={"field": field, "problem": problem})
    answer.status_code = status
    return answer


def _level(status: HTTPStatus) -> int:
    return logging.ERROR if status == HTTPStatus.INTERNAL_SERVER_ERROR else logging.WARNING


def _body(kind: type[Body]) -> Body:
    return read_body(kind, request.get_data(cache=False))


def _enter(services: Services, busy: threading.BoundedSemaphore) -> None:
    """Who may come in, and whether there is room."""
    g.begun = time.monotonic()
    asked = _asked(request)
    g.client = services.gate.client(asked)
    if request.endpoint not in ALWAYS_OPEN:
        g.client = services.gate.admit(asked)
    acts.set_client(g.client)
    if request.method == "POST" and request.mimetype != JSON_TYPE:
        raise InputError("Content-Type", f"expected {JSON_TYPE}")
    if request.endpoint in ALWAYS_SERVED:
        return
    if not busy.acquire(blocking=False):
        raise QueueFull("web", BUSY_THREADS, RETRY_SECONDS)
    g.holds = True


def _client() -> Client:
    client: Client = g.client
    return client


def _asked(asked: Request) -> Asked:
    headers = asked.headers
    forwarded = tuple(headers.getlist("X-Forwarded-For"))
    return Asked(headers.get("Host"), headers.get("Authorization"), asked.remote_addr, forwarded)


def _let_go(busy: threading.BoundedSemaphore) -> None:
    if g.pop("holds", False):
        busy.release()


def _leave(services: Services, response: Response) -> Response:
    """Count the request, and tell of it in the log: neither its body nor its query."""
    client = _client()
    seconds = time.monotonic() - g.begun
    route, status = _route(request), response.status_code
    services.requests.add(route, status, seconds)
    response.headers.update(GUARDS)
    response.headers.setdefault(POLICY, PAGES if response.mimetype == "text/html" else DATA)
    quiet = request.endpoint in ALWAYS_OPEN or request.endpoint == "numbers"
    log.log(
        logging.DEBUG if quiet else logging.INFO,
        "%s %d in %.0f ms",
        f"{request.method} {route}",
        status,
        1000 * seconds,
        extra=fields(
            method=request.method,
            route=route,
            status=status,
            seconds=round(seconds, 4),
            who=client.who,
            address=client.address,
        ),
    )
    return response


def _route(asked: Request) -> str:
    """As registered; what nobody registered may hold anything."""
    return asked.url_rule.rule if asked.url_rule else "unknown"
