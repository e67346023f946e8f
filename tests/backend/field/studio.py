"""A Label Studio over HTTP as far as the field kit knows it: tasks with annotations that can be changed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.backend.field.kits import STILL_CONFIG
from tests.backend.web_fixtures import Answer, Asked, WebServer, serving

KEY = "0123456789abcdef0123456789abcdef01234567"
PROJECT = 3
Document = dict[str, Any]


@dataclass
class Studio:
    """One project. `annotations` are by their id; each names its task."""

    web: WebServer
    config: str = STILL_CONFIG
    tasks: dict[int, Document] = field(default_factory=dict)
    annotations: dict[int, Document] = field(default_factory=dict)
    media: dict[str, bytes] = field(default_factory=dict)
    clock: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return {"LABEL_STUDIO_URL": self.web.url, "LABEL_STUDIO_API_KEY": KEY}

    @property
    def writes(self) -> int:
        """How often something was changed over HTTP."""
        return sum(asked.method != "GET" for asked in self.web.asked)

    def add_task(self, number: int, path: str, content: bytes, key: str = "image") -> None:
        self.tasks[number] = {"id": number, "data": {key: path}}
        self.media[path] = content

    def store(self, task: int, result: list[Any], number: int | None = None) -> Document:
        """Create an annotation, or change one."""
        self.clock += 1
        number = number or max(self.annotations, default=100) + 1
        when = f"2026-01-01T00:00:{self.clock:02d}Z"
        made = {"id": number, "task": task, "result": result, "updated_at": when, "was_cancelled": False}
        self.annotations[number] = made
        return made

    def of(self, task: int) -> list[Document]:
        return [one for one in self.annotations.values() if one["task"] == task]

    def answer(self, asked: Asked) -> Answer:
        url = urlsplit(asked.path)
        if asked.headers.get("Authorization") != f"Token {KEY}":
            return Answer(b'{"detail": "Invalid token."}', 401)
        project = {"id": PROJECT, "title": "discs", "label_config": self.config}
        whole = {f"/api/projects/{PROJECT}/": reply(project)} | {
            path: Answer(content) for path, content in self.media.items()
        }
        if url.path in whole:
            return whole[url.path]
        if url.path == "/api/tasks/":
            return self._list({name: values[0] for name, values in parse_qs(url.query).items()})
        if match := re.fullmatch(r"/api/tasks/(\d+)/annotations/", url.path):
            return self._annotations(asked, int(match[1]))
        if match := re.fullmatch(r"/api/annotations/(\d+)/", url.path):
            known = self.annotations[int(match[1])]
            return reply(self.store(known["task"], json.loads(asked.body)["result"], known["id"]))
        return Answer(b'{"detail": "Not found."}', 404)

    def _annotations(self, asked: Asked, task: int) -> Answer:
        if task not in self.tasks:
            return Answer(b'{"detail": "Not found."}', 404)
        if asked.method == "POST":
            return reply(self.store(task, json.loads(asked.body)["result"]))
        return reply(self.of(task))

    def _list(self, query: dict[str, str]) -> Answer:
        assert (query["project"], query["resolve_uri"]) == (str(PROJECT), "false")
        filters = json.loads(query["query"]).get("filters")
        wanted = {item["value"] for item in filters["items"]} if filters else set(self.tasks)
        found = [{**self.tasks[n], "annotations": self.of(n)} for n in sorted(wanted & set(self.tasks))]
        size, page = int(query["page_size"]), int(query["page"])
        return reply({"total": len(found), "tasks": found[(page - 1) * size : page * size]})


class _Everything(dict[str, Any]):
    """Every path leads to the studio."""

    def __init__(self, studio: Studio) -> None:
        super().__init__()
        self._studio = studio

    def get(self, path: str, default: Any = None) -> Any:
        return self._studio.answer


@contextmanager
def studio() -> Iterator[Studio]:
    """One on a free port of this machine."""
    with serving() as web:
        made = Studio(web)
        web.routes = _Everything(made)
        yield made


def reply(content: object) -> Answer:
    return Answer(json.dumps(content).encode(), headers={"Content-Type": "application/json"})
