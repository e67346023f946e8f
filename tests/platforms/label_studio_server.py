"""The real Label Studio, in an environment of its own, on this machine only."""

from __future__ import annotations

import json
import mimetypes
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.platforms.processes import free_port, running

VERSION = "1.23.2"
EMAIL, PASSWORD = "annotator@example.com", "annotator-7"  # of a server that lives for minutes, on loopback
START_SECONDS = 240  # 28 s with its migrations on two idle cores
INSTALL_SECONDS = 1200  # 90 to 150 s, about 1 GB


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
    """The program `label-studio` of an environment below `cache`, installed there unless it is already.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: it cannot be installed; the error's
            `output` says why.
    """
    home = cache / f"label-studio-{VERSION}"
    done = home / "installed"  # written last: an installation that was cut off is begun again
    if not done.exists():
        _run(sys.executable, "-m", "venv", "--clear", str(home))
        _run(str(home / "bin/pip"), "install", "--quiet", "--no-input", f"label-studio=={VERSION}")
        done.touch()
    return home / "bin/label-studio"


@contextmanager
def serve(program: Path, folder: Path, log: Path) -> Iterator[LabelStudio]:
    """Run a fresh server whose data lies in `folder`, until the block ends.

    Raises:
        NotReadyError: it does not start.
    """
    port, token = free_port(), secrets.token_hex(20)
    url = f"http://127.0.0.1:{port}"
    command = [str(program), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    command += ["--data-dir", str(folder)]
    with running(command, log, f"{url}/health", START_SECONDS, _environment(url, token, folder)):
        yield LabelStudio(url, token)


def _environment(url: str, token: str, folder: Path) -> dict[str, str]:
    return {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_USERNAME": EMAIL,
        "LABEL_STUDIO_PASSWORD": PASSWORD,
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_HOST": url,
        # Without these two it refuses a backend on this machine, or saves it without its webhook.
        "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false",
        "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


def _run(*command: str) -> None:
    subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=INSTALL_SECONDS
    )
