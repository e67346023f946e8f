"""The status page and its JSON: what goes on, and the buttons of jobs, cancel and retry.

Paths: `/` the page; `/api/jobs` everything at once; `/api/jobs/ID`, `/api/jobs/ID/thumbnail`, `/api/workers`,
`/api/failures`; POST to `/api/jobs/ID/cancel` and `/api/jobs/ID/retry`; those of `version_pages`. The server
lets a POST in with the content type application/json only: a foreign web page cannot have a browser send that
without being asked first, and the answer to that is no.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from backend.access import Forbidden
from backend.jobs import JobStatus
from backend.loading import BackgroundModel
from backend.logs import Problems
from backend.overview import (
    FAILURES,
    LOOK_BACK,
    JobReader,
    ModelView,
    failures,
    job_view,
    of_project,
    overview,
)
from backend.pages import Page, json_page, problem_page, refused
from backend.project_models import ProjectModels
from backend.settings import Settings
from backend.version_pages import VERSIONS, VersionPages

TEMPLATE = Path(__file__).parent / "templates" / "status.html"
POLICY_MARK = "{content-security-policy}"
JOB = re.compile(r"/api/jobs/([A-Za-z0-9_-]{1,64})(?:/(cancel|retry|thumbnail))?")
ACTS = ("cancel", "retry")
JPEG_START = b"\xff\xd8\xff"


class JobDesk(JobReader, Protocol):
    """What is needed of `JobQueue`."""

    def status(self, job_id: str) -> JobStatus | None: ...

    def cancel(self, job_id: str) -> bool: ...

    def retry(self, job_id: str) -> bool: ...

    def picture(self, job_id: str) -> bytes | None: ...


class StatusPages:
    """Answers what a browser or a script asks; may be shared between threads.

    Args:
        queue: a `JobQueue`.
        model: of this server.
        problems: of this server.
        device: what the model was asked to run on.
        versions: of the projects; None: there are none.
    """

    def __init__(
        self,
        queue: JobDesk,
        model: BackgroundModel,
        problems: Problems,
        device: str = "auto",
        versions: VersionPages | None = None,
    ) -> None:
        self._queue = queue
        self._model = model
        self._problems = problems
        self._device = device
        self._versions = versions

    @classmethod
    def from_settings(
        cls, settings: Settings, queue: JobDesk, models: ProjectModels, problems: Problems
    ) -> StatusPages:
        """The pages of a server with these settings."""
        return cls(queue, models.base, problems, settings.device, VersionPages(models))

    def answer(self, method: str, path: str, body: bytes, project: str = "") -> Page | None:
        """What is at `/` or below `/api/`; None: nothing.

        Args:
            project: the only one that whoever asks may know of; jobs of others are unknown. Empty: all.

        Raises:
            InputError: a body that cannot be used.
            Forbidden: what is no project's own.
            QueueUnavailable: the queue cannot be asked.
        """
        if self._versions is not None and path.startswith(VERSIONS):
            return self._versions.answer(method, path, body, project)
        if path == "/":
            return refused("GET", method) or Page(status_html().encode())
        reports = {
            "/api/jobs": self._everything,
            "/api/workers": self._workers,
            "/api/failures": self._failures,
        }
        report = reports.get(path)
        if report is not None:
            return refused("GET", method) or json_page(report(project))
        match = JOB.fullmatch(path)
        if match is None:
            return None
        job, what = match[1], match[2]
        return refused("POST" if what in ACTS else "GET", method) or self._of_job(job, what, project)

    def _of_job(self, job_id: str, what: str | None, project: str) -> Page:
        status = self._queue.status(job_id)
        if status is None or (project and status.project != project):
            return _unknown()
        if what in ACTS:
            return self._act(job_id, what)
        return self._picture(job_id) if what else json_page({"job": asdict(job_view(status))})

    def _everything(self, project: str) -> dict[str, Any]:
        problems = () if project else self._problems.recent()
        return overview(self._queue, self._model_view(), problems, project).to_json()

    def _workers(self, project: str) -> dict[str, Any]:
        if project:
            raise Forbidden("the list of workers is no project's own")
        return {"workers": [asdict(worker) for worker in self._queue.workers()]}

    def _failures(self, project: str) -> dict[str, Any]:
        dead = of_project(self._queue.dead(LOOK_BACK if project else FAILURES), project)
        found = failures(dead, () if project else self._problems.recent())
        return {"failures": [asdict(failure) for failure in found]}

    def _act(self, job_id: str, what: str) -> Page:
        """Cancel or retry. A second click does no harm: it is told that there is nothing to do."""
        done = self._queue.cancel(job_id) if what == "cancel" else self._queue.retry(job_id)
        status = self._queue.status(job_id)
        if status is None:
            return _unknown()
        if not done:
            return problem_page(409, f"the job is {status.state}: there is nothing to {what}")
        return json_page({"job": asdict(job_view(status))})

    def _picture(self, job_id: str) -> Page:
        picture = self._queue.picture(job_id)
        if picture is None or not picture.startswith(JPEG_START):
            return problem_page(404, "there is no picture of this job")
        return Page(picture, "image/jpeg")

    def _model_view(self) -> ModelView:
        model = self._model
        return ModelView(model.version, model.state, model.description, self._device)


@functools.cache
def status_html() -> str:
    """The page, whole: nothing comes from elsewhere, and all facts come from `/api/jobs`.

    Its content security policy names its one script and its one style by their hashes, so that nothing that
    a title or an error holds could ever run.
    """
    text = TEMPLATE.read_text(encoding="utf-8")
    return text.replace(POLICY_MARK, policy_of(text))


def policy_of(html: str) -> str:
    """The content security policy for a page's own inline scripts and styles."""
    found = [f"default-src 'none'; script-src {_hashes(html, 'script')}; style-src {_hashes(html, 'style')}"]
    return "; ".join(
        [*found, "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'"]
    )


def _hashes(html: str, tag: str) -> str:
    bodies: list[str] = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


def _unknown() -> Page:
    return problem_page(404, "there is no such job (any more)")
