"""Reads the files of a deployment: the image's recipe and the functions' own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.docker.recipes import values

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "cvat.Dockerfile"
FUNCTIONS = ROOT / "cvat_function"
VARIANT = "cpu"  # of the image, as the tests read it


def copied() -> list[tuple[list[str], str]]:
    """What the image copies from the repository: sources and where to."""
    words = [value.replace("$VARIANT", VARIANT).split() for value in values(DOCKERFILE, "COPY")]
    return [(sources, target) for *sources, target in words]


def ran() -> list[str]:
    """The shell commands of the image's build."""
    return values(DOCKERFILE, "RUN")


def python() -> str:
    """The image that it begins with."""
    (base,) = [value for value in values(DOCKERFILE, "ARG") if value.startswith("PYTHON=")]
    return base.removeprefix("PYTHON=")


def function_file(function: str, file: str) -> Any:
    """A function's configuration."""
    return yaml.safe_load((FUNCTIONS / function / file).read_text())
