"""Each check says what it found and what to do, and never a secret."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from backend import doctor
from backend.doctor import Check
from backend.embedded_redis import server_program
from backend.label_studio import LabelStudio
from backend.settings import Settings
from tests.backend.queue_fixtures import until
from tests.backend.test_label_studio import LEGACY, PAT, Imitation
from tests.backend.web_fixtures import Answer, WebServer, local_fetcher, serving

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@pytest.fixture
def server(web: WebServer) -> Imitation:
    found = Imitation(web)
    found.items["projects"].append({"id": 1, "title": "Reef"})
    return found


def label_studio(web: WebServer, token: str = LEGACY) -> list[Check]:
    settings = Settings(label_studio_url=web.url, label_studio_api_key=SecretStr(token))
    return doctor.check_label_studio(settings)


def the_backend(web: WebServer, server: Imitation, **row: object) -> Check:
    server.items["ml"].append({"id": 1, "url": "http://h:9090", "is_interactive": True, **row})
    return label_studio(web)[1]


def test_packages_are_here() -> None:
    assert doctor.check_packages().state == "ok"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SERVER_PACKAGES", ("flask", "no-such-package"))
    check = doctor.check_packages()
    assert check.state == "fail"
    assert check.found == "not installed: no-such-package"
    assert "pip install" in check.cure


def test_it_can_be_asked_where_the_servers_packages_are_missing() -> None:
    script = """
import sys
for name in ("redis", "rq", "flask", "waitress"):
    sys.modules[name] = None
import backend.commands.doctor, backend.doctor
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_decoders().state == "ok"
    monkeypatch.setattr(doctor, "DECODERS", ("h264", "no-such-codec"))
    check = doctor.check_decoders()
    assert check.state == "warn"
    assert "not no-such-codec" in check.found
    monkeypatch.setattr(doctor, "NEEDED_DECODER", "no-such-codec")
    assert doctor.check_decoders().state == "fail"


def test_decoding_apart_is_tried() -> None:
    check = doctor.check_decoding(Settings())
    assert check.state == "ok"
    assert "3.0GiB and 120 s, held by limits" in check.found
    assert doctor.check_decoding(Settings(decode="inside")).state == "warn"
    check = doctor.check_decoding(Settings(decode_seconds=0.001))
    assert check.state == "fail"
    assert "took more than" in check.found


def test_a_model_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    check = doctor.check_model(Settings(weights=str(tmp_path / "none.safetensors"), device="cpu"))
    assert check.state == "fail"
    assert "EDGETAM_WEIGHTS" in check.cure


def test_the_shipped_model_is_named_with_its_device() -> None:
    check = doctor.check_model(Settings(weights="default", device="cpu"))
    assert "weights default (licence Apache-2.0); on cpu" in check.found
    assert check.state == "warn"
    assert "edgetam weights import FILE" in check.cure


def test_the_cache_may_not_be_there_yet(tmp_path: Path) -> None:
    check = doctor.check_disk(Settings(cache=tmp_path / "a" / "b"))
    assert check.state in ("ok", "warn")
    assert not (tmp_path / "a").exists()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NO_DISK", 2**80)
    assert doctor.check_disk(Settings(cache=tmp_path)).state == "fail"
    monkeypatch.setattr(doctor, "NO_DISK", 0)
    monkeypatch.setattr(doctor, "LOW_DISK", 2**80)
    huge = Settings(cache=tmp_path, media_cache_bytes=2**60)  # type: ignore[arg-type]
    assert doctor.check_disk(huge).state == "warn"


def test_a_cache_in_a_file_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert doctor.check_disk(Settings(cache=tmp_path / "file")).state == "fail"


def test_a_private_redis_can_be_started() -> None:
    check = doctor.check_redis(Settings())
    assert check.state == "ok"
    assert "private Redis" in check.found


def test_a_redis_that_is_away_is_told_without_its_password(tmp_path: Path) -> None:
    url = f"unix://:s3cret@{tmp_path}/none.sock"
    check = doctor.check_redis(Settings(redis_url=SecretStr(url)))
    assert check.state == "fail"
    assert "s3cret" not in str(check)


def test_a_redis_without_workers_is_half_of_it(tmp_path: Path) -> None:
    from backend.embedded_redis import EmbeddedRedis

    with EmbeddedRedis(tmp_path) as redis:
        check = doctor.check_redis(Settings(redis_url=SecretStr(redis.url)))
    assert check.state == "warn"
    assert "edgetam worker" in check.cure


def test_a_port_is_free_or_ours_or_somebody_elses(web: WebServer) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    assert "is free" in doctor.check_port(Settings(host="127.0.0.1", port=free)).found
    taken = Settings(host="127.0.0.1", port=web.port)
    assert doctor.check_port(taken).state == "fail"
    web.routes["/health"] = Answer(b'{"status": "UP", "model_class": "EdgeTAM"}')
    assert doctor.check_port(taken).state == "ok"
    assert doctor.check_port(Settings(port=0)).state == "ok"


def test_folders(tmp_path: Path) -> None:
    roots = (tmp_path, tmp_path / "none")
    checks = doctor.check_folders(Settings(media_roots=roots, model_dir=tmp_path / "new"))
    assert [check.state for check in checks] == ["ok", "fail", "ok"]
    assert "EDGETAM_MEDIA_ROOTS" in checks[1].found


def test_label_studio_that_is_not_set_is_a_warning() -> None:
    assert [c.state for c in doctor.check_label_studio(Settings())] == ["warn"]
    only_url = doctor.check_label_studio(Settings(label_studio_url="http://127.0.0.1:1"))
    assert "LABEL_STUDIO_API_KEY" in only_url[0].found


@pytest.mark.parametrize(("token", "kind"), [(LEGACY, "legacy token"), (PAT, "personal access token")])
def test_the_kind_of_token_is_told_and_the_token_is_not(
    web: WebServer, server: Imitation, token: str, kind: str
) -> None:
    checks = label_studio(web, token)
    assert checks[0].state == "ok"
    assert f"takes the {kind}; 1 projects" in checks[0].found
    assert token not in str(checks)


def test_a_wrong_token_fails_and_is_not_told(web: WebServer, server: Imitation) -> None:
    (check,) = label_studio(web, "f" * 40)
    assert check.state == "fail"
    assert "401" in check.found
    assert "f" * 40 not in str(check)


def test_label_studio_that_is_away() -> None:
    with serving() as gone:
        pass
    (check,) = label_studio(gone)
    assert check.state == "fail"
    assert "start Label Studio" in check.cure


def test_no_project_uses_this_server(web: WebServer, server: Imitation) -> None:
    check = the_backend(web, server, url="http://h:1234", title="Other")
    assert check.state == "warn"
    assert "edgetam connect" in check.cure


@pytest.mark.parametrize(
    ("row", "state", "found"),
    [
        ({"state": "CO"}, "ok", "connected to the projects 1"),
        ({"state": "CO", "url": "https://edgetam.example", "title": "EdgeTAM"}, "ok", "projects 1"),
        ({"state": "DI"}, "fail", "cannot reach http://h:9090"),
        ({"state": "ER", "error_message": "500 here"}, "fail", "500 here"),
        ({"state": "CO", "is_interactive": False}, "warn", "not sent"),
    ],
)
def test_what_label_studio_says_of_the_backend(
    web: WebServer, server: Imitation, row: dict[str, object], state: str, found: str
) -> None:
    check = the_backend(web, server, **row)
    assert check.state == state
    assert found in check.found
    assert bool(check.cure) == (state != "ok")


@pytest.mark.parametrize(
    ("password", "headers", "told"),
    [("p", {}, 1), ("p", {"authorization": "Basic x"}, 0), (None, {}, 0)],
)
def test_a_webhook_without_the_password_is_told(
    web: WebServer, server: Imitation, password: str | None, headers: dict[str, str], told: int
) -> None:
    server.items["webhooks"].append({"id": 1, "url": "http://h:9090/webhook", "headers": headers})
    studio = LabelStudio(web.url, SecretStr(LEGACY), local_fetcher(web))
    settings = Settings(token=None if password is None else SecretStr(password))
    checks = doctor.check_webhooks(studio, studio.list_projects(), settings)
    assert [check.state for check in checks] == ["warn"] * told
    assert all("edgetam connect --project 1" in check.cure for check in checks)


def test_only_some_projects_are_asked(web: WebServer, server: Imitation) -> None:
    server.items["projects"] += [{"id": n} for n in range(2, 60)]
    studio = LabelStudio(web.url, SecretStr(LEGACY), local_fetcher(web))
    doctor.check_backends(studio, studio.list_projects(), 9090)
    assert sum("/api/ml/" in path for path in web.paths()) == doctor.ASKED_PROJECTS


def test_settings_that_cannot_be_used_end_the_examination() -> None:
    last = doctor.examine({"PORT": "many"})[-1]
    assert (last.name, last.state) == ("settings", "fail")
    assert last.cure == "correct PORT"


def test_every_check_is_in_the_examination(tmp_path: Path) -> None:
    environ = {
        "EDGETAM_CACHE": str(tmp_path),
        "EDGETAM_OFFLINE": "1",
        "PORT": "0",
        "EDGETAM_WEIGHTS": "/none",
    }
    checks = doctor.examine(environ)
    names = [check.name for check in checks]
    assert names == [
        *("python", "packages", "threads", "settings", "video", "decoding", "model", "cache", "temporary"),
        *("redis", "port", "access", "label studio"),
    ]
    assert all(bool(check.cure) == (check.state != "ok") for check in checks)
    json.dumps([check.found for check in checks])


def test_threads_are_held_against_what_may_be_used(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")  # half a processor
    assert doctor.check_threads({}, quota).state == "warn"
    assert "OMP_NUM_THREADS=1" in doctor.check_threads({}, quota).cure
    assert doctor.check_threads({"OMP_NUM_THREADS": "64"}, quota).state == "warn"
    quota.write_text("max 100000\n")
    assert doctor.check_threads({"OMP_NUM_THREADS": "1"}, quota).state == "ok"
    assert doctor.check_threads({"OMP_NUM_THREADS": "1"}, tmp_path / "none").state == "ok"


def test_a_full_disk_for_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "GiB free" in doctor.check_temporary().found
    monkeypatch.setattr(doctor, "NO_DISK", 2**80)
    assert doctor.check_temporary().state == "warn"


def test_a_redis_without_a_password_is_told(tmp_path: Path) -> None:
    with redis_at_a_port(tmp_path, "appendonly no") as port:
        checks = doctor.check_redis_setup(Settings(redis_url=SecretStr(f"redis://127.0.0.1:{port}/0")))
    assert [check.name for check in checks] == ["redis", "redis", "clock"]
    assert "no password" in checks[0].found
    assert "append-only" in checks[1].found
    assert checks[2].state == "ok"


def test_a_redis_as_it_should_be_has_nothing_to_tell(tmp_path: Path) -> None:
    with redis_at_a_port(tmp_path, "appendonly yes\nrequirepass s3cret") as port:
        url = f"redis://:s3cret@127.0.0.1:{port}/0"
        checks = doctor.check_redis_setup(Settings(redis_url=SecretStr(url)))
        assert [(check.name, check.state) for check in checks] == [("clock", "ok")]
        wrong = Settings(redis_url=SecretStr(url.replace("s3cret", "wr0ng")))
        assert doctor.check_redis_setup(wrong) == []
        refused = doctor.check_redis(wrong)
    assert refused.state == "fail"
    assert "password included" in refused.cure
    assert "wr0ng" not in refused.found


def test_a_redis_that_forgets_is_told() -> None:
    facts = {"aof_enabled": 1, "maxmemory": 10**9, "maxmemory_policy": "allkeys-lru"}
    (check,) = doctor.redis_keeping(facts)
    assert (check.state, "allkeys-lru" in check.found) == ("fail", True)
    assert doctor.redis_keeping({**facts, "maxmemory": 0}) == []


def test_clocks_apart_are_told() -> None:
    assert doctor.check_clock(0.2).state == "ok"
    assert "30.0 s behind" in doctor.check_clock(-30.0).found
    assert doctor.check_clock(-30.0).state == "warn"


def test_an_open_server_is_told() -> None:
    assert doctor.check_access(Settings()).state == "warn"
    assert doctor.check_access(Settings(host="127.0.0.1")).state == "ok"
    assert doctor.check_access(Settings(token=SecretStr("t"))).state == "ok"


@contextmanager
def redis_at_a_port(folder: Path, options: str) -> Iterator[int]:
    """A Redis that listens, as a team's own one does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    given = f'port {port}\nbind 127.0.0.1\ndir {folder}\nsave ""\n{options}\n'
    process = subprocess.Popen(
        [str(server_program()), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdin is not None
        process.stdin.write(given)
        process.stdin.close()
        until(lambda: _listens(port))
        yield port
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
