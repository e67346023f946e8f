"""`edgetam field run` as a process: one address, one key, one process a kit, and an end at any time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path

import psutil
import pytest

from tests.backend.field.kits import make_kit, square

COMMAND = [sys.executable, "-m", "edgetam_model.cli", "field", "run"]


@contextmanager
def run(kit: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address; killed at the end."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "LABEL_STUDIO_URL": "http://192.0.2.1"}
    with subprocess.Popen([*COMMAND, str(kit)], stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()


def browser(url: str) -> urllib.request.OpenerDirector:
    """Who opened the address that was printed."""
    made = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar())
    )
    with made.open(url) as page:
        assert b"field kit" in page.read()
    return made


def test_what_was_done_is_there_after_a_kill(tmp_path: Path, still: Path, weights: Path) -> None:
    kit = make_kit(tmp_path / "kit", still, weights).root
    with run(kit) as (process, url):
        listening = [one for one in psutil.Process(process.pid).net_connections() if one.status == "LISTEN"]
        assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
        base = url.partition("?")[0]
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(base + "api/tasks")
        refused.value.close()
        action = {"do": "prompt", "labels": ["Ball"], "spec": {"box": square(0)}}
        asked = urllib.request.Request(
            base + "api/tasks/1", json.dumps(action).encode(), {"Content-Type": "application/json"}
        )
        with browser(url).open(asked) as answer:
            name = json.load(answer)["object"]
        second = subprocess.run([*COMMAND, str(kit)], capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert "another process" in second.stderr
    with run(kit) as (_, url), browser(url).open(url.partition("?")[0] + "api/tasks/1") as answer:
        assert [one["id"] for one in json.load(answer)["objects"]] == [name]
