"""A server that gives everyone the same answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, Response
from werkzeug.serving import make_server


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """Serve until the block ends; yields the address."""
    app = Flask(__name__)

    @app.route("/<path:_path>", methods=["GET", "POST"])
    def answer(_path: str) -> Response:
        return Response(body, status)

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
