"""What a browser or a script gets from the pages beside Label Studio's protocol."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol

JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Page:
    """One answer.

    Attributes:
        policy: content security policy that goes as a header; empty: the server's own.
    """

    body: bytes
    content_type: str = "text/html; charset=utf-8"
    status: int = 200
    policy: str = ""


class Pages(Protocol):
    """The status page and its JSON."""

    def answer(self, method: str, path: str, body: bytes, project: str = "") -> Page | None:
        """What is at `/` or below `/api/`; None: nothing.

        Args:
            project: the only one that whoever asks may know of; empty: all of them.

        Raises:
            EdgeTAMError: as everywhere; the server makes an answer of it.
        """


def json_page(document: object) -> Page:
    """Plain values as JSON."""
    return Page(json.dumps(document, allow_nan=False).encode(), JSON_TYPE)


def problem_page(status: int, problem: str) -> Page:
    """A refusal in plain words, in the form of all errors of the server."""
    body = json.dumps({"error": {"field": None, "problem": problem}}).encode()
    return Page(body, JSON_TYPE, status)


def refused(expected: str, method: str) -> Page | None:
    """The refusal of another method; None: it is the right one."""
    return None if method == expected else problem_page(405, f"expected {expected}")
