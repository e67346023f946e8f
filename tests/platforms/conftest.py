"""Real platforms for the tests here: `make test-platforms` runs them, `make test` passes them over.

What they leave behind to look at, logs and screenshots, lies in `.platforms/logs`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.platforms import label_studio_server
from tests.platforms.browser import Editor, browsing, install_chromium
from tests.platforms.label_studio_server import LabelStudio
from tests.platforms.processes import free_port, left_running, running
from tests.platforms.recorder import Recorder, recording

CACHE = Path(__file__).parents[2] / ".platforms"
LOGS = CACHE / "logs"
SERVE_SECONDS = 60  # for importing torch and answering /health, on a busy machine


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "platforms: on the real platforms (make test-platforms)")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Only `-m platforms` collects these tests."""
    return None if "platforms" in config.option.markexpr else True


@dataclass(frozen=True)
class Installed:
    """Programs that are there now."""

    label_studio: Path
    chromium: Path


@pytest.fixture(scope="session")
def installed() -> Installed:
    """Both programs; what cannot be installed fails in CI, and is a reason to skip elsewhere."""
    try:
        return Installed(label_studio_server.install(CACHE), install_chromium())
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "output", None) or b""
        reason = f"{error}\n{output.decode(errors='replace')[-2000:]}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def logs() -> Iterator[Path]:
    """The folder of logs, empty at first; at the end nothing that this run started may be left."""
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    yield LOGS
    left = left_running()
    names = [" ".join(process.cmdline()) for process in left if process.is_running()]
    for process in left:
        process.kill()
    assert not names, f"still running at the end: {names}"


@pytest.fixture(scope="session")
def label_studio(
    installed: Installed, logs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudio]:
    """A fresh Label Studio."""
    folder = tmp_path_factory.mktemp("label-studio")
    with label_studio_server.serve(installed.label_studio, folder, logs / "label-studio.log") as server:
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
        yield recorder


@pytest.fixture
def editor(label_studio: LabelStudio, logs: Path, request: pytest.FixtureRequest) -> Iterator[Editor]:
    """A browser, logged in; its screenshots lie in a folder with the test's name."""
    folder = logs / re.sub(r"\W+", "-", request.node.name)
    folder.mkdir()
    with browsing(label_studio, folder) as editor:
        yield editor
