"""The server behind a reverse proxy, at a path of its own: nothing that it answers leads out of it."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import waitress

from backend.app import create_app
from backend.services import Services, queue_for, services_for
from tests.backend.commands.test_serve import call
from tests.backend.server_fixtures import settings_in
from tests.docker.recipes import DOCKER

PREFIX = "/edgetam"
TOKEN = {"Authorization": "Bearer t0ken"}


class Forward(BaseHTTPRequestHandler):
    """As nginx.conf does it: paths below the prefix go on without it, and nothing else is there."""

    protocol_version = "HTTP/1.1"
    upstream = 0

    def do_GET(self) -> None:
        if self.path == PREFIX:
            return self._answer(308, {"Location": f"{PREFIX}/"}, b"")
        if not self.path.startswith(f"{PREFIX}/"):
            return self._answer(404, {}, b"outside")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        passed = {name: text for name, text in self.headers.items() if name.lower() != "connection"}
        connection.request(self.command, self.path.removeprefix(PREFIX), body, passed)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        dropped = ("connection", "transfer-encoding", "content-length")
        kept = {name: text for name, text in answer.getheaders() if name.lower() not in dropped}
        return self._answer(answer.status, kept, content)

    def do_POST(self) -> None:
        self.do_GET()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def served(services: Services) -> Iterator[int]:
    """The real application in the real server; its port."""
    server = waitress.create_server(create_app(services), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server.effective_port
    finally:
        server.close()
        server.task_dispatcher.shutdown()
        thread.join(10)


@contextmanager
def forwarded(port: int) -> Iterator[str]:
    handler = type("Handler", (Forward,), {"upstream": port})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}{PREFIX}"
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join(10)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address as people have it."""
    folder = tmp_path_factory.mktemp("proxied")
    variables = {"EDGETAM_TOKEN": "t0ken", "EDGETAM_WEIGHTS": "default", "MODEL_DIR": str(folder / "models")}
    settings = settings_in(folder, **variables)
    with queue_for(settings, 5.0) as (queue, _):
        services = services_for(settings, queue)
        services.model.start()
        services.model.get(60)
        with served(services) as port, forwarded(port) as found:
            yield found
        services.models.close(5)


def page(url: str) -> str:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("GET", f"{parts.path}/", headers={"Accept": "text/html", **TOKEN})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200
    return text


def test_label_studio_s_calls_arrive(url: str) -> None:
    assert call(f"{url}/health")[1]["status"] == "UP"
    assert call(f"{url}/ready") == (200, {"ready": True, "model": "ready"})
    status, answer = call(f"{url}/setup", {"project": "7.1", "schema": "<View/>"}, TOKEN)
    assert (status, list(answer)) == (200, ["model_version"])
    assert call(f"{url}/predict", {"tasks": 7}, TOKEN)[0] == 400
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 7}}
    assert call(f"{url}/webhook", event, TOKEN)[0] == 201


def test_the_password_is_asked_for_through_the_proxy(url: str) -> None:
    for path in ("", "/api/jobs", "/metrics", "/versions"):
        assert call(f"{url}{path or '/'}")[0] == 401, path


def test_every_link_of_the_status_page_stays_below_the_prefix(url: str) -> None:
    text = page(url)
    links = re.findall(r'(?:href|src)="(?!#|data:)([^"]+)"', text) + re.findall(r'ask\("([^"]+)"', text)
    assert {"api/jobs", "api/workers", "api/versions", "metrics"} <= set(links)
    for link in sorted(set(links)):
        address = urljoin(f"{url}/", link)
        assert address.startswith(f"{url}/"), link
        if link != "metrics":  # plain text
            assert call(address, headers=TOKEN)[0] == 200, link
    built = re.findall(r"`([\w/]*api/)", text)
    assert built
    assert set(built) == {"api/"}, "a path from the root leads out of the prefix"


def test_a_job_can_be_cancelled_through_the_proxy(url: str) -> None:
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 8}}
    job_id = call(f"{url}/webhook", event, TOKEN)[1]["job_id"]
    assert call(f"{url}/api/jobs/{job_id}/cancel", {}, TOKEN)[1]["job"]["state"] == "cancelled"


def test_nginx_gets_the_same_prefix_and_limits() -> None:
    text = (DOCKER / "nginx.conf").read_text()
    assert f"location {PREFIX}/ {{\n        proxy_pass http://127.0.0.1:9090/;" in text
    assert text.count("{") == text.count("}")
