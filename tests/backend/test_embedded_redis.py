"""The private Redis: one per folder, no TCP, persisted, stopped with its owner."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from backend import embedded_redis
from backend.embedded_redis import EmbeddedRedis, redis_for, server_program
from backend.jobs import QueueUnavailable
from backend.queue_store import connect
from edgetam_model import InputError
from tests.backend.queue_fixtures import ROOT, until


def answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except ConnectionError:
        return False


def test_a_folder_has_one_server_and_what_is_written_survives(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s a "folder"'
    with EmbeddedRedis(folder) as first:
        with EmbeddedRedis(folder) as second:  # as another process would
            assert (first.owner, second.owner) == (True, False)
            connect(second.url).set("a", "kept")
        redis = connect(first.url)  # the second did not stop it
        assert redis.get("a") == b"kept"
        assert redis.config_get("port")["port"] == "0"
        assert redis.config_get("appendonly")["appendonly"] == "yes"
        assert stat.S_IMODE((folder / "redis.sock").stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        server = int(redis.info("server")["process_id"])
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
    first.stop()  # again: nothing happens
    with EmbeddedRedis(folder) as third:
        assert third.owner
        assert connect(third.url).get("a") == b"kept"


def test_a_server_whose_owner_was_killed_gets_a_new_one(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from backend.embedded_redis import EmbeddedRedis
with EmbeddedRedis(Path(sys.argv[1])) as redis:
    os.kill(os.getpid(), 9)
"""
    process = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    with EmbeddedRedis(tmp_path) as heir:
        assert heir.owner
        redis = connect(heir.url)
        server = int(redis.info("server")["process_id"])
    until(lambda: not Path(f"/proc/{server}").exists() or "\nState:\tZ" in state_of(server), 5)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return "\nState:\tZ"


def test_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 60) / ("b" * 60)
    with EmbeddedRedis(folder) as redis:
        assert connect(redis.url).ping()
        place = Path(redis.url.removeprefix("unix://")).parent
        assert place != folder
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    shutil.rmtree(place)


def test_a_given_address_wins(tmp_path: Path) -> None:
    with redis_for("redis://elsewhere:1/0", tmp_path) as url:
        assert url == "redis://elsewhere:1/0"
    assert list(tmp_path.iterdir()) == []
    with redis_for("", tmp_path) as url:
        assert connect(url).ping()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"redis folder: .*file.* cannot be used"),
        EmbeddedRedis(tmp_path / "file"),
    ):
        pass


def test_a_server_that_does_not_start_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_redis, "server_program", lambda: Path("/bin/false"))
    with pytest.raises(QueueUnavailable, match=r"redis\.log tells why"), EmbeddedRedis(tmp_path):
        pass


def test_without_the_package_the_path_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_program().name == "redis-server"
    monkeypatch.setattr(embedded_redis, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QueueUnavailable, match="set REDIS_URL, install redis-server"):
        server_program()
    program = tmp_path / "valkey-server"
    program.write_text("")
    program.chmod(0o755)
    assert server_program() == program


def test_an_address_that_is_none_is_refused_without_repeating_it() -> None:
    with pytest.raises(InputError, match="REDIS_URL") as caught:
        connect("http://:secret@host")
    assert "secret" not in str(caught.value)
