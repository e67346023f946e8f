"""The real Label Studio, in an environment of its own, on this machine only."""

from __future__ import annotations

import json
import mimetypes
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from backend import demo_label_studio
from tests.platforms.processes import free_port, running

EMAIL, PASSWORD = "annotator@example.com", "annotator-7"  # of a server that lives for minutes, on loopback
START_SECONDS = 240  # 28 s with its migrations on two idle cores


class RefusedError(Exception):
    """Label Studio answered with an error; its text says which."""


@dataclass(frozen=True)
class LabelStudio:
    """A running server, and the few calls that tests need; `token` is the legacy token of its one user."""

    url: str
    token: str

    def call(self, method: str, path: str, body: object = None, seconds: float = 120) -> Any:
        """Send JSON and return the JSON of the answer; None where it is empty.

        Raises:
            RefusedError: a status from 400.
        """
        data = None if body is None else json.dumps(body).encode()
        return self._send(method, path, data, "application/json", seconds)

    def create_project(self, title: str, config: str) -> int:
        """The id of a new project with this labeling config."""
        return int(self.call("POST", "/api/projects/", {"title": title, "label_config": config})["id"])

    def attach(self, project: int, backend: str) -> int:
        """Connect an ML backend, for interactive use too; its id."""
        wanted = {"project": project, "url": backend, "title": "EdgeTAM", "is_interactive": True}
        return int(self.call("POST", "/api/ml/", wanted)["id"])

    def import_media(self, project: int, file: Path, data: Mapping[str, Any] | None = None) -> int:
        """Upload a file as a person does; the id of its one task, whose data is then joined with `data`."""
        self._upload(project, file)
        tasks = self.call("GET", f"/api/tasks?project={project}&page_size=1000")["tasks"]
        newest = max(tasks, key=lambda task: int(task["id"]))
        if data:
            self.call("PATCH", f"/api/tasks/{newest['id']}", {"data": {**newest["data"], **data}})
        return int(newest["id"])

    def annotations(self, task: int) -> list[Any]:
        """The stored annotations of a task, drafts not among them."""
        return list(self.call("GET", f"/api/tasks/{task}/annotations/"))

    def predictions(self, task: int) -> list[Any]:
        """The stored predictions of a task."""
        return list(self.call("GET", f"/api/predictions/?task={task}"))

    def _upload(self, project: int, file: Path) -> None:
        border = uuid4().hex
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        head = f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n'
        start = f"{head}Content-Type: {kind}\r\n\r\n".encode()
        body = start + file.read_bytes() + f"\r\n--{border}--\r\n".encode()
        self._send("POST", f"/api/projects/{project}/import", body, f"multipart/form-data; boundary={border}")

    def _send(self, method: str, path: str, data: bytes | None, kind: str, seconds: float = 120) -> Any:
        headers = {"Authorization": f"Token {self.token}", "Content-Type": kind}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")[:1000]
            raise RefusedError(f"{method} {path} answered {error.code}: {reason}") from error
        return json.loads(body) if body else None


def install(cache: Path) -> Path:
    """The program `label-studio` of an environment below `cache`, as the demo installs it.

    Raises:
        ProgramFailed: it cannot be installed; pip has said why on stderr.
    """
    return demo_label_studio.install(cache / f"label-studio-{demo_label_studio.VERSION}", print)


@contextmanager
def serve(program: Path, folder: Path, log: Path) -> Iterator[LabelStudio]:
    """Run a fresh server whose data lies in `folder`, until the block ends.

    Raises:
        NotReadyError: it does not start.
    """
    port, token = free_port(), secrets.token_hex(20)
    url = f"http://127.0.0.1:{port}"
    site = demo_label_studio.Site(url, EMAIL, PASSWORD, token)
    command = [str(program), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    command += ["--data-dir", str(folder)]
    with running(command, log, f"{url}/health", START_SECONDS, demo_label_studio.environment(site, folder)):
        yield LabelStudio(url, token)
