"""The installed image at work, in a container's place: read-only root, no network but loopback.

`test_install.py` runs it inside namespaces: `python -m tests.docker.installed PREFIX FOLDER`. PREFIX stands
for /opt/edgetam, and FOLDER holds all that may be written.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from backend.embedded_redis import server_program
from tests.backend.commands.test_serve import call
from tests.backend.queue_fixtures import until
from tests.backend.server_fixtures import click, image_task, predict_body
from tests.backend.serving_load import crowd_at
from tests.docker.recipes import DOCKER, compose, environment

PASSWORD = "s3cret"
URL = "http://127.0.0.1:9090"


def main(prefix: Path, folder: Path) -> None:
    """Doctor, server, worker and Redis by the stack's own commands; a click, two tracks, and the end."""
    variables = settings(prefix, folder)
    services = compose()["services"]
    alive = folder / "tmp" / "alive"
    worker = [word.replace("/tmp/alive", str(alive)) for word in services["worker"]["command"]]
    with redis(folder, services["redis"]["command"]):
        doctor(prefix, variables)
        with (
            program(prefix, services["server"]["command"], variables, folder / "server.log") as server,
            program(prefix, worker, variables, folder / "worker.log") as working,
        ):
            begun = time.monotonic()
            until(is_ready, 120)
            until(alive.exists, 120)
            tell(f"ready after {time.monotonic() - begun:.1f} s")
            track(folder)
            for name, process in (("worker", working), ("server", server)):
                begun = time.monotonic()
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
                tell(f"{name} stopped after {time.monotonic() - begun:.1f} s")
            assert not alive.exists()
    read_logs(folder)
    writable = [path.name for path in (Path("/"), prefix) if os.access(path, os.W_OK)]
    assert not writable, writable


def settings(prefix: Path, folder: Path) -> dict[str, str]:
    """The image's environment and the stack's, with the places of the test's own."""
    places = {
        "/opt/edgetam": prefix,
        "/var/cache/edgetam": folder / "cache",
        "/var/lib/edgetam": folder / "state",
    }
    variables = environment(DOCKER / "server.Dockerfile") | {
        "PATH": f"{prefix}/bin:{os.environ['PATH']}",
        "EDGETAM_WEIGHTS": "/opt/edgetam/weights/default.safetensors",
        "REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:6379/0",
        "EDGETAM_MEDIA_ROOTS": str(folder / "media"),
        "HOST": "127.0.0.1",
        "TMPDIR": str(folder / "tmp"),
        "OMP_NUM_THREADS": "1",
        "HOME": "/nowhere",
    }
    for old, new in places.items():
        variables = {name: text.replace(old, str(new)) for name, text in variables.items()}
    for name in ("cache", "state", "media", "tmp", "redis"):
        (folder / name).mkdir()
    return variables


@contextmanager
def redis(folder: Path, command: list[str]) -> Iterator[None]:
    *shell, script = command
    script = script.replace("$$", "$").replace("dir /data", f"dir {folder}/redis")
    path = f"{server_program().parent}:/usr/bin:/bin"
    with (folder / "redis.log").open("w") as log:
        process = subprocess.Popen(
            [*shell, script], env={"REDIS_PASSWORD": PASSWORD, "PATH": path}, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def doctor(prefix: Path, variables: Mapping[str, str]) -> None:
    """Nothing fails; Label Studio is not there, no worker yet, and the weights are the package's."""
    command = [str(prefix / "bin" / "edgetam"), "doctor", "--json"]
    done = subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=False, cwd="/")
    checks = json.loads(done.stdout)["checks"]
    bad = {check["name"]: check["found"] for check in checks if check["state"] != "ok"}
    assert done.returncode == 0, bad
    assert set(bad) == {"redis", "label studio", "model"}, bad
    assert "0 workers" in bad["redis"]


@contextmanager
def program(
    prefix: Path, command: list[str], variables: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    name, *words = command
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(prefix / "bin" / name), *words], env=dict(variables), stdout=file, stderr=file, cwd="/"
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def is_ready() -> bool:
    try:
        with urlopen(f"{URL}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def track(folder: Path) -> None:
    crowd = crowd_at(URL, folder / "media", frames=40, width=320, height=192)
    begun = time.monotonic()
    first = predict_body(image_task("0.png"), context={"result": [click(50, 50)]})
    until(lambda: call(f"{URL}/predict", first)[0] == 200, 400)  # the model is prepared with the first click
    tell(f"first click after {time.monotonic() - begun:.1f} s")
    begun = time.monotonic()
    crowd.click_all(1)
    for task in (1, 2):
        crowd.press(task)
    until(lambda: [job["state"] for job in crowd.jobs()] == ["done", "done"], 600)
    tell(f"10 clicks, then two tracks of 40 frames in {time.monotonic() - begun:.1f} s")


def read_logs(folder: Path) -> None:
    for name in ("server", "worker"):
        text = (folder / f"{name}.log").read_text()
        assert PASSWORD not in text
        assert "Traceback" not in text
        lines = [line for line in text.splitlines() if not line.startswith("edgetam serve: ")]
        assert all(json.loads(line)["level"] for line in lines), name


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except BaseException:
        for log in sorted(Path(sys.argv[2]).glob("*.log")):
            tell(f"--- {log.name}\n{log.read_text()[-3000:]}")
        raise
    finally:
        shutil.rmtree(sys.argv[2] + "/tmp", ignore_errors=True)
