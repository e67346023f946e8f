"""The field page's server: on the loopback address and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from backend.field.desk import Desk
from edgetam_model import InputError

HOST = "127.0.0.1"
THREADS = 8  # one browser asks for some six things at once


@dataclass(frozen=True)
class FieldServer:
    """A server that listens; `run` answers until the process is asked to end."""

    port: int
    server: Any  # waitress's own, which has no types

    def run(self) -> None:
        """Answer requests."""
        self.server.run()


@contextmanager
def listening(desk: Desk, key: str, port: int) -> Iterator[FieldServer]:
    """Listen on a port of this machine, 0 for any.

    Raises:
        InputError: it cannot be listened on, or waitress and Flask are not installed.
    """
    import socket

    try:
        import waitress

        from backend.field.app import create_app
    except ImportError as error:
        raise InputError("install", f'pip install "edgetam-labeling[server]" ({error})') from error
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        number = int(listener.getsockname()[1])
        app = create_app(desk, key, number)
        server = waitress.create_server(app, sockets=[listener], threads=THREADS, ident="edgetam")
    except OSError as error:
        listener.close()
        raise InputError("port", f"{HOST}:{port} cannot be listened on: {error.strerror}") from error
    try:
        yield FieldServer(number, server)
    finally:
        server.close()
