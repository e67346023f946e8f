"""As much of a CVAT server as a task's annotations need, with what is particular to the real one.

Frames are counted from 0 whatever the media starts with; tracks, shapes and key frames have numbers of their
own; an update deletes and creates, so that ids change; attributes that were not sent come back with defaults;
a track takes immutable attributes, its key frames mutable ones; lists come in pages.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from typing import Any

from flask import Flask, Response, abort, jsonify, request
from werkzeug.serving import make_server

TOKEN, USER, PASSWORD = "a-token-of-64-letters", "annotator", "a password"
CAR, BIRD = 3, 4  # labels
PLATE, SPEED = 31, 32  # attributes of CAR: immutable and mutable
PAGE = 2  # results per page, so that a client has to turn them
LABELS: list[dict[str, Any]] = [
    {
        "id": CAR,
        "name": "car",
        "attributes": [
            {"id": PLATE, "name": "plate", "mutable": False, "default_value": "none"},
            {"id": SPEED, "name": "speed", "mutable": True, "default_value": "still"},
        ],
    },
    {"id": BIRD, "name": "bird", "attributes": []},
    {"id": 9, "name": "tree", "attributes": []},
]
SPECS = {label["id"]: label["attributes"] for label in LABELS}

Json = dict[str, Any]


@dataclass(frozen=True)
class JobSpan:
    """A job's frames, both included."""

    id: int
    start: int
    stop: int
    type: str = "annotation"


@dataclass
class TaskServer:
    """One task, and what happened to it.

    Attributes:
        images: encoded frames by the task's numbering.
        size: width, height.
        source_start, step: how the media's frames became the task's.
        downloads: frames in the order they were asked for.
        failing: what the next requests for a frame are answered with instead.
        broken: frames that cannot be had.
        patches: (job, action) in order.
        lose_answers: work is done, the answer to a PATCH never comes.
        away_after: every request after so many different frames is answered 503; None: it stays.
    """

    images: Sequence[bytes]
    size: tuple[int, int]
    jobs: Sequence[JobSpan]
    task: int = 7
    source_start: int = 0
    step: int = 1
    deleted: tuple[int, ...] = ()
    url: str = ""
    downloads: list[int] = field(default_factory=list)
    failing: list[int] = field(default_factory=list)
    broken: frozenset[int] = frozenset()
    patches: list[tuple[int, str]] = field(default_factory=list)
    lose_answers: bool = False
    away_after: int | None = None
    log: list[str] = field(default_factory=list)
    shapes: dict[int, dict[int, Json]] = field(default_factory=dict)  # by job and id
    tracks: dict[int, dict[int, Json]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = {name: count(start) for name, start in (("shape", 50), ("track", 50), ("key", 900))}
        for job in self.jobs:
            self.shapes[job.id], self.tracks[job.id] = {}, {}

    def job(self, number: int) -> JobSpan:
        return next((job for job in self.jobs if job.id == number), None) or abort(HTTPStatus.NOT_FOUND)

    def create(self, job: int, body: Mapping[str, Any]) -> Json:
        """Check and store; returns what was stored."""
        made: Json = {"version": 0, "tags": [], "shapes": [], "tracks": []}
        for shape in body.get("shapes", ()):
            made["shapes"].append(self._stored_shape(copy.deepcopy(shape)))
        for track in body.get("tracks", ()):
            made["tracks"].append(self._stored_track(copy.deepcopy(track)))
        for kind in ("shapes", "tracks"):
            getattr(self, kind)[job].update({item["id"]: item for item in made[kind]})
        return made

    def delete(self, job: int, body: Mapping[str, Any]) -> None:
        for kind in ("shapes", "tracks"):
            for item in body.get(kind, ()):
                getattr(self, kind)[job].pop(item["id"], None)

    def edit(self, job: int, track: Json) -> Json:
        """What CVAT's page does when a person moves a box: the whole track is sent again as semi-auto."""
        edited = {**copy.deepcopy(track), "source": "manual" if track["source"] == "manual" else "semi-auto"}
        self.delete(job, {"tracks": [track]})
        return dict(self.create(job, {"tracks": [edited]})["tracks"][0])

    def annotations(self, jobs: Sequence[int]) -> Json:
        """As a GET has them, defaults filled in."""
        shapes = [shape for job in jobs for shape in copy.deepcopy(list(self.shapes[job].values()))]
        tracks = [track for job in jobs for track in copy.deepcopy(list(self.tracks[job].values()))]
        for shape in shapes:
            _fill(shape["attributes"], SPECS[shape["label_id"]])
        for track in tracks:
            specs = SPECS[track["label_id"]]
            _fill(track["attributes"], [spec for spec in specs if not spec["mutable"]])
            for shape in track["shapes"]:
                _fill(shape["attributes"], [spec for spec in specs if spec["mutable"]])
        return {"version": 0, "tags": [], "shapes": shapes, "tracks": tracks, "intervals": []}

    def meta(self, job: JobSpan | None) -> Json:
        first, last = (job.start, job.stop) if job else (0, len(self.images) - 1)
        width, height = self.size
        return {
            "size": last - first + 1,
            "start_frame": self.source_start + first * self.step,
            "stop_frame": self.source_start + last * self.step,
            "frame_filter": f"step={self.step}" if self.step > 1 else "",
            "deleted_frames": [frame for frame in self.deleted if first <= frame <= last],
            "included_frames": None,
            "frames": [{"name": "v.mp4", "width": width, "height": height, "related_files": 0}],
            "image_quality": 70,
        }

    def _stored_shape(self, shape: Json) -> Json:
        _check_attributes(shape["label_id"], shape.get("attributes", []), (True, False))
        given = {"occluded": False, "z_order": 0, "rotation": 0.0, "group": 0, "source": "manual"}
        return given | {"attributes": [], "elements": []} | shape | {"id": next(self._numbers["shape"])}

    def _stored_track(self, track: Json) -> Json:
        _check_attributes(track["label_id"], track.get("attributes", []), (False,))
        for shape in track["shapes"]:
            _check_attributes(track["label_id"], shape.get("attributes", []), (True,))
            shape["id"] = next(self._numbers["key"])
            for name, value in {"occluded": False, "outside": False, "z_order": 0, "rotation": 0.0}.items():
                shape.setdefault(name, value)
            shape.setdefault("attributes", [])
        if not track["shapes"] or track["shapes"][0]["frame"] != track["frame"]:
            abort(Response("a track begins with its first key frame", HTTPStatus.BAD_REQUEST))
        given: Json = {"group": 0, "source": "manual", "attributes": [], "elements": []}
        return given | track | {"id": next(self._numbers["track"])}


@contextmanager
def serving(state: TaskServer) -> Iterator[TaskServer]:
    """Serve until the block ends, on a free port of this machine."""
    server = make_server("127.0.0.1", 0, _app(state), threaded=True)
    state.url = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _app(state: TaskServer) -> Flask:
    app = Flask(__name__)
    lock = threading.Lock()

    @app.before_request
    def check() -> None:
        state.log.append(f"{request.method} {request.full_path}")
        if state.away_after is not None and len(set(state.downloads)) >= state.away_after:
            abort(HTTPStatus.SERVICE_UNAVAILABLE)
        if request.path == "/api/auth/login":
            return
        let_in = (
            request.headers.get("Authorization") == f"Bearer {TOKEN}"
            or request.cookies.get("sessionid") == "s"
        )
        if not let_in:
            abort(Response("no credentials", HTTPStatus.UNAUTHORIZED))

    @app.post("/api/auth/login")
    def login() -> Response:
        if request.get_json() != {"username": USER, "password": PASSWORD}:
            return Response('{"non_field_errors":["Unable to log in."]}', HTTPStatus.BAD_REQUEST)
        response = jsonify(key="k")
        response.set_cookie("sessionid", "s")
        response.set_cookie("csrftoken", "c")
        return response

    _add_reading(app, state)

    @app.patch("/api/jobs/<int:job>/annotations/")
    def patch(job: int) -> Response:
        action, body = request.args["action"], request.get_json()
        state.job(job)
        with lock:
            state.patches.append((job, action))
            answer = state.create(job, body) if action == "create" else body
            if action == "delete":
                state.delete(job, body)
        if state.lose_answers:
            abort(Response("<html>gateway</html>", HTTPStatus.GATEWAY_TIMEOUT))
        return jsonify(answer)

    return app


def _add_reading(app: Flask, state: TaskServer) -> None:
    @app.get("/api/jobs/<int:job>")
    def one_job(job: int) -> Response:
        return jsonify(_job_json(state, state.job(job)))

    @app.get("/api/jobs")
    def jobs() -> Response:
        found = (
            [_job_json(state, job) for job in state.jobs]
            if request.args["task_id"] == str(state.task)
            else []
        )
        return jsonify(_page(found))

    @app.get("/api/labels")
    def labels() -> Response:
        return jsonify(_page(LABELS))

    @app.get("/api/<kind>/<int:number>/data/meta")
    def meta(kind: str, number: int) -> Response:
        return jsonify(state.meta(_job_of(state, kind, number)))

    @app.get("/api/<kind>/<int:number>/annotations/")
    def annotations(kind: str, number: int) -> Response:
        job = _job_of(state, kind, number)
        return jsonify(state.annotations([job.id] if job else [j.id for j in state.jobs]))

    @app.get("/api/<kind>/<int:number>/data/")
    def data(kind: str, number: int) -> Response:
        job = _job_of(state, kind, number)
        frame = int(request.args["number"])
        if (request.args["type"], request.args["quality"]) != ("frame", "original"):
            abort(HTTPStatus.BAD_REQUEST)
        if state.failing:
            abort(state.failing.pop(0))
        if frame in state.broken or (job and not job.start <= frame <= job.stop):
            abort(Response("Incorrect requested frame number", HTTPStatus.BAD_REQUEST))
        state.downloads.append(frame)
        return Response(state.images[frame], mimetype="image/png")


def _job_of(state: TaskServer, kind: str, number: int) -> JobSpan | None:
    if kind == "jobs":
        return state.job(number)
    return None if (kind, number) == ("tasks", state.task) else abort(HTTPStatus.NOT_FOUND)


def _job_json(state: TaskServer, job: JobSpan) -> Json:
    return {
        "id": job.id,
        "task_id": state.task,
        "start_frame": job.start,
        "stop_frame": job.stop,
        "type": job.type,
        "dimension": "2d",
    }


def _page(items: Sequence[Json]) -> Json:
    page = int(request.args.get("page", 1))
    more = len(items) > page * PAGE
    return {
        "count": len(items),
        "next": f"{request.base_url}?page={page + 1}" if more else None,
        "previous": None,
        "results": list(items[(page - 1) * PAGE : page * PAGE]),
    }


def _check_attributes(label: int, values: Sequence[Json], mutable: tuple[bool, ...]) -> None:
    allowed = {spec["id"] for spec in SPECS.get(label, ()) if spec["mutable"] in mutable}
    for value in values:
        if label not in SPECS or value["spec_id"] not in allowed:
            abort(Response(f'["spec_id `{value["spec_id"]}` is invalid"]', HTTPStatus.BAD_REQUEST))


def _fill(values: list[Json], specs: Sequence[Json]) -> None:
    there = {value["spec_id"] for value in values}
    values += [{"spec_id": s["id"], "value": s["default_value"]} for s in specs if s["id"] not in there]
