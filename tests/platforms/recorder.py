"""Stands between Label Studio and the backend, passes everything on unchanged, and remembers what passed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PASS_SECONDS = 110  # beyond Label Studio's own limit of 100
HOP = {
    "connection",
    "transfer-encoding",
    "keep-alive",
    "host",
}  # belong to one connection, not to the message


@dataclass(frozen=True)
class Exchange:
    """One request of Label Studio's and the backend's answer; bodies that are no JSON are None."""

    path: str
    asked: Any
    status: int
    answered: Any
    seconds: float


@dataclass
class Recorder:
    """`url` is what Label Studio is told; `exchanges` are in the order of the answers."""

    url: str
    port: int  # of the backend
    exchanges: list[Exchange] = field(default_factory=list)

    def of(self, path: str) -> list[Exchange]:
        """What was asked of one path so far."""
        return [exchange for exchange in list(self.exchanges) if exchange.path == path]

    def interactive(self) -> list[Exchange]:
        """The predictions that a person's click or key asked for."""
        return [e for e in self.of("/predict") if (e.asked.get("params") or {}).get("context")]

    def ask(self, path: str) -> Any:
        """The backend's own JSON, as its status page asks for it; nothing is noted."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PASS_SECONDS)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Pass one request on."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in HOP}
        began = time.monotonic()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PASS_SECONDS)
        try:
            connection.request(handler.command, handler.path, body, headers)
            answer = connection.getresponse()
            content, status = answer.read(), answer.status
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP]
        except (OSError, HTTPException) as error:
            content, status, kept = str(error).encode(), 502, [("Content-Length", str(len(str(error))))]
        finally:
            connection.close()
        path = handler.path.partition("?")[0]
        took = time.monotonic() - began
        self.exchanges.append(Exchange(path, _json(body), status, _json(content), took))
        with suppress(ConnectionError):  # Label Studio may have had enough
            _answer(handler, status, kept, content)


@contextmanager
def recording(port: int) -> Iterator[Recorder]:
    """Listen on a free port of this machine, and pass on to `port`, until the block ends."""
    recorder = Recorder("", port)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            recorder.handle(self)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        recorder.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, name="recorder")
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()


def _answer(
    handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    handler.send_response_only(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
