"""`edgetam demo` as people start it: its results, its refusals, and nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

import backend.demo
from backend.commands import demo as command
from backend.commands import options as server_options
from backend.demo_programs import free_port
from backend.demo_results import FILES
from edgetam_model import open_source, render_demo_clip
from edgetam_model.cli import build_parser, main
from tests.backend.tracking_fixtures import prepare

FRAMES = 20
STOP = 60.0  # seconds for an end that takes two, on a busy machine
# The verb with four small frames, for processes of its own.
SMALL = (
    "from functools import partial; import backend.demo, edgetam_model, edgetam_model.cli as cli;"
    "small = partial(edgetam_model.render_demo_clip, frames=4, width=160, height=96);"
    "backend.demo.render_demo_clip = small; raise SystemExit(cli.main())"
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained, and sure to see its objects everywhere."""
    folder = tmp_path_factory.mktemp("weights")
    prepare(folder)
    return folder / "sees.safetensors"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few small frames, and threads that do not wait for each other."""
    monkeypatch.setattr(
        backend.demo, "render_demo_clip", partial(render_demo_clip, frames=FRAMES, width=160, height=96)
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_it_serves_presses_shows_and_ends(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")  # somebody else's, and not there
    monkeypatch.setenv("EDGETAM_TOKEN", "of-another-server")
    out, before = tmp_path / "demo", signal.getsignal(signal.SIGTERM)
    words = ["demo", "--out", str(out), "--weights", str(weights), "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    assert psutil.Process().children(recursive=True) == []
    assert signal.getsignal(signal.SIGTERM) is before
    text, progress = capsys.readouterr()
    document = json.loads(text)
    assert [found["label"] for found in document["objects"]] == ["ball", "ladybird"]
    assert all(found["frames"] == FRAMES for found in document["objects"])
    assert 0 < document["mean_iou"] <= 1
    assert document["label_studio"] is None
    assert "t pressed: " in progress
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    answer = json.loads((out / "label_studio_answer.json").read_text())
    assert answer["results"][0]["model_version"] == document["weights"]
    assert (out / "thumbnail.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    with open_source(out / "overlay.mp4") as overlay:
        assert len(overlay) == FRAMES

    assert main(words) == 2
    assert "would be replaced; give --force" in capsys.readouterr().err


def test_kept_it_runs_until_ctrl_c_and_takes_all_with_it(weights: Path, tmp_path: Path) -> None:
    port, state = free_port(), tmp_path / "state"
    options = ["--out", str(tmp_path / "out"), "--weights", str(weights), "--device", "cpu", "--keep"]
    words = [sys.executable, "-c", SMALL, "demo", *options, "--port", str(port), "--state", str(state)]
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=output, text=True)
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline()]
        while lines[-1] and not lines[-1].startswith("status page"):
            lines.append(process.stdout.readline())
        assert f"http://127.0.0.1:{port}/" in lines[-1], log.read_text()
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 4, "the server, its worker, its Redis and its decoder of images"
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP) == 0
        assert not psutil.wait_procs(children, timeout=3)[1]
        assert (state / "server.log").stat().st_size > 0
    finally:
        process.stdout.close()
        for left in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            left.kill()
        process.kill()
        process.wait()


def test_sigterm_ends_it_at_once_while_it_starts(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SMALL, "demo", "--out", str(tmp_path / "out")]
    environ = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environ)
    assert process.stderr is not None
    line = process.stderr.readline()
    while line and "starting edgetam serve" not in line:
        line = process.stderr.readline()
    end = time.monotonic() + 20
    while not (children := psutil.Process(process.pid).children()) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP) == 130
    assert "edgetam demo: cancelled" in process.stderr.read()
    process.stderr.close()
    assert children
    assert not psutil.wait_procs(children, timeout=3)[1]
    assert not list(tmp_path.glob("edgetam-demo-*"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--out", "{file}"], "out: expected a folder"),
        (["--out", "{folder}/new", "--state", "{folder}"], "state: expected a new folder"),
        (["--out", "{folder}/new", "--port", "70000"], "port: expected 0 to 65535"),
        (["--out", "{folder}/new", "--label-studio", "--environment", "{folder}"], "environment: expected"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    options: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert main(["demo", *(option.format(file=file, folder=tmp_path) for option in options)]) == 2
    assert capsys.readouterr().err.startswith(f"edgetam demo: {problem}")


def test_its_help_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main(["demo", "--help"])
    shown = capsys.readouterr().out
    assert "\n  edgetam demo --label-studio " in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "who"), [(["demo"], "the demo"), (["serve"], "the server"), (["worker"], "the worker")]
)
def test_without_the_servers_packages_it_says_what_to_install(
    words: list[str], who: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_options, "SERVER_PACKAGES", ("flask", "no_such_package_here"))
    assert main(words) == 1
    told = f'edgetam {words[0]}: {who} needs an extra: pip install "edgetam-labeling[server]"\n'
    assert capsys.readouterr().err == told


def test_the_environment_lies_in_the_cache_unless_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGETAM_CACHE", str(tmp_path))
    parse = build_parser().parse_args
    assert command._environment(parse(["demo"])) == tmp_path / "label-studio-1.23.2"
    assert command._environment(parse(["demo", "--environment", "here"])) == Path.cwd() / "here"
