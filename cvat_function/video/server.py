"""A CVAT server through its own SDK: the only file that knows it. Its errors become ours here."""

from __future__ import annotations

import getpass
import json
import logging
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import urllib3
from cvat_sdk import Client, ClientAuthParameters, make_client_from_cli
from cvat_sdk.api_client.exceptions import ApiException, OpenApiException
from cvat_sdk.core.auth import AuthStore
from cvat_sdk.core.client import AccessTokenCredentials, Config, PasswordCredentials
from cvat_sdk.core.exceptions import CvatSdkException
from pydantic import TypeAdapter, ValidationError

from cvat_function.video.login import Login
from cvat_function.video.records import Annotations, Job, Label, Meta
from edgetam_model import EdgeTAMError, InputError

T = TypeVar("T")
TIMEOUT = (10.0, 120.0)  # seconds to connect and between two bytes; CVAT itself gives a request 120
FIRST_TIMEOUT = (5.0, 15.0)  # of a server that has not answered yet: the SDK asks it four times
# Of reads only, beyond the three seconds for which the SDK itself tries again: a server that restarts is
# back within a minute, and hours of tracking may hang on it. The pause doubles.
TRIES, PAUSE = 4, 5.0
TOO_MANY = 429  # the SDK tries 502 to 504 again, but not this
# Bodies go as they are: the SDK's models would take a minute for 20,000 polygons. It then wants these said.
_UNCHECKED: dict[str, Any] = {
    "_validate_inputs": False,
    "_content_type": "application/json",
    "_request_auths": [],
    "_host_index": 0,
}
ASK_ADDRESS = "is this the address of CVAT, and nothing between that asks for a password of its own?"
# What the SDK makes of strange answers to a login: it has no words of its own for them.
_UNLIKE_CVAT = (OpenApiException, AssertionError, TypeError)
REASON = 300  # characters of the server's own words
_CAUSES = (  # the first that fits: some are kinds of those below them
    (urllib3.exceptions.NameResolutionError, "no machine of this name is known here. Is this its address?"),
    (urllib3.exceptions.NewConnectionError, "{problem}. Is it running, and is this its address?"),
    (urllib3.exceptions.TimeoutError, "it does not answer in time. Is it running, and is this its address?"),
    (urllib3.exceptions.ProtocolError, "it broke the connection. Is its address right, http or https?"),
)


class ServerError(EdgeTAMError):
    """The server is not there, does not let us, or says something that cannot be understood."""


@dataclass(frozen=True)
class Place:
    """A task or a job: where media and annotations are read."""

    kind: Literal["task", "job"]
    id: int


class CvatServer:
    """Tasks, frames and annotations of one server. Frames may be asked for from several threads.

    Raises:
        InputError: no such server, task or job, or credentials that it refuses.
        ServerError: everything else that goes wrong on the way.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()  # the SDK's client keeps cookies without one
        self._met = False  # a server that never answered is not waited for

    @classmethod
    def connect(cls, login: Login) -> Self:
        """Log in. A password that is missing is asked for where there is a terminal."""
        _set_up_noise(login)
        with _own_errors("credentials", login.server or "the server", login.server):
            return cls(_client(login))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        return str(self._client.api_map.host)

    def job(self, number: int) -> Job:
        """One job."""
        raw = self._read(Place("job", number), lambda: self._jobs.retrieve(number, **self._plain()))
        return _parsed(Job, raw)

    def jobs_of(self, task: int) -> tuple[Job, ...]:
        """A task's annotation jobs by their first frame; ground truth and replicas belong to others."""
        rows = self._pages(
            Place("task", task), lambda page: self._jobs.list(task_id=task, page=page, **self._plain())
        )
        jobs = [_parsed(Job, row) for row in rows]
        return tuple(sorted((j for j in jobs if j.type == "annotation"), key=lambda j: (j.start_frame, j.id)))

    def labels(self, place: Place) -> tuple[Label, ...]:
        """The classes that its annotations may have."""
        labels = self._client.api_client.labels_api
        by_kind: dict[str, Callable[[int], Any]] = {
            "task": lambda page: labels.list(task_id=place.id, page=page, **self._plain()),
            "job": lambda page: labels.list(job_id=place.id, page=page, **self._plain()),
        }
        return tuple(_parsed(Label, row) for row in self._pages(place, by_kind[place.kind]))

    def meta(self, place: Place) -> Meta:
        """Facts about its media."""
        return _parsed(
            Meta, self._read(place, lambda: self._api(place).retrieve_data_meta(place.id, **self._plain()))
        )

    def annotations(self, place: Place) -> Annotations:
        """Everything drawn in it."""
        raw = self._read(place, lambda: self._api(place).retrieve_annotations(place.id, **self._plain()))
        return _parsed(Annotations, raw)

    def frame(self, place: Place, number: int) -> bytes:
        """An encoded image: one frame in original quality, by the task's numbering."""
        return self._bytes(
            place,
            lambda: self._api(place).retrieve_data(
                place.id, type="frame", number=number, quality="original", **self._plain()
            ),
        )

    def create(self, job: int, annotations: Annotations) -> Annotations:
        """Add annotations to a job; what is there stays. Returns them as the server has them, with ids."""
        return _parsed(Annotations, self._patch(job, "create", annotations))

    def delete(self, job: int, annotations: Annotations) -> None:
        """Remove a job's annotations by their ids; ids that are not there are no fault."""
        named = [track.model_copy(update={"shapes": track.shapes[:1]}) for track in annotations.tracks]
        self._patch(job, "delete", annotations.model_copy(update={"tracks": tuple(named)}))

    def _patch(self, job: int, action: str, annotations: Annotations) -> object:
        """Sent once: whether a lost answer means a lost request, nobody knows."""
        body = {"tags": [], **annotations.to_json()}
        switches = {**self._plain(), **_UNCHECKED, "_request_timeout": TIMEOUT}
        with _own_errors("job", f"job {job}", self.address), self._lock:
            _, response = self._jobs.partial_update_annotations(
                action, job, patched_labeled_data_request=body, **switches
            )
            return _json(response.data)

    @property
    def _jobs(self) -> Any:
        return self._client.api_client.jobs_api

    def _api(self, place: Place) -> Any:
        return self._jobs if place.kind == "job" else self._client.api_client.tasks_api

    def _pages(self, place: Place, ask: Callable[[int], Any]) -> Iterator[object]:
        page: int | None = 1
        while page is not None:
            number = page
            raw = self._read(place, lambda: ask(number))  # noqa: B023  it is called within the round
            if not isinstance(raw, dict) or not isinstance(raw.get("results"), list):
                raise ServerError("the server answered something else than a page of results")
            yield from raw["results"]
            page = page + 1 if raw.get("next") else None

    def _read(self, place: Place, ask: Callable[[], Any]) -> object:
        return _json(self._bytes(place, ask))

    def _bytes(self, place: Place, ask: Callable[[], Any]) -> bytes:
        """What a GET brings, tried again while the server is busy or away."""
        for attempt in range(TRIES):
            last = attempt == TRIES - 1 or not self._met
            with _own_errors(place.kind, f"{place.kind} {place.id}", self.address), self._lock:
                try:
                    _, response = ask()
                    data = bytes(response.data)
                    self._met = True
                    return data
                except (ApiException, urllib3.exceptions.HTTPError) as error:
                    if last or not _passing(error):
                        raise
            time.sleep(PAUSE * 2**attempt)
        raise AssertionError  # the last round returned or raised

    def _plain(self) -> dict[str, Any]:
        """The SDK's switches: a time limit, and answers as they came, for the same reason as `_UNCHECKED`."""
        return {"_parse_response": False, "_request_timeout": TIMEOUT if self._met else FIRST_TIMEOUT}


def _set_up_noise(login: Login) -> None:
    """The SDK pins urllib3 to WARNING; what speaks of its retries follows the program's own level again."""
    logging.getLogger("urllib3.connectionpool").setLevel(logging.getLogger().getEffectiveLevel())
    if login.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def _client(login: Login) -> Client:
    """cvat-cli's own way in, saved profiles included, where neither token nor user is given."""
    parameters = ClientAuthParameters(
        server_host=login.server, insecure=login.insecure, organization=login.organization
    )
    if login.token is not None:
        token = login.token
        parameters.auth = lambda _: AccessTokenCredentials(token)
    elif login.user is not None:
        user, given = login.user, login.password

        def credentials(url: str) -> PasswordCredentials:
            _greet(url, insecure=login.insecure)
            return PasswordCredentials(user, given or _ask(f"Password of {user} at {url}: "))

        parameters.auth = credentials
    elif login.server is not None or AuthStore().get_default_profile() is None:
        raise InputError(
            "credentials", "set CVAT_ACCESS_TOKEN, or CVAT_USERNAME and CVAT_PASSWORD, or give --user"
        )
    try:
        return make_client_from_cli(parameters)
    except ApiException:
        raise
    except _UNLIKE_CVAT as error:
        where = login.server or "the server"
        raise ServerError(f"{where} answers a login as no CVAT does; {ASK_ADDRESS}") from error


def _greet(address: str, *, insecure: bool) -> None:
    """Whether anybody is there at all: the SDK waits for the answer to a password without a limit."""
    client = Client(address, config=Config(verify_ssl=not insecure), check_server_version=False)
    with client, suppress(ApiException):
        about = client.api_client.server_api
        _, response = about.retrieve_about(_parse_response=False, _request_timeout=FIRST_TIMEOUT)
        response.close()  # whatever it says


def _ask(question: str) -> str:
    if not sys.stdin.isatty():
        raise InputError(
            "password", "set CVAT_PASSWORD, or CVAT_ACCESS_TOKEN: there is no terminal to ask on"
        )
    return getpass.getpass(question)


def _passing(error: Exception) -> bool:
    return not isinstance(error, ApiException) or error.status == TOO_MANY


@contextmanager
def _own_errors(field: str, what: str, address: str | None) -> Iterator[None]:
    """The SDK's errors as ours; neither headers nor bodies sent are in them."""
    try:
        yield
    except ApiException as error:
        raise _refusal(field, what, error) from error
    except urllib3.exceptions.HTTPError as error:
        server = f"CVAT at {address}" if address else "CVAT"
        raise ServerError(f"{server} cannot be reached: {_cause(error)}") from error
    except CvatSdkException as error:
        raise InputError("server", str(error)) from error


def _refusal(field: str, what: str, error: ApiException) -> EdgeTAMError:
    words = _words(error)
    if error.status == 401 or (error.status == 400 and field == "credentials"):
        return InputError("credentials", f"the server does not accept them ({error.status}){words}")
    if error.status == 403:
        return InputError(field, f"this user may not use {what} (403){words}")
    if error.status == 404:
        return InputError(field, f"the server has no {what} (404)")
    return ServerError(f"{what}: the server answers {error.status or 'with a broken connection'}{words}")


def _cause(error: urllib3.exceptions.HTTPError) -> str:
    """What went wrong, and what to look at; without the request's path, which others need not read."""
    reason = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
    if isinstance(reason, urllib3.exceptions.ResponseError):
        return f"{reason}, from it or from a proxy before it"
    if isinstance(reason, urllib3.exceptions.SSLError):
        return _certificate(reason)
    words = next((words for kind, words in _CAUSES if isinstance(reason, kind)), type(reason).__name__)
    problem = reason and getattr(reason.__cause__, "strerror", None)
    return words.format(problem=problem or "no connection")


def _certificate(error: urllib3.exceptions.SSLError) -> str:
    cause = error.args[0] if error.args else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted, {cause.verify_message}; --insecure does without the check"
    return "it speaks no HTTPS. Is its address right?"


def _words(error: ApiException) -> str:
    """The server's reason on one line, where it gave one that is no page of HTML."""
    text = str(error.body or "")
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("detail"), str):
        text = answer["detail"]
    text = " ".join(text.split())
    return f": {text[:REASON]}" if text and not text.startswith("<") else ""


def _json(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError as error:
        raise ServerError(f"the server answered something else than JSON; {ASK_ADDRESS}") from error


def _parsed(kind: type[T], raw: object) -> T:
    try:
        return TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ServerError(
            f"the server's {kind.__name__} is not as expected at {where or 'its root'}"
        ) from error
