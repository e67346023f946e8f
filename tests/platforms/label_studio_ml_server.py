"""The real label-studio-ml around `EdgeTAMBackend`, in an environment of its own, on this machine only."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.platforms.processes import RUN, RUN_ID, free_port, running, stop

VERSION = "1.0.9"
BESIDE = ("colorama", "attrs", "label-studio-tools", "lxml", "appdirs", "requests")  # as README says
INSTALL_SECONDS = 600  # 7 s with a warm cache
START_SECONDS = 60  # for importing torch, on a busy machine


@dataclass(frozen=True)
class Environment:
    """A virtual environment that holds label-studio-ml, and sees the packages of this one."""

    home: Path

    def program(self, name: str) -> str:
        """The path of one of its programs."""
        return str(self.home / "bin" / name)


@dataclass(frozen=True)
class Server:
    """A running server; in `model_dir` lie what it keeps of each event, and the queue's private Redis."""

    url: str
    model_dir: Path


def install(cache: Path) -> Environment:
    """An environment below `cache`, made there unless it is already.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: it cannot be installed; the error's
            `output` says why.
    """
    home = cache / f"label-studio-ml-{VERSION}-{sys.implementation.cache_tag}"
    done = home / "installed"  # written last: an installation that was cut off is begun again
    if not done.exists():
        run(sys.executable, "-m", "venv", "--clear", str(home))
        pip = [str(home / "bin/pip"), "install", "--quiet", "--no-input"]
        run(*pip, "--no-deps", f"label-studio-ml=={VERSION}")
        run(*pip, *BESIDE)
        done.touch()
    _let_see_this_environment(home)
    return Environment(home)


@contextmanager
def serve(environment: Environment, folder: Path, logs: Path, env: Mapping[str, str]) -> Iterator[Server]:
    """Make a backend as its users do, from a `model.py` of one line, and run it with a worker beside it.

    Args:
        folder: for the backend and what it keeps.
        logs: folder that both write their logs to.
        env: the backend's settings.

    Raises:
        NotReadyError: it does not start.
    """
    (folder / "model.py").write_text("from backend.ls_backend import EdgeTAMBackend\n")
    run(environment.program("label-studio-ml"), "init", "made", "--script", "model.py", cwd=folder)
    port, model_dir = free_port(), folder / "models"
    url = f"http://127.0.0.1:{port}"
    known = {**env, "MODEL_DIR": str(model_dir)}
    # What `label-studio-ml start` runs, without the shell between.
    command = [environment.program("python"), str(folder / "made/_wsgi.py"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--log-level", "INFO"]
    with (
        _worker(logs / "label-studio-ml-worker.log", known),
        running(command, logs / "label-studio-ml.log", f"{url}/health", START_SECONDS, known),
    ):
        yield Server(url, model_dir)


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a program to its end; what it wrote.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: with what it wrote in `output`.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=INSTALL_SECONDS,
    )
    return done.stdout.decode(errors="replace")


@contextmanager
def _worker(log: Path, env: Mapping[str, str]) -> Iterator[None]:
    """`edgetam worker` of this environment: it finds the backend's jobs by the same MODEL_DIR."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgetam_model.cli", "worker"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env, RUN: RUN_ID},
            start_new_session=True,
        )
        try:
            yield
        finally:
            stop(process)


def _let_see_this_environment(home: Path) -> None:
    """Its own packages come first; torch and ours need no second installation.

    `--system-site-packages` would show the packages below a virtual environment, not those in it.
    """
    (own,) = (home / "lib").glob("python*/site-packages")
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    seen = "; ".join(f"site.addsitedir({folder!r})" for folder in sorted(folders))
    (own / "outer.pth").write_text(f"import site; {seen}\n")  # addsitedir: editable installations count too
