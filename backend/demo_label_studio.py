"""The real Label Studio for the demo: installed into an environment of its own, run, and given the clip."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from backend.connect import Wish, carry_out, make_plan
from backend.demo_editor import CLASS, VIDEO, Task
from backend.demo_programs import ProgramFailed, free_port, running
from backend.label_studio import LabelStudio
from backend.settings import Settings
from edgetam_model import InputError

VERSION = "1.23.2"
USER = "demo@example.com"
TITLE = "EdgeTAM demo"
START_SECONDS = 300.0  # 28 s with its migrations on two idle cores, several times that on busy ones
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Site:
    """A running Label Studio.

    Attributes:
        url: its address.
        user, password: to log in with.
        token: the legacy token of that user.
    """

    url: str
    user: str
    password: str = field(repr=False)
    token: str = field(repr=False)

    @property
    def variables(self) -> dict[str, str]:
        """How `edgetam serve` learns of it."""
        return {"LABEL_STUDIO_URL": self.url, "LABEL_STUDIO_API_KEY": self.token}


def install(folder: Path, tell: Tell) -> Path:
    """The program `label-studio` of the environment in `folder`; installed there unless it is already.

    pip shows its own progress on stderr.

    Raises:
        InputError: the folder holds something else.
        ProgramFailed: it cannot be installed.
    """
    done = folder / "installed"  # written last: an installation that was cut off is gone on with
    program = folder / "bin" / "label-studio"
    if done.exists() and program.exists():
        return program
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise InputError("environment", f"expected a new folder or a virtual environment, got {folder}")
    tell(f"installing Label Studio {VERSION} into {folder}: about 1 GB, a few minutes, once")
    _run("the virtual environment", sys.executable, "-m", "venv", str(folder))
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _run("Label Studio", *pip, "install", f"label-studio=={VERSION}")
    done.touch()
    return program


def _run(what: str, *command: str) -> None:
    """Run it with its output on stderr: stdout is for results."""
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)  # noqa: S603
    except subprocess.CalledProcessError as error:
        raise ProgramFailed(f"{what} cannot be installed, see above") from error
    except OSError as error:
        raise ProgramFailed(f"{what} cannot be installed: {error}") from error


@contextmanager
def serving(program: Path, folder: Path, tell: Tell) -> Iterator[Site]:
    """Run a fresh Label Studio on this machine alone until the block ends; its data and log lie in `folder`.

    Raises:
        ProgramFailed: it does not start.
    """
    data = folder / "label-studio"
    data.mkdir(parents=True)
    port = free_port()
    site = Site(f"http://127.0.0.1:{port}", USER, secrets.token_urlsafe(9), secrets.token_hex(20))
    command = [str(program), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    command += ["--data-dir", str(data)]
    tell("starting Label Studio (the first start takes half a minute and more)")
    log = folder / "label-studio.log"
    with running("Label Studio", command, environment(site, data), log, f"{site.url}/health", START_SECONDS):
        yield site


def environment(site: Site, data: Path) -> dict[str, str]:
    """What Label Studio is told; of this process's own settings for it, nothing."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("LABEL_STUDIO_")}
    return own | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_USERNAME": site.user,
        "LABEL_STUDIO_PASSWORD": site.password,
        "LABEL_STUDIO_USER_TOKEN": site.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_HOST": site.url,
        # Without these two it refuses a backend on this machine, or keeps it without its webhook.
        "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false",
        "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


def connected(site: Site, backend: str, clip: Path, backups: Path, tell: Tell) -> Task:
    """Make a project with the clip in it, connected as `edgetam connect` does it; its task.

    Args:
        site: the running Label Studio.
        backend: address of the running server.
        clip: is uploaded.
        backups: folder for the project's config as it was.

    Raises:
        LabelStudioError: refused.
    """
    settings = Settings.from_env(site.variables)
    studio = LabelStudio.from_settings(settings)
    assert studio is not None, "address and token are given"
    project = studio.create_project(TITLE, VIDEO).id
    wish = Wish(backend, project=project, labels=(CLASS,))
    done = carry_out(studio, wish, make_plan(studio, wish), backups, tell)
    for warning in done.warnings:
        tell(f"note: {warning}")
    (number,) = studio.import_file(project, clip)
    video = str((studio.get_task(number).data or {})["video"])
    return Task(number, video, project, site.url, site.token)
