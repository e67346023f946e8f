"""A Label Studio over HTTP whose projects hold discs that somebody painted, and a worker that learns them.

Run as a program, this is the worker: `python -m tests.backend.fit_studio REDIS NAMESPACE`, with settings from
the environment.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.brush_rle import encode_brush
from backend.fit_job import fit_job
from backend.fit_schedule import KIND
from backend.jobs import JSON, JobHandle
from backend.queue import JobQueue
from backend.queue_store import connect
from backend.settings import Settings
from backend.worker import Worker
from edgetam_model import CONFIGS, FitJob, FitOptions, FitOutcome, run_fit
from edgetam_model.training.forgetting import ForgettingSet
from edgetam_model.weights import save_weights
from tests.backend.web_fixtures import Answer, Asked, WebServer, serving
from tests.models import tiny_model

KEY = "0123456789abcdef0123456789abcdef01234567"
SIDE = 64
CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image"><Label value="disc"/></BrushLabels></View>"""


@dataclass
class Project:
    """Its config, its tasks by id, and media by path."""

    config: str = CONFIG
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    media: dict[str, bytes] = field(default_factory=dict)


class Studio:
    """The part of Label Studio's API that trainings use, as 1.23.2 answers it."""

    def __init__(self, web: WebServer) -> None:
        self.web = web
        self.projects: dict[int, Project] = {}
        self.refusals: dict[str, Answer] = {}  # by path without the query
        web.routes = _Everything(self)

    @property
    def url(self) -> str:
        return self.web.url

    def paint(self, project: int, *numbers: int, seed: int = 0) -> None:
        """Annotate images of a project; a number is the task's id."""
        made = self.projects.setdefault(project, Project())
        for number in numbers:
            rgb, mask = disc(1000 * project + number + 100_000 * seed)
            path = f"/data/upload/{project}/{number}.png"
            made.media[path] = png(rgb)
            made.tasks[number] = painted(number, path, mask)

    def settings(self, folder: Path, **more: str) -> dict[str, str]:
        """The environment of a worker."""
        return {
            "LABEL_STUDIO_URL": self.url,
            "LABEL_STUDIO_API_KEY": KEY,
            "EDGETAM_CACHE": str(folder / "cache"),
            "MODEL_DIR": str(folder / "models"),
            "EDGETAM_DEVICE": "cpu",
            "EDGETAM_WEIGHTS": str(tiny_weights(folder)),
            **more,
        }

    def asked(self, prefix: str) -> list[str]:
        """Paths that were asked for, below a prefix."""
        return [path for path in self.web.paths() if path.startswith(prefix)]

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("Authorization") != f"Token {KEY}":
            return Answer(b'{"detail": "Invalid token."}', 401)
        url = urlsplit(asked.path)
        if url.path in self.refusals:
            return self.refusals[url.path]
        if url.path == "/api/tasks/":
            return self._tasks({name: values[0] for name, values in parse_qs(url.query).items()})
        if match := re.fullmatch(r"/api/projects/(\d+)/", url.path):
            return self._project(int(match[1]))
        for project in self.projects.values():
            if url.path in project.media:
                return Answer(project.media[url.path], headers={"ETag": f'"{len(project.media[url.path])}"'})
        return Answer(b'{"detail": "Not found."}', 404)

    def _project(self, number: int) -> Answer:
        if number not in self.projects:
            return Answer(b'{"detail": "Not found."}', 404)
        return reply({"id": number, "title": "discs", "label_config": self.projects[number].config})

    def _tasks(self, query: dict[str, str]) -> Answer:
        assert (query["fields"], query["resolve_uri"]) == ("all", "false")
        assert "total_annotations" in query["query"]
        known = self.projects[int(query["project"])].tasks
        drawn = [known[number] for number in sorted(known) if known[number]["annotations"]]
        size, page = int(query["page_size"]), int(query["page"])
        if page > 1 and (page - 1) * size >= len(drawn):
            return Answer(b'{"detail": "Invalid page."}', 404)
        return reply({"total": len(drawn), "tasks": drawn[(page - 1) * size : page * size]})


class _Everything(dict[str, Any]):
    """Every path leads to the studio."""

    def __init__(self, studio: Studio) -> None:
        super().__init__()
        self.studio = studio

    def get(self, path: str, default: Any = None) -> Any:
        return self.studio.answer


@contextmanager
def studio() -> Iterator[Studio]:
    """One on a free port of this machine."""
    with serving() as web:
        yield Studio(web)


def reply(content: object) -> Answer:
    return Answer(json.dumps(content).encode(), headers={"Content-Type": "application/json"})


def disc(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """uint8 (SIDE, SIDE, 3), and where its disc is."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    middle = random.integers(20, SIDE - 20, 2)
    mask: NDArray[np.bool_] = (x - middle[0]) ** 2 + (y - middle[1]) ** 2 < random.integers(8, 14) ** 2
    rgb = random.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
    rgb[mask] = (230, 200, 180)
    return rgb, mask


def png(rgb: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


def painted(number: int, path: str, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A task with one brush mask, and more than anybody asks for, as Label Studio sends it."""
    region = {
        "id": f"r{number}",
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": "image",
        "origin": "manual",
        "original_width": SIDE,
        "original_height": SIDE,
        "value": {"format": "rle", "rle": list(encode_brush(mask)), "brushlabels": ["disc"]},
    }
    annotation = {"id": 10 * number, "result": [region], "was_cancelled": False, "created_ago": "0 minutes"}
    return {
        "id": number,
        "data": {"image": path},
        "annotations": [annotation],
        "predictions": [{"id": 1, "result": [region]}],
        "drafts": [],
        "is_labeled": True,
    }


def tiny_weights(folder: Path) -> Path:
    """A file with the smallest model there is."""
    path = folder / "tiny.safetensors"
    if not path.exists():
        save_weights(path, tiny_model(), CONFIGS["tiny"], licence="MIT", source="a test")
    return path


def quick(job: JobHandle) -> JSON:
    """More urgent work."""
    return None


def short(fit: FitJob, job: JobHandle) -> FitOutcome:
    """The real training, of a few updates."""
    options = FitOptions(mode=fit.options.mode, updates=8, minimum=fit.options.minimum)
    return run_fit(replace(fit, options=options), job)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    # Two short clips tell a test enough of what was forgotten.
    ForgettingSet.affordable = classmethod(lambda kind, config: kind(clips=2, frames=2, size=64))  # type: ignore[method-assign,assignment]
    own = JobQueue(connect(sys.argv[1], patience=5), namespace=sys.argv[2])
    Worker(own, {KIND: fit_job(Settings.from_env(os.environ), run=short), "quick": quick}, drain=5.0).work()
