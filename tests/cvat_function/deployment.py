"""Reads the files of a deployment: the image's recipe and the functions' own files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "cvat.Dockerfile"
CONSTRAINTS = ROOT / "docker" / "cvat-constraints.txt"
FUNCTIONS = ROOT / "cvat_function"


@dataclass(frozen=True)
class Instruction:
    """One line of a Dockerfile, its continuations joined: `COPY` and the rest."""

    name: str
    value: str


def instructions() -> list[Instruction]:
    """Of the image, in order."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name, value) for name, value in pairs]


def copied() -> list[tuple[list[str], str]]:
    """What the image copies from the repository: sources and where to."""
    words = [i.value.split() for i in instructions() if i.name == "COPY"]
    return [(sources, target) for *sources, target in words]


def ran() -> list[str]:
    """The shell commands of the image's build."""
    return [i.value for i in instructions() if i.name == "RUN"]


def pins() -> dict[str, str]:
    """Package → version."""
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def function_file(function: str, file: str) -> Any:
    """A function's configuration."""
    return yaml.safe_load((FUNCTIONS / function / file).read_text())
