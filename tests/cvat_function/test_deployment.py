"""What CVAT and Nuclio read of a function before its code runs, and the way it gets there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from cvat_function.settings import table
from tests.cvat_function.deployment import (
    DOCKERFILE,
    FUNCTIONS,
    ROOT,
    copied,
    function_file,
    python,
)
from tests.docker.recipes import values

DEPLOY = FUNCTIONS / "deploy.sh"
KINDS = ("interactor", "tracker")
TARGETS = {"cpu": "function.yaml", "gpu": "function-gpu.yaml"}
STAGES = {"cpu": "cpu", "gpu": "cuda"}  # of the image
BOTH = [(kind, target) for kind in KINDS for target in TARGETS]
BROWSER_PLUGIN = "pth-facebookresearch-sam-vit-h"  # CVAT's own SAM plugin takes a function of this name over

# Functions' files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "target"), BOTH)
def test_cvat_understands_the_metadata(kind: str, target: str) -> None:
    metadata = function_file(kind, TARGETS[target])["metadata"]
    assert metadata["name"] == f"edgetam-{kind}" != BROWSER_PLUGIN
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", metadata["name"])
    assert metadata["namespace"] == "cvat"
    annotations = metadata["annotations"]
    assert {type(value) for value in annotations.values()} == {str}  # Nuclio has no other kind
    assert annotations["type"] == kind
    assert json.loads(annotations.get("spec") or "[]") == []
    assert annotations["name"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_interactor_declares_what_it_takes(target: str) -> None:
    annotations = function_file("interactor", TARGETS[target])["metadata"]["annotations"]
    assert int(annotations["version"]) >= 2  # below, CVAT greys its button out
    assert int(annotations["min_pos_points"]) == 0
    assert int(annotations["min_neg_points"]) == 0
    assert "startswith_box" not in annotations  # CVAT takes any text, "false" too, for true
    assert annotations["startswith_box_optional"] == "true"
    assert annotations["help_message"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_tracker_declares_its_shapes(target: str) -> None:
    annotations = function_file("tracker", TARGETS[target])["metadata"]["annotations"]
    assert annotations["supported_shape_types"].split(",") == ["rectangle", "polygon", "mask"]


@pytest.mark.parametrize(("kind", "target"), BOTH)
def test_nuclio_gets_what_it_needs(kind: str, target: str) -> None:
    spec = function_file(kind, TARGETS[target])["spec"]
    assert spec["description"]  # CVAT reads it without asking whether it is there
    assert spec["handler"] == "main:handler"
    main = (FUNCTIONS / kind / "main.py").read_text()
    assert "def handler(" in main
    assert "def init_context(" in main
    assert re.fullmatch(r"\d+s", spec["eventTimeout"])
    (trigger,) = spec["triggers"].values()
    assert trigger["kind"] == "http"
    assert trigger["attributes"]["maxRequestBodySize"] >= 32 << 20  # Nuclio's own limit is 4 MiB
    assert trigger["workerAvailabilityTimeoutMilliseconds"] >= 10000
    assert spec["platform"]["attributes"]["mountMode"] == "volume"
    known = {row.name for row in table()} | {"NVIDIA_VISIBLE_DEVICES"}
    env = {entry["name"]: entry["value"] for entry in spec.get("env", [])}
    assert not set(env) - known
    assert {type(value) for value in env.values()} <= {str}


@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_is_asked_for_by_the_gpu_s_file_alone(kind: str) -> None:
    limits = {
        target: function_file(kind, file)["spec"].get("resources", {}).get("limits", {})
        for target, file in TARGETS.items()
    }
    assert limits == {"cpu": {}, "gpu": {"nvidia.com/gpu": 1}}


@pytest.mark.parametrize("kind", KINDS)
def test_both_files_make_the_same_function(kind: str) -> None:
    cpu, gpu = (function_file(kind, file) for file in TARGETS.values())
    assert cpu["metadata"] == gpu["metadata"]
    assert cpu["spec"]["triggers"] == gpu["spec"]["triggers"]


@pytest.mark.parametrize(("kind", "target"), BOTH)
def test_the_runtime_is_the_image_s_python(kind: str, target: str) -> None:
    spec = function_file(kind, TARGETS[target])["spec"]
    assert spec["build"]["baseImage"] == f"edgetam-cvat:{STAGES[target]}"
    assert spec["runtime"] == ":".join(re.match(r"(python):(\d+\.\d+)", python()).groups())  # type: ignore[union-attr]


# The image ----------------------------------------------------------------------------------------------


def test_every_file_that_the_image_copies_is_there_and_not_ignored() -> None:
    ignored = DOCKERFILE.with_name(DOCKERFILE.name + ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    for sources, target in copied():
        assert target.startswith("/opt/edgetam/")
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source, line) for line in kept), f"{source} never reaches the build"


def test_the_image_starts_from_a_version_and_has_both_stages() -> None:
    assert [value.split()[-1] for value in values(DOCKERFILE, "FROM")] == list(STAGES.values())
    assert re.search(r":\d+\.\d+\.\d+", python())


def test_the_image_never_waits_for_a_network() -> None:
    environment = " ".join(values(DOCKERFILE, "ENV"))
    assert "EDGETAM_OFFLINE=1" in environment
    assert "EDGETAM_CACHE=/opt/edgetam/cache" in environment


# deploy.sh ----------------------------------------------------------------------------------------------

# Stands where docker and nuctl would: writes down what it is told, and answers as they do.
RECORDER = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
with open(os.environ["CALLS"], "a") as calls:
    print(json.dumps([name, *arguments]), file=calls)
if arguments[0] == "deploy":
    file = Path(arguments[arguments.index("--file") + 1])
    Path(os.environ["CALLS"]).with_name(file.parent.name + ".yaml").write_text(file.read_text())
if arguments[0] == "inspect":
    print(os.environ["DASHBOARD"])
    sys.exit(0 if os.environ["DASHBOARD"] else 1)
if arguments == ["version"]:
    print('Client version:\\n"Label: 1.15.9, Git commit: 0, OS: linux, Arch: amd64"')
sys.exit(1 if arguments[:2] == ["get", "project"] else 0)
"""


class Deployment:
    """Runs deploy.sh between two recorders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for program in ("docker", "nuctl"):
            path = folder / program
            path.write_text(RECORDER)
            path.chmod(0o755)

    def run(
        self, *arguments: str, dashboard: str = "quay.io/nuclio/dashboard:1.15.9-amd64", **settings: str
    ) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        calls = self.folder / "calls"
        calls.write_text("")
        env = {"PATH": f"{self.folder}:/usr/bin:/bin", "CALLS": str(calls), "DASHBOARD": dashboard} | settings
        done = subprocess.run([DEPLOY, *arguments], env=env, capture_output=True, text=True, check=False)
        return done, [json.loads(line) for line in calls.read_text().splitlines()]

    def function(self, kind: str) -> Any:
        """What was deployed as this kind."""
        return yaml.safe_load((self.folder / f"{kind}.yaml").read_text())


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def option(call: list[str], name: str) -> list[str]:
    return [value for key, value in pairwise(call) if key == name]


@pytest.mark.parametrize("target", TARGETS)
def test_a_deployment_builds_one_image_and_deploys_both(deployment: Deployment, target: str) -> None:
    done, calls = deployment.run(target)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    (build,) = [call for call in calls if call[:2] == ["docker", "build"]]
    assert option(build, "--tag") == [f"edgetam-cvat:{STAGES[target]}"]
    assert option(build, "--target") == [STAGES[target]]
    assert Path(option(build, "--file")[0]).resolve() == DOCKERFILE
    assert Path(build[-1]).resolve() == ROOT
    assert ["nuctl", "create", "project", "cvat", "--platform", "local"] in calls
    deploys = [call for call in calls if call[:2] == ["nuctl", "deploy"]]
    assert [Path(option(call, "--path")[0]).name for call in deploys] == list(KINDS)
    for call in deploys:
        assert Path(option(call, "--file")[0]).name == TARGETS[target]
        assert json.loads(option(call, "--platform-config")[0]) == {"attributes": {"network": "cvat_cvat"}}
        assert option(call, "--run-as-user") == ["1000"]
    for kind in KINDS:
        assert deployment.function(kind) == function_file(kind, TARGETS[target])


@pytest.mark.parametrize("target", TARGETS)
def test_a_fast_function_stands_beside_the_exact_one(deployment: Deployment, target: str) -> None:
    done, calls = deployment.run(target, EDGETAM_QUALITY="fast")
    assert done.returncode == 0, done.stderr
    assert all("EDGETAM_QUALITY=fast" in option(call, "--env") for call in calls if call[1] == "deploy")
    for kind in KINDS:
        exact, fast = function_file(kind, TARGETS[target]), deployment.function(kind)
        assert fast["metadata"].pop("name") == f"{exact['metadata'].pop('name')}-fast"
        annotations = [file["metadata"]["annotations"] for file in (exact, fast)]
        assert [one.pop("name") for one in annotations] == ["EdgeTAM", "EdgeTAM fast"]
        assert fast["spec"]["build"].pop("image") == f"{exact['spec']['build'].pop('image')}.fast"
        assert fast == exact


def test_settings_are_handed_on_and_nothing_else(deployment: Deployment) -> None:
    settings: dict[str, Any] = {
        "EDGETAM_WEIGHTS": "/weights/my cells.safetensors",
        "EDGETAM_CVAT_REPLY": "shapes",
        "EDGETAM_TOKEN": "secret",
        "EDGETAM_CACHE": "/home/me/cache",
        "EDGETAM_BAKE": "default",
        "EDGETAM_TORCH_INDEX": "https://index.example",
        "CVAT_NETWORK": "other",
    }
    done, calls = deployment.run("cpu", "interactor", "--", "--volume", "/srv:/weights", **settings)
    assert done.returncode == 0, done.stderr
    (build,) = [call for call in calls if call[:2] == ["docker", "build"]]
    arguments = ["WEIGHTS=default", "VARIANT=cpu", "TORCH_INDEX=https://index.example"]
    assert option(build, "--build-arg") == arguments
    (deploy,) = [call for call in calls if call[:2] == ["nuctl", "deploy"]]
    assert sorted(option(deploy, "--env")) == [
        "CVAT_FUNCTIONS_REDIS_HOST=cvat_redis_ondisk",
        "CVAT_FUNCTIONS_REDIS_PORT=6666",
        "EDGETAM_CVAT_REPLY=shapes",
        "EDGETAM_WEIGHTS=/weights/my cells.safetensors",
    ]
    assert json.loads(option(deploy, "--platform-config")[0])["attributes"]["network"] == "other"
    assert deploy[-2:] == ["--volume", "/srv:/weights"]
    assert "secret" not in json.dumps(calls)


@pytest.mark.parametrize(("target", "index"), [("cpu", ""), ("gpu", ""), ("gpu", "https://index.example")])
def test_without_its_index_no_image_has_pytorch_s_cpu_builds(
    deployment: Deployment, target: str, index: str
) -> None:
    _, calls = deployment.run(target, EDGETAM_TORCH_INDEX=index)
    (build,) = [call for call in calls if call[:2] == ["docker", "build"]]
    assert option(build, "--build-arg")[1:] == ["VARIANT=cuda", "TORCH_INDEX="]


def test_a_dashboard_of_another_version_is_warned_of(deployment: Deployment) -> None:
    done, _ = deployment.run("cpu", "interactor", dashboard="quay.io/nuclio/dashboard:1.13.0-amd64")
    assert done.returncode == 0
    assert "nuctl should be version 1.13.0" in done.stderr


def test_without_nuclio_nothing_is_built(deployment: Deployment) -> None:
    done, calls = deployment.run("cpu", dashboard="")
    assert done.returncode == 1
    assert "Nuclio does not run" in done.stderr
    assert len(calls) == 1


@pytest.mark.parametrize("arguments", [[], ["cuda"], ["cpu", "detector"], ["--help"]])
def test_what_it_does_not_know_shows_how_it_is_used(deployment: Deployment, arguments: list[str]) -> None:
    done, calls = deployment.run(*arguments)
    assert done.returncode == 2
    assert "deploy.sh cpu|gpu" in done.stderr
    assert not calls


# The manual ---------------------------------------------------------------------------------------------


def test_the_manual_lists_every_setting_with_its_default() -> None:
    manual = (ROOT / "docs" / "cvat.md").read_text()
    for row in table():
        assert f"| `{row.name}` | {row.default} |" in manual


def test_the_manual_names_what_is_there() -> None:
    manual = (ROOT / "docs" / "cvat.md").read_text()
    for kind in KINDS:
        spec = function_file(kind, "function.yaml")["spec"]
        assert (
            f"{spec['eventTimeout'].removesuffix('s')} s {'clicks' if kind == 'interactor' else 'tracks'}"
            in manual
        )
        (trigger,) = spec["triggers"].values()
        assert f"{trigger['attributes']['maxRequestBodySize'] >> 20} MiB" in manual
    assert re.findall(r"^cvat_function/deploy\.sh (\w+)", manual.replace("   ", ""), re.MULTILINE) == [
        "cpu",
        "cpu",
    ]
    assert "--function-module cvat_function.agent" in manual
