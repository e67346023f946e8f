"""Reads the files below docker/: recipes of images, compose, manifests, locks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
VARIANTS = ("cpu", "cuda")
LOCKS = ("requirements", "cvat")  # of the server's image, and of that of CVAT's functions, in both variants
REFERENCE = re.compile(r"(?<!\$)\$\{(\w+)(?::?[-?][^}]*)?\}")  # of a variable; `$$` stands for a dollar


@dataclass(frozen=True)
class Instruction:
    """One line of a Dockerfile, its continuations joined: `COPY` and the rest."""

    name: str
    value: str


@dataclass(frozen=True)
class Pin:
    """One package of a lock file."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def version(self) -> str:
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "=="
        return specifier.version


def instructions(dockerfile: Path) -> list[Instruction]:
    """Of an image, in order."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name, value) for name, value in pairs]


def values(dockerfile: Path, name: str) -> list[str]:
    """What stands behind every instruction of that name."""
    return [found.value for found in instructions(dockerfile) if found.name == name]


def environment(dockerfile: Path) -> dict[str, str]:
    """What the image sets, all stages together."""
    pairs = [pair.split("=", 1) for value in values(dockerfile, "ENV") for pair in value.split()]
    return {name: text.strip('"') for name, text in pairs}


def compose() -> Any:
    """The stack."""
    return yaml.safe_load(COMPOSE.read_text())


def example() -> dict[str, str]:
    """The variables of env.example."""
    lines = (DOCKER / "env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def manifests() -> list[Any]:
    """Every Kubernetes object, kustomize's own file left out."""
    files = sorted((DOCKER / "kubernetes").glob("*.yaml"))
    return [
        found
        for file in files
        if file.name != "kustomization.yaml"
        for found in yaml.safe_load_all(file.read_text())
    ]


def manifest(kind: str, name: str) -> Any:
    """The one object of that kind and name."""
    (found,) = [m for m in manifests() if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return found


def lock(variant: str, name: str) -> dict[str, Pin]:
    """Package → pin."""
    text = (DOCKER / f"{name}-{variant}.lock").read_text()
    pins = {}
    for line in re.sub(r" \\\n\s*", " ", text).splitlines():
        if line.startswith("#"):
            continue
        requirement, *hashes = line.split(" --hash=")
        pin = Pin(Requirement(requirement), tuple(hashes))
        assert pin.requirement.name not in pins, f"{pin.requirement.name} twice"
        pins[pin.requirement.name] = pin
    return pins


def dashboard() -> Any:
    """Grafana's."""
    return json.loads((DOCKER / "grafana" / "edgetam.json").read_text())


def alerts() -> list[Any]:
    """Prometheus's rules."""
    groups = yaml.safe_load((DOCKER / "prometheus" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]
