"""The bodies that Label Studio sends, checked; and what they say is remembered per project."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError

from edgetam_model import InputError

MAX_TASKS = 1000  # of one batch; Label Studio sends its selection in pages of 100
MAX_PROJECTS = 1000  # remembered; each page of Label Studio introduces its project again
EVENTS = frozenset(
    {
        *("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "ANNOTATION_DELETED"),
        *("START_TRAINING", "PROJECT_UPDATED"),
    }
)

Body = TypeVar("Body", bound=BaseModel)
_PROJECT = re.compile(r"([0-9]{1,18})(?:\.[0-9]*)?")
_LENIENT = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True, hide_input_in_errors=True)


def _object_or_text(value: object) -> object:
    """`extra_params`: Label Studio sends an object when it is set, older versions its text, or nothing."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    if not isinstance(value, str):
        return value
    try:
        return read_json(value.encode("utf-8", "replace"))
    except InputError as error:
        raise PydanticCustomError("json", "{problem}", {"problem": error.problem}) from error


class SetupRequest(BaseModel):
    """`/setup`: a project introduces itself. `schema` is its labeling config."""

    model_config = _LENIENT

    project: str = ""
    label_config: str | None = Field(default=None, alias="schema")
    hostname: str | None = None
    access_token: SecretStr | None = None
    extra_params: Annotated[dict[str, Any], BeforeValidator(_object_or_text)] = Field(default_factory=dict)


class Params(BaseModel):
    """`params` of `/predict`. `context`: what was just drawn; None: a batch, or a task that was opened."""

    model_config = _LENIENT

    context: dict[str, Any] | None = None


class PredictRequest(BaseModel):
    """`/predict`: tasks, and with one of them what was just drawn on it."""

    model_config = _LENIENT

    tasks: list[dict[str, Any]] = Field(max_length=MAX_TASKS)
    label_config: str | None = None
    project: str | None = None
    params: Params | None = None

    @property
    def context(self) -> dict[str, Any] | None:
        """Of an interactive request; None in a batch."""
        return self.params.context if self.params else None

    @property
    def project_id(self) -> str:
        """Of the request, or of its first task, as label-studio-ml 1.0.9 tells no other; empty: unknown."""
        of_task = self.tasks[0].get("project") if self.tasks else None
        return project_id(self.project) or project_id(id_of(of_task))

    @property
    def projects(self) -> set[str]:
        """All that it is about, by its own word and by its tasks'; an empty one where nothing is said."""
        of_tasks = (task.get("project") for task in self.tasks)
        return {self.project_id, *(project_id(id_of(one)) for one in of_tasks if one is not None)}


class WebhookRequest(BaseModel):
    """`/webhook`: something happened. Only ids are read: whoever trains asks Label Studio for the rest."""

    model_config = _LENIENT

    action: str = Field(max_length=100)
    project: Any = None
    task: Any = None
    annotation: Any = None
    annotations: Any = None

    @property
    def project_id(self) -> str:
        """Empty where it is not said."""
        return id_of(self.project)

    @property
    def annotation_ids(self) -> list[str]:
        """Of the annotations that it is about."""
        several = self.annotations if isinstance(self.annotations, list) else []
        return [found for one in (self.annotation, *several) if (found := id_of(one))]


@dataclass(frozen=True)
class KnownProject:
    """What a project said of itself.

    Attributes:
        hostname: Label Studio's address in its own words.
        token: of the project's creator; used where no other is configured.
        label_config: for requests that come without one.
    """

    hostname: str | None = None
    token: SecretStr | None = None
    label_config: str | None = None


class Projects:
    """The projects that introduced themselves last; may be shared between threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, KnownProject] = OrderedDict()
        self._guard = threading.Lock()

    def remember(self, setup: SetupRequest) -> bool:
        """Keep what a project said; what it said before is replaced. True: it was not known yet."""
        known = KnownProject(setup.hostname or None, setup.access_token, setup.label_config)
        with self._guard:
            is_new = setup.project not in self._known
            self._known[setup.project] = known
            self._known.move_to_end(setup.project)
            if len(self._known) > MAX_PROJECTS:
                self._known.popitem(last=False)
        return is_new

    def of(self, project: str | None) -> KnownProject:
        """What is known of a project, by the name that it gave; nothing of others."""
        with self._guard:
            return self._known.get(project or "", KnownProject())


def id_of(value: object) -> str:
    """The id of a task, annotation or project: itself, or in an object; empty where there is none."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return str(found)[:100] if isinstance(found, int | str) and not isinstance(found, bool) else ""


def project_id(text: str | None) -> str:
    """Label Studio's number of a project, of `7.1700000000` (with the time it was made) or of `7`.

    Empty where it is neither.
    """
    match = _PROJECT.fullmatch(text or "")
    return str(int(match[1])) if match else ""


def read_json(body: bytes) -> Any:
    """Strict JSON: no NaN and no infinite numbers.

    Raises:
        InputError: not JSON, or nested too deep.
    """
    try:
        return json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except ValueError as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else "it has what JSON may not hold"
        raise InputError("body", f"expected JSON: {what}") from error
    except RecursionError as error:
        raise InputError("body", "expected JSON that is not nested so deep") from error


def read_body(kind: type[Body], body: bytes) -> Body:
    """One request.

    Raises:
        InputError: with the first wrong field named. The value is not repeated.
    """
    value = read_json(body)
    if not isinstance(value, dict):
        raise InputError("body", f"expected a JSON object, got {type(value).__name__}")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InputError(".".join(str(part) for part in first["loc"])[:200], first["msg"]) from None


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("not a number of JSON")


def _finite(text: str) -> float:
    """1e999 is JSON, but no number that anything could be drawn at."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("not finite")
    return value
