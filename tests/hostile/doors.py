"""Every door that takes media, with real processes behind the ones of Label Studio.

Label Studio's are `edgetam serve` and `edgetam worker` over a real Redis; CVAT's functions run in this
process behind Nuclio's own SDK, so a crash of theirs ends the tests.
"""

from __future__ import annotations

import base64
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backend.embedded_redis import EmbeddedRedis
from backend.jobs import JobStatus
from backend.queue import JobQueue
from backend.queue_store import connect
from cvat_function.interactor import main as interactor
from cvat_function.tracker import main as tracker
from tests.backend.server_fixtures import IMAGE_CONFIG, VIDEO_CONFIG, click, image_task, predict_body
from tests.backend.video_json import keyframe, region
from tests.chaos.programs import Program, edgetam, free_port
from tests.cvat_function.nuclio_fixtures import Function, tiny_weights
from tests.hostile.hooked import NAMES

LIMITS = {
    "EDGETAM_MAX_PIXELS": "1000000",
    "EDGETAM_MAX_FRAMES": "200",
    "EDGETAM_MAX_SECONDS": "3600",
    "EDGETAM_MAX_MEDIA_BYTES": "4MiB",
    "EDGETAM_CVAT_MAX_IMAGE_BYTES": str(4 * 2**20),
    "EDGETAM_FETCH_SECONDS": "6",
    "EDGETAM_STALL_SECONDS": "2",
}
OVER = 120.0  # seconds until all jobs of a list must be over
CLICKED = {"result": [click(50, 50)]}
DRAWN = {"result": [region(keyframe(1))]}


@dataclass
class Doors:
    """The running stack.

    Attributes:
        url: of the server.
        queue: where the ends of video jobs are read.
        programs: server and worker, as they were started.
        healths: seconds that each look at /health took.
    """

    url: str
    queue: JobQueue
    programs: Sequence[Program]
    functions: Mapping[str, Function]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    healths: list[float] = field(default_factory=list)

    def image(self, value: object) -> str:
        """Click on an image; why it was refused, empty where it was not."""
        task = image_task("", number=next(self.numbers)) | {"data": {"image": value}}
        return problem(*self.post("/predict", predict_body(task, config=IMAGE_CONFIG, context=CLICKED)))

    def press(self, value: object) -> int | str:
        """Press t on a video; the task's number, or why the press itself was refused."""
        number = next(self.numbers)
        task = {"id": number, "data": {"video": value, "fps": 25}, "annotations": [], "drafts": []}
        status, answer = self.post("/predict", predict_body(task, config=VIDEO_CONFIG, context=DRAWN))
        refused = problem(status, answer)
        return refused if refused and "cannot be tracked" not in refused else number

    def videos(self, values: Sequence[object]) -> list[str]:
        """Press t on many videos; why each was refused, at once or by its job, empty where it was not."""
        pressed = [self.press(value) for value in values]
        end = time.monotonic() + OVER
        while True:
            jobs = {job.title.partition(":")[0]: job for job in self.queue.recent(10_000)}
            if all(job.is_over for job in jobs.values()):
                break
            assert time.monotonic() < end, [job for job in jobs.values() if not job.is_over]
            time.sleep(0.05)
        return [one if isinstance(one, str) else _end(jobs[f"task {one}"]) for one in pressed]

    def cvat(self, name: str, content: bytes) -> str:
        """Send an image to one of CVAT's functions; why it was refused, empty where it was not."""
        image = base64.b64encode(content).decode()
        body: dict[str, Any] = {"image": image, "pos_points": [[10, 10]]}
        if name == "tracker":
            body = {
                "image": image,
                "shapes": [{"type": "rectangle", "points": [5, 5, 20, 20]}],
                "states": [None],
            }
        reply = self.functions[name].post(body)
        assert reply.status in (200, 400), self.functions[name].log.getvalue()[-3000:]
        return "" if reply.status == 200 else str(reply.body["error"])

    def post(self, path: str, body: object) -> tuple[int, dict[str, Any]]:
        """Status and answer."""
        asked = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(asked, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def look(self) -> None:
        """At /health: alive, within a second."""
        begun = time.monotonic()
        with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
            assert response.status == 200
        self.healths.append(time.monotonic() - begun)
        assert self.healths[-1] < 1

    def alive(self) -> bool:
        """Whether server and worker are the processes that were started, and logged nothing unexpected."""
        assert all(program.pid for program in self.programs), "a process died"
        for program in self.programs:
            assert "Traceback" not in program.log.read_text(errors="replace"), program.tail()
        return True


def problem(status: int, answer: Mapping[str, Any]) -> str:
    """Of an answer: empty for 200; anything but a refusal with a field is a failure."""
    if status == 200:
        return ""
    assert status == 400, (status, answer)
    return f"{answer['error']['field']}: {answer['error']['problem']}"


def _end(job: JobStatus) -> str:
    assert job.state in ("done", "failed"), job
    return job.error if job.state == "failed" else ""


@contextmanager
def open_doors(
    folder: Path, more: Mapping[str, str], names: Mapping[str, Any] | None = None, *, works: bool = True
) -> Iterator[Doors]:
    """All doors, over media in `folder/media`.

    Args:
        more: settings, by their variables.
        names: those of `hooked`.
        works: whether there is a worker.
    """
    weights = tiny_weights(folder)
    environ = {
        **LIMITS,
        "EDGETAM_WEIGHTS": str(weights),
        "EDGETAM_DEVICE": "cpu",
        "EDGETAM_CACHE": str(folder / "cache"),
        "EDGETAM_MEDIA_ROOTS": str(folder / "media"),
        "EDGETAM_ANSWER_SECONDS": "0",
        "EDGETAM_QUEUE_LIMIT": "1000",
        NAMES: json.dumps(names or {}),
        **more,
    }
    with ExitStack() as held:
        redis = held.enter_context(EmbeddedRedis(folder / "redis"))
        environ["REDIS_URL"] = redis.url
        url = f"http://127.0.0.1:{free_port()}"
        words = ("serve", "--workers", "0", "--host", "127.0.0.1", "--port", url.rpartition(":")[2])
        server = _program("server", words, folder, environ, url)
        worker = _program("worker", ("worker",), folder, environ, "")
        programs = (server, worker) if works else (server,)
        for program in programs[::-1]:
            held.callback(program.stop)
            program.start()
        server.ready()
        patch = held.enter_context(pytest.MonkeyPatch.context())
        for name, value in environ.items():
            patch.setenv(name, value)
        functions = {
            "interactor": Function(interactor.handler).start(interactor.init_context),
            "tracker": Function(tracker.handler).start(tracker.init_context),
        }
        queue = JobQueue(connect(redis.url, patience=5))
        held.callback(queue.store.redis.close)
        yield Doors(url, queue, programs, functions)


def _program(name: str, words: Sequence[str], folder: Path, environ: Mapping[str, str], url: str) -> Program:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1) as response:
                return json.load(response)["model"]["state"] == "ready"
        except OSError:
            return False

    command = edgetam(*words)
    command[2] = "tests.hostile.hooked"
    return Program(name, name, command, folder / f"{name}.log", environ, answers if url else None)
