"""The images: their build contexts are whole, and they are as locked as they say."""

from __future__ import annotations

import json
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from backend.settings import Settings
from edgetam_model.cli import build_parser
from tests.docker.recipes import DOCKER, ROOT, VARIANTS, environment, instructions, values

DOCKERFILE = DOCKER / "server.Dockerfile"
IMAGES = sorted(DOCKER.glob("*.Dockerfile"))
SCRIPTS = sorted(path for path in DOCKER.rglob("*.sh"))


def copied(dockerfile: Path) -> list[str]:
    """What an image copies from the repository, with each variant put in."""
    found = []
    for value in values(dockerfile, "COPY"):
        if value.startswith("--from="):
            continue
        *sources, _ = value.split()
        for source in sources:
            found += [source.replace("$VARIANT", variant) for variant in VARIANTS]
    return sorted(set(found))


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.name)
def test_every_file_that_an_image_copies_is_there_and_not_ignored(dockerfile: Path) -> None:
    ignored = dockerfile.with_name(dockerfile.name + ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    assert copied(dockerfile)
    for source in copied(dockerfile):
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, line) for line in kept), f"{source} never reaches the build"
    for line in kept:
        assert line in copied(dockerfile), f"{line} is sent to the build, but not used"


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.name)
def test_images_are_of_a_version_and_of_no_processor(dockerfile: Path) -> None:
    given = dict(value.split("=", 1) for value in values(dockerfile, "ARG") if "=" in value)
    stages: set[str] = set()
    for value in values(dockerfile, "FROM"):
        base, *name = value.split(" AS ")
        base = given.get(base.removeprefix("$"), base)
        assert base in stages or re.search(r":\d+\.\d+\.\d+", base), base
        stages |= set(name)
    text = " ".join(found.value for found in instructions(dockerfile))
    assert not re.search(r"x86|amd64|arm64|aarch64|--platform", text)


def test_the_images_have_one_base_by_its_digest() -> None:
    (python,) = {value for image in IMAGES for value in values(image, "ARG") if value.startswith("PYTHON=")}
    assert re.search(r"@sha256:[0-9a-f]{64}$", python)
    for image in IMAGES:
        stages = {value.partition(" AS ")[2] for value in values(image, "FROM")}
        assert {value.partition(" AS ")[0] for value in values(image, "FROM")} <= {"$PYTHON"} | stages


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.name)
def test_nothing_is_installed_without_its_hash(dockerfile: Path) -> None:
    installs = [value for value in values(dockerfile, "RUN") if "pip install" in value]
    assert len(installs) == 2
    for command in installs:
        from_lock = "--require-hashes" in command and "--only-binary :all:" in command
        from_here = all(word in command for word in ("--no-index", "--no-deps", "--no-build-isolation"))
        assert from_lock or from_here, command


def test_the_last_stage_is_no_root_and_starts_the_server() -> None:
    names = [found.name for found in instructions(DOCKERFILE)]
    last = len(names) - 1 - names[::-1].index("FROM")
    assert values(DOCKERFILE, "USER") == ["1000:1000"]
    assert names.index("USER") > last
    assert "useradd --uid 1000" in " ".join(values(DOCKERFILE, "RUN"))
    command = json.loads(values(DOCKERFILE, "CMD")[0])
    assert command[0] == "edgetam"
    args = build_parser().parse_args(command[1:])
    assert (args.verb, args.workers, args.log_json) == ("serve", 0, True)
    assert values(DOCKERFILE, "EXPOSE") == [str(Settings.model_fields["port"].default)]


def test_the_image_s_settings_are_settings() -> None:
    found = environment(DOCKERFILE)
    known = {row.name for row in Settings.reference()}
    own = {name for name in found if not name.startswith(("PIP_", "PYTHON")) and name != "PATH"}
    assert own <= known
    assert found["EDGETAM_OFFLINE"] == "1"
    settings = Settings.from_env({name: found[name] for name in own})
    assert settings.offline
    assert str(settings.weights).startswith("/opt/edgetam/weights/")  # in no folder that a volume may hide


def test_what_the_image_writes_is_made_for_its_user() -> None:
    found = environment(DOCKERFILE)
    (made,) = [value for value in values(DOCKERFILE, "RUN") if "useradd" in value]
    for name in ("EDGETAM_CACHE", "MODEL_DIR"):
        assert re.search(rf"install [^&]*--owner edgetam [^&]*{found[name]}\b", made), name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_read_and_run(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o111


def test_only_known_weights_go_into_an_image(tmp_path: Path) -> None:
    script = tmp_path / "weights.sh"
    script.write_text((DOCKER / "weights.sh").read_text().replace("/opt/edgetam", str(tmp_path)))
    done = subprocess.run(
        ["sh", str(script), "something"], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 2
    assert done.stderr == "WEIGHTS: expected edgetam or default, got something\n"
