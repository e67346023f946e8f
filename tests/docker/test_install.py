"""The image's own install commands in a bare virtual environment, and what they make at work, locked in.

Slow, on Linux: `python -m pytest -m slow -s tests/docker/test_install.py`. The lock names a CPU build of
PyTorch, so pip must be told where it lies: by TORCH_INDEX as for the image, or by PIP_FIND_LINKS.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docker.recipes import DOCKER, ROOT, instructions

DOCKERFILE = DOCKER / "server.Dockerfile"
# What a container has: a root file system of which only FOLDER can be written, and no network but loopback.
LOCKED_IN = 'ip link set lo up && mount --bind "$0" "$0" && mount -o remount,ro,bind / && exec "$@"'


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_image_s_commands_install_a_server_that_works(tmp_path: Path) -> None:
    begun = time.monotonic()
    build(tmp_path)
    sys.stderr.write(f"\ninstalled in {time.monotonic() - begun:.0f} s\n")
    folder = tmp_path / "writable"
    folder.mkdir()
    driver = [sys.executable, "-m", "tests.docker.installed", str(tmp_path / "edgetam"), str(folder)]
    subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "sh",
            "-ec",
            LOCKED_IN,
            str(folder),
            *driver,
        ],
        cwd=ROOT,
        check=True,
        timeout=1500,
    )
    shutil.rmtree(tmp_path / "edgetam")  # a gigabyte


def build(folder: Path) -> None:
    """The first stage of the image, its places below `folder`."""
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    arguments = {"VARIANT": "cpu", "TORCH_INDEX": os.environ.get("TORCH_INDEX", ""), "WEIGHTS": "default"}
    (folder / "build" / "source").mkdir(parents=True)
    stage = instructions(DOCKERFILE)
    first, second = [place for place, found in enumerate(stage) if found.name == "FROM"]
    for found in stage[first + 1 : second]:
        text = moved(folder, found.value.replace("$VARIANT", "cpu"))
        if found.name == "ENV":
            variables |= dict(pair.split("=", 1) for pair in text.split())
        elif found.name == "COPY":
            *sources, target = text.split()
            for source in sources:
                copy(
                    folder,
                    ROOT / source,
                    Path(target) / Path(source).name if target[-1] == "/" else Path(target),
                )
        elif found.name == "RUN":
            subprocess.run(["sh", "-ec", text], env={**variables, **arguments}, check=True, cwd=folder)


def moved(folder: Path, text: str) -> str:
    """The image's two places, as below the folder."""
    return re.sub(r"(?<![\w.])/(opt/edgetam|build)\b", lambda m: f"{folder}/{m[1].rpartition('/')[2]}", text)


def copy(folder: Path, source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        return
    shutil.copy(source, target)
    if target.suffix == ".sh":
        target.write_text(moved(folder, target.read_text()))
