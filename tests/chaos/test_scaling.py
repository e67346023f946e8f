"""Four workers do four times as much, on one machine or on four; and nobody's queue grows without end.

The model's time is a sleep of fixed length here, so that this holds on any number of cores: what is measured
is the queue and the workers, not the model.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from backend.embedded_redis import EmbeddedRedis, server_program
from backend.jobs import JobOptions
from backend.queue import JobQueue
from backend.queue_store import connect
from tests.backend.queue_fixtures import ROOT, new_queue, until, worker_process
from tests.backend.server_fixtures import VIDEO_CONFIG, predict_body
from tests.backend.video_json import keyframe, region
from tests.chaos.programs import Program, edgetam, free_port
from tests.cvat_function.nuclio_fixtures import tiny_weights

STEP = 0.5  # seconds of a job: the model's time
JOBS = 32
SPEEDUP = 3.6
NAMESPACES = 4
PASSWORD = "of this test"


def put_in(queue: JobQueue, jobs: int) -> list[str]:
    """Jobs that sleep."""
    options = JobOptions(queue="batch")
    return [queue.enqueue("deaf", {"seconds": STEP}, options).id for _ in range(jobs)]


def seconds_of(queue: JobQueue, jobs: int) -> float:
    """From the first job's start to the last one's end, by Redis's clock."""
    ids = put_in(queue, jobs)
    until(lambda: all(status.is_over for status in queue.statuses(ids).values()), 120)
    ended = queue.statuses(ids).values()
    assert all(status.state == "done" for status in ended)
    return max(status.ended for status in ended) - min(status.started for status in ended)


def test_four_workers_do_four_times_as_much(url: str) -> None:
    queue, workers = new_queue(url), 4
    with ExitStack() as held:
        held.enter_context(worker_process(queue, url))
        one = JOBS // 4 / seconds_of(queue, JOBS // 4)
        for _ in range(workers - 1):
            held.enter_context(worker_process(queue, url))
        many = JOBS / seconds_of(queue, JOBS)
        if many / one < SPEEDUP:  # a machine that was busy with something else says nothing
            many = JOBS / seconds_of(queue, JOBS)
    print(f"1 worker: {one:.2f} jobs/s, {workers}: {many:.2f}, {many / one:.2f} times as many")  # noqa: T201
    assert many / one >= SPEEDUP


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis.url


def _ip(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ip", *words], check=False, capture_output=True)


def _may_make_namespaces() -> str:
    """Empty where they can be made, else why not."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        return "network namespaces need Linux, root and the program `ip` (iproute2)"
    made = _ip("netns", "add", "edgetam-try")
    _ip("netns", "del", "edgetam-try")
    return made.stderr.decode().strip()


@contextmanager
def machines(count: int) -> Iterator[tuple[str, list[str]]]:
    """Machines of their own as far as the network goes, on one switch.

    Yields:
        This machine's address on it, and the names of the others.
    """
    names = [f"edgetam-{os.getpid()}-{n}" for n in range(count)]
    bridge, third = f"et{os.getpid() % 10**6}", os.getpid() % 250
    with ExitStack() as held:

        def run(*words: str) -> None:
            told = _ip(*words)
            assert told.returncode == 0, (words, told.stderr)

        run("link", "add", bridge, "type", "bridge")
        held.callback(_ip, "link", "del", bridge)
        run("addr", "add", f"10.213.{third}.1/24", "dev", bridge)
        run("link", "set", bridge, "up")
        for n, name in enumerate(names):
            run("netns", "add", name)
            held.callback(_ip, "netns", "del", name)
            run("link", "add", f"{bridge}v{n}", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("link", "set", f"{bridge}v{n}", "master", bridge, "up")
            run("-n", name, "addr", "add", f"10.213.{third}.{n + 2}/24", "dev", "eth0")
            run("-n", name, "link", "set", "eth0", "up")
        yield f"10.213.{third}.1", names


@contextmanager
def redis_at(address: str, folder: Path) -> Iterator[str]:
    """A Redis with a password, that listens to the switch."""
    port = free_port()
    options = ("--bind", address, "--port", str(port), "--requirepass", PASSWORD, "--dir", str(folder))
    command = [str(server_program()), *options, "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        client: Redis = Redis(address, port, password=PASSWORD)
        until(lambda: _answers(client))
        client.close()
        yield f"redis://:{PASSWORD.replace(' ', '%20')}@{address}:{port}/0"
    finally:
        process.kill()
        process.wait()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except ConnectionError:
        return False
    except Exception as error:  # noqa: BLE001  the client's own errors, until it is there
        return "invalid" in str(error)


def test_workers_on_four_machines_share_one_redis(tmp_path: Path) -> None:
    """And one machine whose cable is pulled loses its job to another."""
    problem = _may_make_namespaces()
    if problem:
        pytest.skip(problem)
    with machines(NAMESPACES) as (address, names), redis_at(address, tmp_path) as url, ExitStack() as held:
        queue = JobQueue(connect(url, patience=5), namespace="machines")
        held.callback(queue.store.redis.close)
        command = [sys.executable, "-m", "tests.backend.queue_fixtures", url, "machines"]
        for name in names:
            process = subprocess.Popen(["ip", "netns", "exec", name, *command], cwd=ROOT)
            held.callback(process.wait)
            held.callback(process.kill)
        until(lambda: len(queue.workers()) == NAMESPACES, 60)
        ids = put_in(queue, 40)
        until(lambda: all(status.is_over for status in queue.statuses(ids).values()), 60)
        done = queue.statuses(ids).values()
        shares = Counter(status.worker for status in done)
        assert {status.state for status in done} == {"done"}
        assert len(shares) == NAMESPACES
        assert min(shares.values()) >= 5, shares
        lost = queue.enqueue("track", {"frames": 200, "step": 0.02}).id
        until(lambda: (status := queue.status(lost)) and status.done > 60)
        status = queue.status(lost)
        assert status is not None
        cut = next(n for n, name in enumerate(names) if _holds(name, queue, status.worker))
        assert _ip("-n", names[cut], "link", "set", "eth0", "down").returncode == 0
        until(lambda: (now := queue.status(lost)) and now.state == "done", 60)
        ended = queue.status(lost)
        assert ended is not None
        assert (ended.attempt, ended.worker != status.worker) == (2, True)
        parts = [frame for part in queue.partials(lost) if isinstance(part, list) for frame in part]
        assert parts == list(range(200))


def _holds(name: str, queue: JobQueue, worker: str) -> bool:
    """Whether a worker's process lives on this machine."""
    pid = next((one.pid for one in queue.workers() if one.name == worker), 0)
    return str(pid) in _ip("netns", "pids", name).stdout.decode().split()


@pytest.fixture
def full(tmp_path: Path) -> Iterator[str]:
    """A server whose queue takes three jobs, and nobody who does them."""
    url = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "clip.mp4").write_bytes(b"")
    environ = {
        "EDGETAM_WEIGHTS": str(tiny_weights(tmp_path)),
        "EDGETAM_DEVICE": "cpu",
        "EDGETAM_CACHE": str(tmp_path / "cache"),
        "EDGETAM_MEDIA_ROOTS": str(tmp_path),
        "EDGETAM_QUEUE_LIMIT": "3",
        "EDGETAM_PROJECT_SHARE": "1",
        "EDGETAM_ANSWER_SECONDS": "0",
        "EDGETAM_FIT_AFTER": "5",
    }
    words = ("serve", "--workers", "0", "--host", "127.0.0.1", "--port", url.rpartition(":")[2])

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1) as response:
                return json.load(response)["model"]["state"] == "ready"
        except OSError:
            return False

    server = Program("server", "server", edgetam(*words), tmp_path / "server.log", environ, answers)
    server.ready()
    yield url
    server.stop()


def post(url: str, body: object) -> tuple[int, str, dict[str, Any]]:
    """Status, Retry-After, answer."""
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=30) as response:
            return response.status, response.headers.get("Retry-After", ""), json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("Retry-After", ""), json.load(error)


def test_a_full_queue_is_told_with_429_and_when_to_come_again(full: str) -> None:
    drawn = [region(keyframe(1))]

    def press(task: int) -> tuple[int, str, dict[str, Any]]:
        asked = {"id": task, "data": {"video": "clip.mp4", "fps": 25}, "annotations": [], "drafts": []}
        return post(f"{full}/predict", predict_body(asked, config=VIDEO_CONFIG, context={"result": drawn}))

    def retrieve(task: int) -> tuple[int, str, dict[str, Any]]:
        saved = [{"id": 1, "result": drawn}]
        data = {"video": "clip.mp4", "fps": 25}
        asked = {"id": 100 + task, "data": data, "annotations": saved, "drafts": []}
        return post(f"{full}/predict", predict_body(asked, config=VIDEO_CONFIG))

    def tell(project: int) -> tuple[int, str, dict[str, Any]]:
        body = {"action": "ANNOTATION_CREATED", "project": {"id": project}, "annotation": {"id": 1}}
        return post(f"{full}/webhook", body)

    for ask, room in ((press, 3), (retrieve, 30), (tell, 3)):
        answers = [ask(number) for number in range(1, room + 12)]
        assert [status for status, _, _ in answers] == [201 if ask is tell else 200] * room + [429] * 11
        for _, retry, answer in answers[room:]:
            assert 1 <= int(retry) <= 60
            assert "jobs are waiting already" in answer["error"]["problem"]
    assert press(1)[0] == 200  # who waits already is not turned away
    begun = time.monotonic()
    with urllib.request.urlopen(f"{full}/metrics") as response:
        text = response.read().decode()
    assert time.monotonic() - begun < 2
    waiting = {
        queue: f'edgetam_queue_waiting{{queue="{queue}"}}' for queue in ("interactive", "batch", "fit")
    }
    counts = {queue: text.partition(f"{name} ")[2].split("\n")[0] for queue, name in waiting.items()}
    assert counts == {"interactive": "3", "batch": "30", "fit": "3"}
