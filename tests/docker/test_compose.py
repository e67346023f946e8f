"""The stack: settings that exist, probes that answer, nothing that may write where it should not."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from backend.app import create_app
from backend.embedded_redis import server_program
from backend.settings import Settings
from edgetam_model.cli import build_parser
from tests.backend.queue_fixtures import until
from tests.backend.server_fixtures import services_in
from tests.docker.recipes import COMPOSE, DOCKER, REFERENCE, ROOT, compose, environment, example

OURS = ("server", "worker", "worker-cuda")
SERVICES: dict[str, Any] = compose()["services"]
DOCKERFILE = DOCKER / "server.Dockerfile"
GIVEN = {"EDGETAM_PROJECT_TOKENS": "7=t"}
NO_SETTINGS = {"OMP_NUM_THREADS", "EDGETAM_THREADS"}


def mounts(service: str) -> dict[str, str]:
    """Where in the container → the volume, or nothing for one of the container's own."""
    found = {}
    for line in SERVICES[service]["volumes"]:
        volume, _, target = line.rpartition(":")
        found[target] = volume
    return found


def covered(path: Path, service: str) -> bool:
    return any(path.is_relative_to(target) for target in mounts(service))


def test_the_services_are_there() -> None:
    assert set(SERVICES) == {*OURS, "redis", "label-studio"}
    assert {name for name in SERVICES if "profiles" not in SERVICES[name]} == {"server", "worker", "redis"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_only_what_it_needs(service: str) -> None:
    found = SERVICES[service]
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["healthcheck"]["test"]
    assert found["restart"] == "unless-stopped"
    assert found["logging"]["options"]["max-size"]
    assert "privileged" not in found
    assert "container_name" not in found  # else it could not be scaled
    if service != "label-studio":
        assert found["read_only"] is True
        assert re.fullmatch(r"[1-9]\d*:\d+", found["user"])


@pytest.mark.parametrize("service", ["redis", "label-studio"])
def test_foreign_images_are_of_one_version(service: str) -> None:
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+(-\w+)?(@sha256:[0-9a-f]{64})?", SERVICES[service]["image"])


@pytest.mark.parametrize("service", OURS)
def test_every_setting_is_one(service: str) -> None:
    known = {row.name for row in Settings.reference()} | NO_SETTINGS
    assert set(SERVICES[service]["environment"]) <= known
    values = {
        name: REFERENCE.sub(GIVEN.get(name, "1"), text)
        for name, text in SERVICES[service]["environment"].items()
        if name not in NO_SETTINGS and name != "LABEL_STUDIO_URL"
    }
    Settings.from_env(values)


def test_every_variable_is_explained_and_no_secret_has_a_default() -> None:
    asked = set(REFERENCE.findall(COMPOSE.read_text()))
    assert asked == set(example())
    secret = {"REDIS_PASSWORD", "EDGETAM_TOKEN", "EDGETAM_PROJECT_TOKENS"}
    secret |= {"LABEL_STUDIO_API_KEY", "LABEL_STUDIO_PASSWORD"}
    assert {example()[name] for name in secret} == {""}
    for name in ("REDIS_PASSWORD", "EDGETAM_TOKEN"):
        assert set(re.findall(rf"\${{{name}([^}}]*)}}", COMPOSE.read_text())) == {":?see docker/env.example"}
    assert "docker/.env" in (ROOT / ".gitignore").read_text() or ".env" in (DOCKER / ".gitignore").read_text()


@pytest.mark.parametrize("service", OURS)
def test_commands_are_of_this_program(service: str) -> None:
    program, *words = SERVICES[service]["command"]
    assert program == "edgetam"
    args = build_parser().parse_args(words)
    assert args.verb == service.partition("-")[0].replace("server", "serve")
    assert args.log_json


def test_workers_can_be_scaled_and_only_the_server_has_a_port() -> None:
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["server", "label-studio"]
    port = Settings.model_fields["port"].default
    assert SERVICES["server"]["ports"] == [f"${{BIND:-127.0.0.1}}:{port}:{port}"]


@pytest.mark.parametrize("service", OURS)
def test_what_is_written_lies_on_a_volume(service: str) -> None:
    image = {name: text for name, text in environment(DOCKERFILE).items() if name.startswith(("EDG", "MOD"))}
    settings = Settings.from_env({**image, "EDGETAM_WEIGHTS": "default"})
    written = [settings.cache, settings.media_cache_dir, settings.state_dir, Path("/tmp")]
    for path in written:
        assert covered(path, service), path
    assert not covered(Path(image["EDGETAM_WEIGHTS"]), service), "a volume would hide the image's weights"
    command = SERVICES[service]["command"]
    if "--alive" in command:
        assert covered(Path(command[command.index("--alive") + 1]), service)


def test_server_and_workers_share_what_they_must_and_not_their_temporary_files() -> None:
    names = {service: mounts(service) for service in OURS}
    assert names["server"] == names["worker"] == names["worker-cuda"]
    assert [target for target, volume in names["worker"].items() if not volume] == ["/tmp"]
    declared = set(compose()["volumes"])
    used = {volume for service in SERVICES for volume in mounts(service).values() if volume}
    assert used == declared


def test_redis_is_reached_by_the_servers_alone() -> None:
    networks = compose()["networks"]
    assert networks["queue"] == {"internal": True}
    assert SERVICES["redis"]["networks"] == ["queue"]
    assert SERVICES["label-studio"]["networks"] == ["outside"]
    assert all(SERVICES[name]["depends_on"]["redis"]["condition"] == "service_healthy" for name in OURS)


def test_the_server_s_probe_asks_a_path_that_needs_no_password(tmp_path: Path) -> None:
    probe = " ".join(SERVICES["server"]["healthcheck"]["test"])
    (port, path) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", probe)[0]
    assert int(port) == Settings.model_fields["port"].default
    client = create_app(services_in(tmp_path, EDGETAM_TOKEN="t")).test_client()
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("name", ["worker", "worker-cuda"])
def test_the_worker_s_probe_looks_at_the_file_that_it_touches(name: str, tmp_path: Path) -> None:
    kind, command = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    told = SERVICES[name]["command"][-1]
    assert f"find {told} " in command
    file = tmp_path / "alive"
    script = command.replace("$$", "$").replace(told, str(file))

    def healthy() -> bool:
        return subprocess.run(["sh", "-c", script], check=False, stderr=subprocess.DEVNULL).returncode == 0

    assert not healthy()
    file.touch()
    assert healthy()
    os.utime(file, (1, 1))
    assert not healthy()


def test_redis_asks_for_the_password_and_keeps_jobs(tmp_path: Path) -> None:
    """The command of the stack itself, with a folder and a port of the test's own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    shell, flags, script = SERVICES["redis"]["command"]
    script = script.replace("$$", "$").replace("dir /data", f"dir {tmp_path}\nport {port}")
    path = f"{server_program().parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [shell, flags, script],
        env={"REDIS_PASSWORD": "s3cret", "PATH": path},
        stdout=subprocess.DEVNULL,
    )
    try:
        with Redis(port=port, password="s3cret") as redis:
            until(lambda: answers(redis))
            redis.set("kept", "1")
            assert redis.config_get("appendonly") == {"appendonly": "yes"}
            assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        with Redis(port=port) as stranger, pytest.raises(AuthenticationError):
            stranger.get("kept")
        shown = Path(f"/proc/{process.pid}/cmdline")
        assert not shown.exists() or b"s3cret" not in shown.read_bytes()
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert list(tmp_path.rglob("*.aof"))


def answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False
