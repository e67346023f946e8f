from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from PIL import Image

from backend.commands import worker as worker_command
from backend.commands.options import environment_of, environment_table
from backend.commands.serve import with_threads
from backend.commands.worker import job_functions, parse_queues, signs_of_life
from backend.embedded_redis import EmbeddedRedis
from backend.project_models import ProjectModels
from backend.settings import Settings
from backend.worker import Worker
from edgetam_model import InputError
from edgetam_model.cli import build_parser, main
from tests.backend.queue_fixtures import new_queue, until
from tests.backend.server_fixtures import IMAGE_CONFIG, click, image_task, predict_body
from tests.backend.serving_load import crowd_at
from tests.backend.web_fixtures import Answer, WebServer, serving

COMMAND = [sys.executable, "-m", "edgetam_model.cli", "serve", "--host", "127.0.0.1", "--port", "0"]


def png() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((64, 48)).save(buffer, "PNG")
    return buffer.getvalue()


def call(url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    asked = Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urlopen(asked, timeout=60) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


@contextmanager
def server(folder: Path, *options: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server as people start it; killed with all its children if it does not end by itself."""
    known = {
        **{
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("EDGETAM", "LABEL_STUDIO"))
        },
        "EDGETAM_RUNTIME": "torch",
        "MODEL_DIR": str(folder / "models"),
        "EDGETAM_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*COMMAND, *options], env={**known, **environ}, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+:\d+", line)
        assert found, (folder / "log").read_text()
        yield process, found[0]
    finally:
        process.stdout.close()
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def stopped(process: subprocess.Popen[str], number: signal.Signals) -> float:
    """Seconds until it ended with all it had started."""
    children = psutil.Process(process.pid).children(recursive=True)
    begun = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == 0
    gone, alive = psutil.wait_procs(children, timeout=3)
    assert gone
    assert not alive
    return time.monotonic() - begun


def test_one_command_serves_and_stops(tmp_path: Path) -> None:
    with serving() as web:
        web.routes["/a.png"] = Answer(png())
        hosts = f"127.0.0.1:{web.port}"
        options = ("--weights", "default", "--workers", "1", "--log-json")
        with server(tmp_path, *options, EDGETAM_ALLOWED_HOSTS=hosts, EDGETAM_TOKEN="t0ken") as (process, url):
            use_it(url, web)
            children = psutil.Process(process.pid).children()
            assert len(children) == 3, "a worker, Redis, and a decoder of images"
            assert stopped(process, signal.SIGTERM) < 10
    text = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert any(line.get("route") == "/predict" for line in lines)
    assert "t0ken" not in text


def use_it(url: str, web: WebServer) -> None:
    begun = time.monotonic()
    assert call(f"{url}/health")[1]["status"] == "UP"
    assert time.monotonic() - begun < 1
    known = {"Authorization": "Bearer t0ken"}
    assert call(f"{url}/setup", {"project": "7.1", "schema": IMAGE_CONFIG})[0] == 401
    assert call(f"{url}/setup", {"project": "7.1", "schema": IMAGE_CONFIG}, known)[0] == 200
    body = predict_body(image_task(f"{web.url}/a.png"), context={"result": [click(50, 50)]})
    status, answer = call(f"{url}/predict", body, known)
    assert (status, len(answer["results"])) == (200, 1), answer
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 7}}
    assert call(f"{url}/webhook", event, known)[0] == 201
    far = predict_body(image_task("http://10.0.0.1/a.png"), context={"result": [click(50, 50)]})
    assert call(f"{url}/predict", far, known)[0] == 400


def test_ten_people_click_while_two_videos_are_tracked(tmp_path: Path) -> None:
    """`tests/long` has the same with a long clip and more clicks."""
    options = ("--weights", "default", "--workers", "2")
    with server(tmp_path, *options, EDGETAM_MEDIA_ROOTS=str(tmp_path)) as (_, url):
        crowd = crowd_at(url, tmp_path, frames=60, width=320, height=240)
        crowd.click_all(1)  # the model is there, and every image known
        with crowd.watched():
            for task in (1, 2):
                crowd.press(task)
            until(lambda: sum(job["done"] > 0 for job in crowd.jobs()) == 2, 120)
            crowd.click_all(2)
        assert all(job["state"] in ("running", "done") for job in crowd.jobs())
        assert set(crowd.seen.statuses) == {200}
        assert max(crowd.seen.health) < 1
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_what_has_begun_is_answered_after_sigterm(tmp_path: Path) -> None:
    with serving() as web, ThreadPoolExecutor(1) as pool:
        web.routes["/a.png"] = Answer(png(), pause_s=0.5 / (len(png()) // 1000 + 1))
        hosts = f"127.0.0.1:{web.port}"
        options = ("--weights", "default", "--workers", "0")
        with server(tmp_path, *options, EDGETAM_ALLOWED_HOSTS=hosts) as (process, url):
            until(lambda: call(f"{url}/ready")[0] == 200, 240)
            web.routes["/b.png"] = Answer(png())
            known = predict_body(image_task(f"{web.url}/b.png"), context={"result": [click(50, 50)]})
            assert call(f"{url}/predict", known)[0] == 200  # the first one takes longer
            body = predict_body(image_task(f"{web.url}/a.png"), context={"result": [click(50, 50)]})
            answer = pool.submit(call, f"{url}/predict", body)
            until(lambda: len(web.asked) == 2, 20)
            assert not answer.done()
            process.send_signal(signal.SIGTERM)
            assert answer.result(20)[0] == 200
            assert process.wait(20) == 0


def test_ctrl_c_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    with server(tmp_path, "--weights", "default") as (process, _):
        assert stopped(process, signal.SIGINT) < 10


def test_weights_that_are_not_there_end_it_with_a_reason(tmp_path: Path) -> None:
    with server(tmp_path, "--weights", "nothing-like-it", "--workers", "0") as (process, _):
        assert process.wait(60) == 1
    assert "nothing-like-it: no such version" in (tmp_path / "log").read_text().splitlines()[-1]


def test_a_port_that_is_taken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as web:
        options = ["--host", "127.0.0.1", "--port", str(web.port), "--model-dir", str(tmp_path)]
        ended = subprocess.run(
            [*COMMAND[:4], *options, "--workers", "0", "--weights", "default"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "EDGETAM_CACHE": str(tmp_path)},
        )
    assert ended.returncode == 2
    assert f"port: 127.0.0.1:{web.port} cannot be listened on" in ended.stderr


def test_options_win_over_the_environment() -> None:
    args = build_parser().parse_args(["serve", "--port", "9", "--weights", "default"])
    environ = environment_of(args, {"PORT": "8", "HOST": "::1"})
    settings = Settings.from_env(environ)
    assert (settings.port, settings.host, settings.weights) == (9, "::1", "default")


@pytest.mark.parametrize("verb", ["serve", "worker"])
def test_help_explains_every_variable(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    shown = capsys.readouterr().out
    assert environment_table() in shown
    for row in Settings.reference():
        assert f"  {row.name}" in shown


@pytest.mark.parametrize("words", [["serve", "--workers", "-1"], ["worker", "--queues", "interactive,x"]])
def test_bad_options_are_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert words[1].removeprefix("--") in capsys.readouterr().err


def test_queues_are_served_in_their_order() -> None:
    assert parse_queues("fit, interactive") == ["interactive", "fit"]
    for wrong in ("", ",", "x", "batch,x"):
        with pytest.raises(InputError):
            parse_queues(wrong)


def test_a_worker_can_do_what_the_server_asks_for(tmp_path: Path) -> None:
    settings = Settings.from_env({"EDGETAM_CACHE": str(tmp_path)})
    assert set(job_functions(settings, ProjectModels.from_settings(settings))) == {"track", "fit"}


def test_a_probe_s_file_is_there_as_long_as_the_queue_knows_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_command, "ALIVE", 0.05)
    file = tmp_path / "alive"
    file.touch()
    with EmbeddedRedis(tmp_path / "redis") as redis:
        worker = Worker(new_queue(redis.url), {})
        with signs_of_life(file, worker):
            assert not file.exists(), "that was another worker's"
            worker._tick()
            until(file.exists, 5)
            worker._leave()
            time.sleep(0.2)  # a look under way may still touch it
            os.utime(file, (1, 1))
            time.sleep(0.3)
            assert file.stat().st_mtime == 1
        assert not file.exists()
        worker.queue.store.redis.close()


def test_a_probe_s_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    worker = Worker(new_queue("unix:///nowhere"), {})
    with (
        pytest.raises(InputError, match="cannot be written"),
        signs_of_life(tmp_path / "a" / "b", worker),
    ):
        pass


def test_cores_are_shared_out_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert with_threads({}, 1)["OMP_NUM_THREADS"] == "4"
    assert with_threads({}, 20)["OMP_NUM_THREADS"] == "1"
    told = {"OMP_NUM_THREADS": "3"}
    assert with_threads(told, 1) == {**told, "EDGETAM_THREADS": "3"}
    assert with_threads({**told, "EDGETAM_THREADS": "1"}, 1) == {**told, "EDGETAM_THREADS": "1"}
