"""The versions of projects over HTTP: what there is, what serves, and promote, roll back and delete.

Paths: `/api/versions`, all projects; below it `/PROJECT`; `/PROJECT/vNNNN`, its record and history;
`/PROJECT/vNNNN/report/FILE`; POST to `/PROJECT/vNNNN/promote`, `/PROJECT/vNNNN/delete`, `/PROJECT/rollback`.
PROJECT is as in `edgetam versions`: project-7 is number 7 of Label Studio.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from backend.pages import Page, json_page, problem_page, refused
from backend.project_models import BASE, ProjectModels, store_name
from backend.protocol import read_body
from edgetam_model import EdgeTAMError, InputError, VersionName

if TYPE_CHECKING:
    from edgetam_model.training.versions import ProjectState, Switch, VersionRow

VERSIONS = "/api/versions"
INDEX = "index.html"  # of a report
MAX_FILE_BYTES = 64 << 20  # of a report
MAIN = ("before", "after", "gain")  # of the metrics, what lists begin with
# What a report may consist of. Anything else is not given, whatever it calls itself.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
# A report shows its own pictures in its own style; it runs no script, sends no form and fits into no frame.
REPORT_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PROJECT = re.compile(rf"{VERSIONS}/([^/]+)(?:/(rollback))?")
_VERSION = re.compile(rf"{VERSIONS}/([^/]+)/(v[0-9]{{4,9}})(?:/(promote|delete)|/report/([^\0]*))?")
_WORD = r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,99}"  # nothing hidden, no way up
_FILE = re.compile(rf"{_WORD}(?:/{_WORD}){{0,3}}")
_Label = Annotated[str, Field(pattern=rf"^({BASE}|v[0-9]{{4,9}})$")]
_Body = TypeVar("_Body", bound=BaseModel)


@dataclass(frozen=True)
class VersionView:
    """A version for people.

    Attributes:
        status: current, promoted (it served once) or candidate.
        created: seconds since 1970; 0 where its record cannot be read.
        size: bytes on disk.
        parent: where its training began.
        metrics: the numbers that its training reached, the main ones first.
        reasons: why it was promoted, or was not.
        report: whether there is a page about it.
        problem: why it cannot be used; empty where it can.
    """

    name: str
    label: str
    status: str
    created: float
    size: int
    parent: str
    metrics: dict[str, float]
    reasons: tuple[str, ...]
    report: bool
    problem: str


@dataclass(frozen=True)
class ProjectView:
    """A project's versions, oldest first.

    Attributes:
        serves: what is current, such as v0003, or base: the weights that everybody gets.
        problem: why base weights serve in its place; empty where they do not.
    """

    project: str
    serves: str
    problem: str
    versions: tuple[VersionView, ...]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    why: str = Field(default="", max_length=500)


class PromoteMessage(_Message):
    """`over`: promote only if this serves now. `why`: for the history."""

    over: _Label | None = None


class RollbackMessage(_Message):
    """`to`: what is to serve, a version that served before or base; None: the current version's parent."""

    to: _Label | None = None


class VersionPages:
    """Answers what a browser or a script asks about versions; may be shared between threads.

    Args:
        models: of this server; what they cannot load is told, too.
    """

    def __init__(self, models: ProjectModels) -> None:
        self._models = models
        self._store = models.store

    def answer(self, method: str, path: str, body: bytes, project: str = "") -> Page | None:
        """What is at or below `/api/versions`; None: nothing.

        Args:
            project: Label Studio's number of the only one that is told of; empty: all of them.

        Raises:
            InputError: a body that cannot be used.
        """
        own = store_name(project) if project else ""
        if path == VERSIONS:
            views = [self._view(name) for name in self._store.projects() if not own or name == own]
            return refused("GET", method) or json_page({"projects": [asdict(view) for view in views]})
        if own and not path.startswith(f"{VERSIONS}/{own}/") and path != f"{VERSIONS}/{own}":
            return problem_page(404, "there is no such project with versions")
        if match := _PROJECT.fullmatch(path):
            return self._project(method, match[1], body, is_rollback=bool(match[2]))
        if match := _VERSION.fullmatch(path):
            project, label, action, file = match.groups()
            return self._version(method, f"{project}/{label}", action, file, body)
        return None

    def _project(self, method: str, project: str, body: bytes, *, is_rollback: bool) -> Page:
        wrong = refused("POST" if is_rollback else "GET", method)
        if wrong is not None:
            return wrong
        if project not in self._store.projects():
            return problem_page(404, "there is no such project with versions")
        if not is_rollback:
            return json_page(asdict(self._view(project)))
        asked = _read(RollbackMessage, body)
        try:
            return self._switched(project, self._store.rollback(project, asked.to, why=asked.why))
        except EdgeTAMError as error:
            return _conflict(error)

    def _version(self, method: str, name: str, action: str | None, file: str | None, body: bytes) -> Page:
        wrong = refused("POST" if action else "GET", method)
        if wrong is not None:
            return wrong
        version = self._known(name)
        if version is None:
            return problem_page(404, "there is no such version")
        if file is not None:
            return self._report(version, file or INDEX)
        return self._act(version, action, body) if action else self._detail(version)

    def _known(self, text: str) -> VersionName | None:
        try:
            name = VersionName.parse(text)
        except InputError:
            return None
        return name if name in self._store.names(name.project) else None

    def _act(self, name: VersionName, action: str, body: bytes) -> Page:
        """Promote or delete. What the state of the project does not allow is told with the reason."""
        asked = _read(PromoteMessage if action == "promote" else _Message, body)
        try:
            if isinstance(asked, PromoteMessage):
                switch = self._store.promote(name, why=asked.why, over=asked.over)
                return self._switched(name.project, switch)
            self._store.delete(name)
        except EdgeTAMError as error:
            return _conflict(error)
        return json_page({"deleted": str(name)})

    def _switched(self, project: str, switch: Switch) -> Page:
        view = asdict(self._view(project))
        return json_page({"switch": switch.model_dump(mode="json"), "project": view})

    def _view(self, project: str) -> ProjectView:
        problems = self._models.problems()
        try:
            rows, state = self._store.rows(project), self._store.state(project)
        except EdgeTAMError as error:
            return ProjectView(project, BASE, str(error), ())
        views = tuple(self._row(row, problems) for row in rows)
        unusable = next((view.problem for view in views if view.label == state.current), "")
        return ProjectView(project, state.current, problems.get(project, unusable), views)

    def _row(self, row: VersionRow, problems: Mapping[str, str]) -> VersionView:
        name, record = row.name, row.record
        return VersionView(
            name=str(name),
            label=name.label,
            status=row.status,
            created=record.created.timestamp() if record else 0.0,
            size=row.size,
            parent=record.parent if record else "",
            metrics=_numbers(record.metrics) if record else {},
            reasons=_sentences(record.metrics.get("reasons")) if record else (),
            report=(self._folder(name) / INDEX).is_file(),
            problem=row.problem or problems.get(str(name), ""),
        )

    def _detail(self, name: VersionName) -> Page:
        try:
            state: ProjectState = self._store.state(name.project)
            version = self._store.get(name)
        except EdgeTAMError as error:
            return _conflict(error)
        history = [one for one in state.switches if name.label in (one.before, one.after)]
        report = [file for file in version.sums if file.startswith("report/")]
        document: dict[str, Any] = {
            "name": str(name),
            "status": state.status(name),
            "serves": state.current,
            "record": version.record.model_dump(mode="json"),
            "content_hash": version.content_hash,
            "report": sorted(file.removeprefix("report/") for file in report),
            "history": [one.model_dump(mode="json") for one in history],
        }
        return json_page(document)

    def _report(self, name: VersionName, file: str) -> Page:
        """A file of a version's report, as it was written."""
        kind = TYPES.get(Path(file).suffix)
        if kind is None or not _FILE.fullmatch(file):
            return _no_report()
        try:
            expected = self._store.get(name).sums.get(f"report/{file}")
        except EdgeTAMError as error:
            return _conflict(error)
        raw = _plain_file(self._folder(name), file)
        if raw is None or hashlib.sha256(raw).hexdigest() != expected:
            return _no_report()
        return Page(raw, kind, policy=REPORT_POLICY if kind.startswith("text/html") else "")

    def _folder(self, name: VersionName) -> Path:
        return self._store.root / name.project / name.label / "report"


def _plain_file(folder: Path, file: str) -> bytes | None:
    """The bytes of a file below a folder, which no link leads to; None: there is none."""
    place = folder
    for word in ("", *file.split("/")):
        place /= word
        if place.is_symlink():
            return None
    try:
        is_fine = place.is_file() and place.stat().st_size <= MAX_FILE_BYTES
        return place.read_bytes() if is_fine else None
    except OSError:
        return None


def _numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    """Those on the first level."""
    numbers = {
        key: value
        for key, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    main = {key: numbers[key] for key in MAIN if key in numbers}
    return main | numbers


def _sentences(found: object) -> tuple[str, ...]:
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()


def _read(kind: type[_Body], body: bytes) -> _Body:
    return read_body(kind, body or b"{}")


def _conflict(error: EdgeTAMError) -> Page:
    """What the state of a project or of its files does not allow."""
    return problem_page(409, error.problem if isinstance(error, InputError) else str(error))


def _no_report() -> Page:
    return problem_page(404, "there is no such page of a report")
