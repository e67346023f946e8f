"""The record of who did what: one line in the log for each act that changes something; never bodies."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import ContextVar

from backend.gate import Client
from backend.logs import fields

NOBODY = Client("", "unknown")
_acting: ContextVar[Client] = ContextVar("acting", default=NOBODY)
log = logging.getLogger(__name__)


def set_client(client: Client) -> None:
    """What is done on this thread from now on is done by this client."""
    _acting.set(client)


def record(act: str, about: Mapping[str, str | int]) -> None:
    """Write down one act of the client that this thread works for.

    Args:
        act: one word: cancel, track, train …
        about: what it was done to, by kind: job, project, version, task. Ids and names, never contents.
    """
    client = _acting.get()
    named = ", ".join(f"{kind} {name}" for kind, name in about.items() if name != "")
    log.info(
        "%s: %s %s",
        client,
        act,
        named,
        extra=fields(act=act, who=client.who, address=client.address, **about),
    )
