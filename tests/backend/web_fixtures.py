"""A web server on this machine that answers as well or as badly as it is told to, and remembers who asked."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from backend.addresses import AddressPolicy, AllowedHost, Resolver
from backend.fetching import Fetcher, FetchLimits


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        ranges: whether a Range header is obeyed.
        declared: the Content-Length to claim; the true one when left out, none at all when -1.
        cut: bytes of the body after which the connection ends.
        part: most bytes that one ranged answer holds.
        pause_s: before every 1000 bytes of the body.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ranges: bool = False
    declared: int | None = None
    cut: int | None = None
    part: int | None = None
    pause_s: float = 0.0


Route = Answer | Callable[[Asked], Answer]


@dataclass
class WebServer:
    """Routes by path without the query; anything else is a 404."""

    port: int = 0
    routes: dict[str, Route] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)  # paths whose answers were taken whole

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        asked = Asked(handler.command, handler.path, dict(handler.headers), handler.rfile.read(length))
        self.asked.append(asked)
        route = self.routes.get(handler.path.partition("?")[0], Answer(status=404))
        with suppress(ConnectionError):  # the client may have had enough
            send(handler, route if isinstance(route, Answer) else route(asked), asked)
            self.answered.append(asked.path)


def send(handler: BaseHTTPRequestHandler, answer: Answer, asked: Asked) -> None:
    body, status, headers = answer.body, answer.status, dict(answer.headers)
    wanted = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("Range", ""))
    if wanted and answer.ranges:
        start = int(wanted[1])
        end = min(len(body), start + (answer.part or len(body)))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
        body, status = body[start:end], 206
    declared = len(body) if answer.declared is None else answer.declared
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    if declared >= 0:
        handler.send_header("Content-Length", str(declared))
    handler.end_headers()
    body = body if answer.cut is None else body[: answer.cut]
    if not answer.pause_s:
        handler.wfile.write(body)
        return
    for at in range(0, len(body), 1000):
        time.sleep(answer.pause_s)
        handler.wfile.write(body[at : at + 1000])


@contextmanager
def serving() -> Iterator[WebServer]:
    """A server on a free port of 127.0.0.1."""
    web = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.answer(self)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # of 5, the sixth of many at once waits a second for its second try

        def handle_error(self, *args: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def local_fetcher(
    *servers: WebServer, limits: FetchLimits | None = None, resolve: Resolver | None = None
) -> Fetcher:
    """A fetcher that may reach these servers by their ports, and nothing else that is not public."""
    allowed = [AllowedHost("127.0.0.1", server.port) for server in servers]
    policy = AddressPolicy(allowed, resolve) if resolve else AddressPolicy(allowed)
    return Fetcher(policy, limits or FetchLimits(2**20, total_s=5, stall_s=2))
