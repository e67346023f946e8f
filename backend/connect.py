"""Connect a Label Studio project with this server: its config, the ML backend, and the webhook.

First a plan is made, which changes nothing and can be shown; then it is carried out. Every step looks at what
is there already, so that a second run adds nothing.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from pydantic import SecretStr

from backend.access import basic_header
from backend.addresses import literal_address, parse_url, special_range
from backend.label_config import parse_label_config
from backend.label_config_edit import ProjectKind, adapt, kind_of
from backend.label_studio import LabelStudio, LabelStudioError
from backend.label_studio_records import Backend, NewBackend, Project
from edgetam_model import InputError

LISTED = 10  # projects that an error message names
LOCAL_NAMES = ("localhost", "host.docker.internal")
STATES = {
    "CO": "connected",
    "DI": "not reachable from Label Studio",
    "ER": "answers with an error",
    "TR": "training",
    "PR": "predicting",
}
LOCAL_BLOCKED = (
    "Label Studio refuses addresses like {url} unless it was started with "
    "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false (the backend) and LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false "
    "(its webhook)"
)
ELSEWHERE = (
    "{url} means Label Studio's own machine (in Docker: its container); where this server runs elsewhere, "
    "give --backend an address that Label Studio can reach"
)


@dataclass(frozen=True)
class Wish:
    """What shall be connected.

    Attributes:
        backend: this server's address as Label Studio reaches it.
        project: the id of a project that is there, or None.
        create: the title of a new one, or None. One of the two is given.
        kind: what is labelled; None: what the config says, video for a new project.
        labels: classes that must be there.
        user, password: what this server asks for, if anything.
    """

    backend: str
    project: int | None = None
    create: str | None = None
    kind: ProjectKind | None = None
    labels: tuple[str, ...] = ()
    user: str | None = None
    password: SecretStr | None = None

    def __post_init__(self) -> None:
        if (self.project is None) == (not self.create):
            raise InputError("project", "expected either --project ID or --create TITLE")
        try:
            parse_url(self.backend)
        except InputError as error:
            raise InputError("backend", f"expected http://HOST:PORT: {error.problem}") from error

    @property
    def url(self) -> str:
        """The backend's address without a slash at its end."""
        return self.backend.rstrip("/")

    @property
    def authorization(self) -> SecretStr | None:
        """The header that this server asks for; None: it asks for none."""
        return basic_header(self.user, self.password) if self.user and self.password else None


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        project: the id, None for a project that will be created.
        title: its title.
        before, after: its config.
        changes: what is added to the config, in words.
        annotations: how many it holds; with any, a person has to agree to a change of the config.
        warnings: what may stand in the way, in words.
    """

    project: int | None
    title: str
    before: str
    after: str
    changes: tuple[str, ...]
    annotations: int
    warnings: tuple[str, ...]

    @property
    def needs_consent(self) -> bool:
        """Whether the config of a project that holds annotations would change."""
        return self.project is not None and self.annotations > 0 and bool(self.changes)

    @property
    def diff(self) -> str:
        """The change of the config as a unified diff; empty where there is none."""
        lines = difflib.unified_diff(
            self.before.splitlines(),
            self.after.splitlines(),
            "label config now",
            "label config then",
            "",
            "",
            3,
            "",
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Connection:
    """What was done.

    Attributes:
        project: its id.
        url: its page in Label Studio.
        backup: the file with the config as it was; None where it was not changed.
        state: what Label Studio says of the backend, in words.
        warnings: what does not work yet, and what to do; those of the plan left out.
    """

    project: int
    url: str
    backup: Path | None
    state: str
    warnings: tuple[str, ...]


def make_plan(studio: LabelStudio, wish: Wish) -> Plan:
    """Look, and change nothing.

    Raises:
        InputError: no such project, a title that is taken, a config or labels that cannot be used.
        LabelStudioError: Label Studio cannot be reached, or refuses.
    """
    projects = _projects(studio)
    warnings = _address_warnings(studio, wish.url)
    if wish.project is None:
        title = wish.create or ""
        taken = next((project for project in projects if project.title == title), None)
        if taken is not None:
            raise InputError("create", f"a project of this title is there: use --project {taken.id}")
        made = adapt("", wish.kind or "video", wish.labels)
        return Plan(None, title, "", made.xml, made.changes, 0, warnings)
    if all(project.id != wish.project for project in projects):
        raise InputError("project", f"Label Studio shows none with the id {wish.project}{_listed(projects)}")
    project = studio.get_project(wish.project)
    before = (project.label_config or "").strip()
    made = adapt(before, wish.kind or _kind(before), wish.labels)
    title, annotations = project.title or "", project.total_annotations_number or 0
    return Plan(project.id, title, before, made.xml, made.changes, annotations, warnings)


def carry_out(
    studio: LabelStudio, wish: Wish, plan: Plan, backups: Path, tell: Callable[[str], None]
) -> Connection:
    """Do what was planned.

    Args:
        studio: where.
        wish: as for the plan.
        plan: made just before.
        backups: folder for the config as it was.
        tell: gets a line for people after each step.

    Raises:
        InputError: the backup cannot be written; nothing is changed then.
        LabelStudioError: refused; the steps told so far are done, and the next run goes on from there.
    """
    backup = None
    if plan.project is None:
        number = studio.create_project(plan.title, plan.after).id
        tell(f"created project {number}")
    else:
        number = plan.project
        if plan.changes:
            backup = _write_backup(backups, number, plan.before)
            tell(f"kept the config as it was in {backup}")
            studio.update_project(number, plan.after)
            tell(f"adapted the config of project {number}")
    backend, refusal = _attach(studio, wish, number)
    tell(f"attached the backend {wish.url} ({_state(backend)})")
    warnings = _backend_warnings(backend, refusal)
    try:
        studio.connect_webhook(number, f"{wish.url}/webhook", authorization=wish.authorization)
        tell(f"attached the webhook {wish.url}/webhook")
    except LabelStudioError as error:
        warnings.append(f"no webhook, so annotations are not learned from; all else works ({error})")
    page = studio.address(f"projects/{number}/data").url
    return Connection(number, page, backup, _state(backend), tuple(warnings))


def _projects(studio: LabelStudio) -> tuple[Project, ...]:
    """All projects; the first question of all, so that a wrong address is told as one."""
    try:
        return studio.list_projects()
    except LabelStudioError as error:
        if error.status is None:
            raise LabelStudioError(f"{error}. Is it running, and is this its address?") from error
        if error.status == HTTPStatus.NOT_FOUND:
            problem = "is no Label Studio (404): --url is Label Studio's address, --backend this server's"
            raise LabelStudioError(f"{studio.origin} {problem}", error.status) from error
        raise


def _attach(studio: LabelStudio, wish: Wish, project: int) -> tuple[Backend, str]:
    """The backend, and why Label Studio complained though it kept it."""
    new = NewBackend(wish.url, user=wish.user, password=wish.password)
    refusal = ""
    try:
        studio.connect_backend(project, new)
    except LabelStudioError as error:
        refusal = str(error)
    known = studio.list_backends(project)  # asks each for its health: the state of this moment
    mine = next((backend for backend in known if backend.url.rstrip("/") == wish.url), None)
    if mine is None:
        raise LabelStudioError(
            f"the backend {wish.url} is not attached. {refusal or 'Label Studio did not keep it'}. "
            "Is `edgetam serve` running, and can Label Studio reach it?"
        )
    return mine, refusal


def _backend_warnings(backend: Backend, refusal: str) -> list[str]:
    # Connected though refused: it was about the webhook, of which its own step tells.
    found = (
        [f"Label Studio kept the backend, but said: {refusal}"] if refusal and backend.state != "CO" else []
    )
    if backend.state == "DI":
        found.append(f"Label Studio cannot reach {backend.url}: is `edgetam serve` running there?")
    if backend.state == "ER":
        found.append(
            f"Label Studio got an error from {backend.url}: {backend.error_message or 'no reason given'}"
        )
    return found


def _state(backend: Backend) -> str:
    return STATES.get(backend.state or "", backend.state or "in an unknown state")


def _address_warnings(studio: LabelStudio, url: str) -> tuple[str, ...]:
    """What can be known of the address before Label Studio is asked."""
    host = parse_url(url).origin.host
    literal = literal_address(host)
    local = host in LOCAL_NAMES or (literal is not None and special_range(literal) is not None)
    loopback = host == "localhost" or (literal is not None and literal.is_loopback)
    found = [LOCAL_BLOCKED.format(url=url)] if local else []
    if loopback and studio.origin.host != host:
        found.append(ELSEWHERE.format(url=url))
    return tuple(found)


def _kind(config: str) -> ProjectKind:
    """What the config labels.

    Raises:
        InputError: `kind` is needed: it labels neither image nor video, though something.
    """
    if not config:
        return "video"
    parsed = parse_label_config(config)
    kind = kind_of(parsed)
    if kind is None and parsed.objects:
        raise InputError("kind", "the config labels neither image nor video; --kind says what to add")
    return kind or "video"


def _listed(projects: tuple[Project, ...]) -> str:
    if not projects:
        return "; it has no project yet: use --create TITLE"
    shown = ", ".join(f"{project.id} ({project.title})" for project in projects[:LISTED])
    return f"; there are: {shown}" + (" …" if len(projects) > LISTED else "")


def _write_backup(folder: Path, project: int, config: str) -> Path:
    """The config in a file named by its content, so that a second backup never replaces the first."""
    mark = hashlib.sha256(config.encode()).hexdigest()[:8]
    path = folder / f"label-config-{project}-{mark}.xml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(config, encoding="utf-8", newline="")
    except OSError as error:
        raise InputError("backup-dir", f"{path} cannot be written: {error.strerror}") from error
    return path
