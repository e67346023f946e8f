"""The part of Label Studio's API that the backend uses, over the same checked transport as media.

Facts: `platforms/label_studio.md`, and Label Studio's public source. Two kinds of token work: legacy ones are
sent as they are, personal access tokens are exchanged for access tokens that live some minutes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from pydantic import SecretStr, TypeAdapter, ValidationError

from backend.addresses import Origin, WebAddress, parse_url
from backend.fetching import Credentials, Fetcher, FetchError, Request, Response
from backend.label_studio_records import (
    Backend,
    DrawnTask,
    DrawnTasks,
    NewBackend,
    NewPrediction,
    Project,
    Record,
    StoredPrediction,
    Task,
    Webhook,
)
from backend.label_studio_token import Token
from backend.label_studio_upload import FileUpload
from backend.settings import Settings
from edgetam_model import EdgeTAMError

API_SECONDS = 100.0  # Label Studio's own patience
PAGE_SIZE = 100
DRAWN_PAGE_SIZE = 50  # tasks come with all that was drawn: 1 MB each is much, not rare
MAX_PAGES = 1000
MAX_ANSWER_BYTES = 256 * 2**20  # predictions of a task come with all their keyframes
PROBLEM_LETTERS = 300
# START_TRAINING is none of them: Label Studio 1.23.2 sends it to the backend itself and refuses it here.
WEBHOOK_ACTIONS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
# Label Studio's own filter; annotations that were skipped are not counted.
_DRAWN = {"filter": "filter:tasks:total_annotations", "operator": "greater", "type": "Number", "value": 0}
_ANNOTATED = json.dumps({"filters": {"conjunction": "and", "items": [_DRAWN]}, "ordering": ["tasks:id"]})
LOCAL_ADDRESS_HINT = (
    "Label Studio refuses backends at local addresses. Start it with LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false "
    "and LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false, or give this server an address that is not local"
)

T = TypeVar("T")


class LabelStudioError(EdgeTAMError):
    """Label Studio could not be reached or refused something; the text is for people.

    Attributes:
        status: the HTTP status where one came, else None.
    """

    def __init__(self, problem: str, status: int | None = None) -> None:
        super().__init__(problem)
        self.status = status


class LabelStudio:
    """A Label Studio and a token for it; may be shared between threads.

    Args:
        url: its address, a path included where it has one.
        token: of either kind.
        fetcher: its policy decides whether the address may be reached.

    Raises:
        InputError: not an http or https address.
    """

    def __init__(self, url: str, token: SecretStr, fetcher: Fetcher) -> None:
        self.base = parse_url(url.rstrip("/") + "/")
        self._fetcher = fetcher
        self._token = Token(token, self._exchange)

    @classmethod
    def from_settings(cls, settings: Settings, fetcher: Fetcher | None = None) -> Self | None:
        """The configured one; None where LABEL_STUDIO_URL or LABEL_STUDIO_API_KEY is missing."""
        if not settings.label_studio_url or settings.label_studio_api_key is None:
            return None
        fetcher = fetcher or Fetcher.from_settings(settings)
        return cls(settings.label_studio_url, settings.label_studio_api_key, fetcher)

    @property
    def origin(self) -> Origin:
        """Whom the token belongs to."""
        return self.base.origin

    def address(self, path: str) -> WebAddress:
        """The address of a path as Label Studio writes it, with or without the path it is mounted at."""
        mounted = path.startswith(self.base.path)
        return parse_url(f"{self.origin}{path if mounted else self.base.path + path.lstrip('/')}")

    def credentials(self, spent: Credentials | None = None) -> Credentials:
        """The token for the transport; `spent` are some that were refused with 401.

        Raises:
            LabelStudioError: the personal access token cannot be exchanged.
        """
        return Credentials(self.origin, self._token.header(spent.header if spent else None))

    @contextmanager
    def open(self, request: Request, deadline: float | None = None) -> Iterator[Response]:
        """Send a request with the token; where a 401 says that it has run out, once more with a new one.

        Raises:
            FetchError: not reached; statuses are given to the caller.
            LabelStudioError: the personal access token cannot be exchanged.
        """
        credentials = self.credentials()
        for last in (False, True):
            known = replace(request, credentials=credentials)
            with self._fetcher.open(known, deadline) as response:
                renewed = credentials
                if response.status == HTTPStatus.UNAUTHORIZED and not last:
                    renewed = self.credentials(credentials)
                if renewed == credentials:
                    yield response
                    return
            credentials = renewed

    # Tasks and predictions

    def get_task(self, task_id: int) -> Task:
        """A task with annotations, predictions and drafts.

        Where it has no prediction yet, Label Studio asks the project's backends for one before it answers.
        """
        return self._get(Task, f"api/tasks/{task_id}/")

    def has_task(self, project_id: str, task_id: int) -> bool:
        """Whether a task is one of a project's. Unlike `get_task` this has Label Studio ask no backend."""
        chosen = json.dumps({"selectedItems": {"all": False, "included": [task_id]}})
        asked = urlencode({"project": project_id, "query": chosen, "page": 1, "page_size": 1})
        found = self._get(DrawnTasks, f"api/tasks/?{asked}").tasks
        return any(task.id == task_id for task in found)

    def drawn_tasks(self, project_id: int) -> Iterator[DrawnTask]:
        """The tasks of a project that somebody annotated, each once, by id.

        Addresses of media come as the project has them, not as links that are good for an hour.
        """
        query = {"project": project_id, "fields": "all", "resolve_uri": "false", "query": _ANNOTATED}
        seen: set[int] = set()
        for page in range(1, MAX_PAGES + 1):
            asked = urlencode({**query, "page": page, "page_size": DRAWN_PAGE_SIZE})
            try:
                found = self._get(DrawnTasks, f"api/tasks/?{asked}")
            except LabelStudioError as error:
                if page > 1 and error.status == HTTPStatus.NOT_FOUND:
                    return  # annotations were deleted meanwhile, and there is no such page any more
                raise
            # A task that moves to another page, as others come and go, may be told twice.
            yield from (task for task in found.tasks if task.id not in seen)
            seen.update(task.id for task in found.tasks)
            if page * DRAWN_PAGE_SIZE >= found.total:
                return
        raise LabelStudioError(
            f"project {project_id} has more than {MAX_PAGES * DRAWN_PAGE_SIZE} annotated tasks"
        )

    def list_predictions(self, task_id: int) -> tuple[StoredPrediction, ...]:
        """All predictions of a task, oldest first."""
        found = self._list(StoredPrediction, "api/predictions/", {"task": task_id})
        return tuple(sorted((p for p in found if p.task == task_id), key=lambda p: p.id))

    def create_prediction(self, task_id: int, prediction: NewPrediction) -> int:
        """Store a prediction once, however often this is called; returns its id.

        Earlier ones of the same `model_version` are removed after the new one is there, so that a crash in
        between loses nothing and the next call tidies up. One that is equal is kept.
        """
        result = json.loads(json.dumps(list(prediction.result)))  # as it comes back, to compare
        earlier = [p for p in self.list_predictions(task_id) if p.model_version == prediction.model_version]
        if not (earlier and earlier[-1].result == result and earlier[-1].score == prediction.score):
            body = {
                "task": task_id,
                "result": result,
                "score": prediction.score,
                "model_version": prediction.model_version,
            }
            self._send(StoredPrediction, "POST", "api/predictions/", body)
            found = self.list_predictions(task_id)  # again: another call may have stored one as well
            earlier = [p for p in found if p.model_version == prediction.model_version]
        if not earlier:
            raise LabelStudioError(f"Label Studio did not keep the prediction of task {task_id}")
        for old in earlier[:-1]:
            self.delete_prediction(old.id)
        return earlier[-1].id

    def delete_prediction(self, prediction_id: int) -> None:
        """Remove a prediction; one that is gone already is no error."""
        try:
            self._call("DELETE", f"api/predictions/{prediction_id}/")
        except LabelStudioError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    # Projects and what is attached to them

    def list_projects(self) -> tuple[Project, ...]:
        """All projects that the token's user sees."""
        return self._list(Project, "api/projects/", {})

    def get_project(self, project_id: int) -> Project:
        """One project."""
        return self._get(Project, f"api/projects/{project_id}/")

    def create_project(self, title: str, label_config: str) -> Project:
        """A new project."""
        return self._send(Project, "POST", "api/projects/", {"title": title, "label_config": label_config})

    def update_project(self, project_id: int, label_config: str) -> Project:
        """Change the label config; Label Studio refuses one that existing annotations do not fit."""
        path = f"api/projects/{project_id}/"
        return self._send(Project, "PATCH", path, {"label_config": label_config})

    def import_file(self, project_id: int, path: Path) -> tuple[int, ...]:
        """Upload a media file as a task of its own; returns the task ids as far as Label Studio tells.

        Raises:
            InputError: no such file.
        """
        upload = FileUpload(path)
        address = self.address(f"api/projects/{project_id}/import?return_task_ids=true")
        headers = {"Content-Type": upload.content_type, "Content-Length": str(upload.length)}
        found = self._answer(Request(address, "POST", headers, upload))
        return _validated(TypeAdapter(_Imported), found).task_ids

    def list_backends(self, project_id: int) -> tuple[Backend, ...]:
        """The ML backends of a project, each asked for its health."""
        return self._list(Backend, "api/ml/", {"project": project_id})

    def connect_backend(self, project_id: int, backend: NewBackend) -> Backend:
        """Attach an ML backend, or bring the one with this URL up to date.

        Raises:
            LabelStudioError: refused; where it is for the address, the text says what to do. Label Studio
                may have kept the backend nonetheless, without the webhook.
        """
        body: dict[str, object] = {
            "project": project_id,
            "url": backend.url,
            "title": backend.title,
            "is_interactive": backend.is_interactive,
            "auth_method": "BASIC_AUTH" if backend.user else "NONE",
        }
        if backend.user and backend.password:
            body["basic_auth_user"] = backend.user
            body["basic_auth_pass"] = backend.password.get_secret_value()
        for known in self.list_backends(project_id):
            if known.url.rstrip("/") == backend.url.rstrip("/"):
                # The url belongs into the body: without it 1.23.2 answers 500.
                return self._send(Backend, "PATCH", f"api/ml/{known.id}", body)
        return self._send(Backend, "POST", "api/ml/", body)

    def list_webhooks(self, project_id: int) -> tuple[Webhook, ...]:
        """The webhooks of a project."""
        return self._list(Webhook, "api/webhooks/", {"project": project_id})

    def connect_webhook(
        self,
        project_id: int,
        url: str,
        actions: Sequence[str] = WEBHOOK_ACTIONS,
        authorization: SecretStr | None = None,
    ) -> Webhook:
        """Add a webhook, or bring the one with this URL up to date.

        Args:
            authorization: the header that the address asks for. Label Studio does not send the user and
                password of a backend with its webhooks; other headers of the webhook stay as they are.
        """
        body: dict[str, object] = {
            "project": project_id,
            "url": url,
            "send_payload": True,
            "send_for_all_actions": False,
            "is_active": True,
            "actions": list(actions),
        }
        known = next((one for one in self.list_webhooks(project_id) if one.url == url), None)
        if authorization is not None:
            own = known.headers if known else {}
            others = {name: text for name, text in own.items() if name.lower() != "authorization"}
            body["headers"] = {**others, "Authorization": authorization.get_secret_value()}
        if known:
            return self._send(Webhook, "PATCH", f"api/webhooks/{known.id}/", body)
        return self._send(Webhook, "POST", "api/webhooks/", body)

    # One call

    def _get(self, kind: type[T], path: str) -> T:
        return _validated(TypeAdapter(kind), self._call("GET", path))

    def _send(self, kind: type[T], method: str, path: str, body: object) -> T:
        return _validated(TypeAdapter(kind), self._call(method, path, body))

    def _list(self, kind: type[T], path: str, query: Mapping[str, object]) -> tuple[T, ...]:
        """Every item of a list, whether Label Studio gives it whole or in pages."""
        items: list[T] = []
        for page in range(1, MAX_PAGES + 1):
            asked = urlencode({**query, "page": page, "page_size": PAGE_SIZE})
            found = self._call("GET", f"{path}?{asked}")
            paged = isinstance(found, dict)
            items += _validated(TypeAdapter(list[kind]), found.get("results") if paged else found)  # type: ignore[valid-type]  # mypy has no types at run time
            if not paged or not found.get("next"):
                return tuple(items)
        raise LabelStudioError(f"Label Studio's list {path} has more than {MAX_PAGES} pages")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {"Accept": "application/json"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        return self._answer(Request(self.address(path), method, headers, content))

    def _answer(self, request: Request) -> Any:
        """The JSON of an answer, None where it is empty."""
        try:
            with self.open(request, time.monotonic() + API_SECONDS) as response:
                body = response.read(MAX_ANSWER_BYTES)
        except FetchError as error:
            raise LabelStudioError(f"Label Studio at {self.origin}: {error.problem}") from error
        return _decoded(response, body)

    def _exchange(self, refresh: str) -> str:
        """A new access token for a personal access token."""
        body = json.dumps({"refresh": refresh}).encode()
        headers = {"Content-Type": "application/json"}
        request = Request(self.address("api/token/refresh/"), "POST", headers, body)
        try:
            with self._fetcher.open(request, time.monotonic() + API_SECONDS) as response:
                answer = response.read(MAX_ANSWER_BYTES)
        except FetchError as error:
            raise LabelStudioError(f"Label Studio at {self.origin}: {error.problem}") from error
        return _validated(TypeAdapter(_Access), _decoded(response, answer)).access


class _Access(Record):
    access: str


class _Imported(Record):
    task_ids: tuple[int, ...] = ()


def _validated(kind: TypeAdapter[T], found: object) -> T:
    try:
        return kind.validate_python(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise LabelStudioError(
            f"Label Studio answered with something unexpected at {place}: {first['msg']}"
        ) from None


def _decoded(response: Response, body: bytes) -> Any:
    """The JSON of a good answer.

    Raises:
        LabelStudioError: a refusal, or something else than JSON.
    """
    status = response.status
    if not 200 <= status < 300:
        raise LabelStudioError(_refusal(response, body), status)
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError as error:
        raise LabelStudioError(f"{response.address} answered with no JSON: is this Label Studio?") from error


def _refusal(response: Response, body: bytes) -> str:
    """Why Label Studio said no, in words, and what can be done."""
    status, reason = response.status, _reason(body)
    if status == HTTPStatus.UNAUTHORIZED:
        return (
            "Label Studio refused the token (401): it is wrong, revoked, or a legacy token where the "
            "organisation has switched those off; LABEL_STUDIO_API_KEY takes either kind"
        )
    if status == HTTPStatus.FORBIDDEN and "reserved network address" in reason:
        return f"{LOCAL_ADDRESS_HINT} ({reason})"
    if 300 <= status < 400:
        target = response.headers.get("Location", "elsewhere").partition("?")[0]
        return f"{response.address} redirects to {target}: set LABEL_STUDIO_URL to where it really is"
    if status == HTTPStatus.NOT_FOUND:
        return f"Label Studio knows no {response.address.path}, or the token's user may not see it (404)"
    return f"Label Studio answered {status} to {response.address.path}: {reason or 'no reason given'}"


def _reason(body: bytes) -> str:
    """What a refusal says, on one line; pages for browsers are left out."""
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    if isinstance(found, dict):
        found = found.get("validation_errors") or found.get("detail") or found
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    return re.sub(r"\s+", " ", text)[:PROBLEM_LETTERS]
