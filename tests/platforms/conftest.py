"""Real platforms for the tests here: `make test-platforms` runs them, `make test` passes them over.

What a run leaves behind to look at, logs and screenshots, lies in a folder of its own below
`.platforms/logs`; `latest` there is the newest.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.platforms import label_studio_server
from tests.platforms.browser import Editor, browsing, install_chromium
from tests.platforms.installing import CACHE, required
from tests.platforms.label_studio_server import LabelStudio
from tests.platforms.processes import free_port, left_running, running
from tests.platforms.recorder import Recorder, recording
from tests.platforms.sdk import Sdk, running_sdk

LOGS, KEPT_RUNS = CACHE / "logs", 5
SERVE_SECONDS = 60  # for importing torch and answering /health, on a busy machine


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "platforms: on the real platforms (make test-platforms)")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only `-m platforms` collects these tests; the README's pictures are made where they are asked for."""
    unasked = collection_path.name == "test_pictures.py" and not os.environ.get("EDGETAM_PICTURES")
    return None if "platforms" in config.option.markexpr and not unasked else True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that is skipped has failed."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome, report.longrepr = "failed", f"skipped in CI: {report.longreprtext}"
    return report


@pytest.fixture(scope="session")
def label_studio_program() -> Path:
    return required(lambda: label_studio_server.install(CACHE))


@pytest.fixture(scope="session")
def chromium() -> Path:
    return required(install_chromium)


@pytest.fixture(scope="session")
def logs() -> Iterator[Path]:
    """This run's folder of logs; at the end nothing that the run started may be left."""
    for old in sorted(path for path in LOGS.glob("2*") if path.is_dir())[: 1 - KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    folder = LOGS / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True)
    latest = LOGS / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(folder.name)
    yield folder
    left = left_running()
    names = [" ".join(process.cmdline()) for process in left if process.is_running()]
    for process in left:
        process.kill()
    assert not names, f"still running at the end: {names}"


@pytest.fixture(scope="session")
def sdk(label_studio_program: Path, logs: Path) -> Iterator[Sdk]:
    """label-studio-sdk as Label Studio has it."""
    with running_sdk(label_studio_program.with_name("python"), logs / "sdk.log") as sdk:
        yield sdk


@pytest.fixture(scope="session")
def label_studio(
    label_studio_program: Path, chromium: Path, logs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudio]:
    """A fresh Label Studio."""
    folder = tmp_path_factory.mktemp("label-studio")
    with label_studio_server.serve(label_studio_program, folder, logs / "label-studio.log") as server:
        yield server


@pytest.fixture(scope="session")
def backend(
    label_studio: LabelStudio, logs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorder]:
    """`edgetam serve` with the default weights, or those of EDGETAM_TEST_WEIGHTS, behind a recorder."""
    port, folder = free_port(), tmp_path_factory.mktemp("backend")
    weights = os.environ.get("EDGETAM_TEST_WEIGHTS", "default")
    command = [sys.executable, "-m", "edgetam_model.cli", "serve", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--weights", weights]
    env = {
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.token,
        "MODEL_DIR": str(folder),
        "EDGETAM_CACHE": str(folder / "cache"),
        "EDGETAM_DEVICE": "cpu",
        "EDGETAM_OFFLINE": "1",
        # Beside a browser and Label Studio on two cores, threads that wait for each other cost much more.
        "OMP_NUM_THREADS": "1",
    }
    health = f"http://127.0.0.1:{port}/health"
    with running(command, logs / "backend.log", health, SERVE_SECONDS, env), recording(port) as recorder:
        _until_loaded(recorder)
        yield recorder


def _until_loaded(backend: Recorder) -> None:
    """Wait for the model: people press the button long after the server was started."""
    deadline = time.monotonic() + SERVE_SECONDS
    while (model := backend.ask("/health")["model"])["state"] != "ready":
        assert model["state"] == "loading", model
        assert time.monotonic() < deadline, "the model is still being loaded"
        time.sleep(0.2)


@pytest.fixture
def editor(label_studio: LabelStudio, logs: Path, request: pytest.FixtureRequest) -> Iterator[Editor]:
    """A browser, logged in; its screenshots lie in a folder with the test's name."""
    folder = logs / re.sub(r"\W+", "-", request.node.name)
    folder.mkdir()
    with browsing(label_studio, folder) as editor:
        yield editor
