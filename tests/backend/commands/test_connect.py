"""`edgetam connect` as people type it."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from backend.access import Access, basic_header
from backend.commands import connect
from edgetam_model import InputError
from tests.backend.test_connect import OWN
from tests.backend.test_label_studio import LEGACY, Imitation
from tests.backend.web_fixtures import serving

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def server() -> Iterator[Imitation]:
    with serving() as web:
        found = Imitation(web)
        found.items["projects"].append(
            {"id": 1, "title": "Reef", "label_config": OWN, "total_annotations_number": 4}
        )
        yield found


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb")
    connect.register(verbs)
    args = parser.parse_args(words)
    return int(args.run(args))


def connecting(server: Imitation, folder: Path, *words: str) -> int:
    where = ["--url", server.web.url, "--token", LEGACY, "--backup-dir", str(folder)]
    return call("connect", *where, "--backend", "http://10.0.0.5:9090", *words)


def changed(server: Imitation) -> bool:
    return any(asked.method != "GET" for asked in server.web.asked)


def test_a_dry_run_shows_the_diff_and_changes_nothing(
    server: Imitation, tmp_path: Path, capsys: Capture
) -> None:
    assert connecting(server, tmp_path, "--project", "1", "--dry-run") == 0
    out = capsys.readouterr().out
    assert '+    <Label value="Track" hotkey="t"/>' in out
    assert "nothing was changed" in out
    assert not changed(server)
    assert not list(tmp_path.iterdir())


def test_a_server_with_a_token_alone_is_connected_with_it_as_a_password(
    server: Imitation, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label Studio sends users and passwords, no bearer tokens."""
    monkeypatch.setenv("EDGETAM_TOKEN", "s3cret")
    assert connecting(server, tmp_path, "--project", "1", "--yes") == 0
    (backend,) = server.items["ml"]
    assert (backend["basic_auth_user"], backend["basic_auth_pass"]) == ("token", "s3cret")
    access = Access(token=SecretStr("s3cret"))
    access.check(server.items["webhooks"][0]["headers"]["Authorization"])
    printed = capsys.readouterr()
    assert "s3cret" not in printed.out + printed.err


def test_a_project_with_a_token_of_its_own_gets_no_other(
    server: Imitation, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGETAM_TOKEN", "of-a11")
    monkeypatch.setenv("EDGETAM_PROJECT_TOKENS", "1=of-0ne,2=of-tw0")
    assert connecting(server, tmp_path, "--project", "1", "--yes") == 0
    (backend,) = server.items["ml"]
    assert (backend["basic_auth_user"], backend["basic_auth_pass"]) == ("project-1", "of-0ne")
    header = server.items["webhooks"][0]["headers"]["Authorization"]
    assert header == basic_header("project-1", SecretStr("of-0ne")).get_secret_value()
    printed = capsys.readouterr()
    assert not any(token in printed.out + printed.err for token in ("of-a11", "of-0ne", "of-tw0"))


def test_a_project_with_annotations_needs_a_yes(
    server: Imitation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # nobody is there: it is no terminal
    with pytest.raises(InputError, match="4 annotations"):
        connecting(server, tmp_path, "--project", "1")
    assert not changed(server)


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("YES\n", True), ("\n", False), ("", False)])
def test_somebody_at_a_terminal_is_asked(
    server: Imitation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    if agreed:
        assert connecting(server, tmp_path, "--project", "1") == 0
    else:
        with pytest.raises(InputError, match="yes"):
            connecting(server, tmp_path, "--project", "1")
    assert changed(server) == agreed


def test_connecting_says_what_was_done(server: Imitation, tmp_path: Path, capsys: Capture) -> None:
    assert connecting(server, tmp_path, "--project", "1", "--yes", "--json") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["done"] is True
    assert Path(document["backup"]).read_text() == OWN
    assert document["url"].endswith("/projects/1/data")
    assert "kept the config" in captured.err
    assert LEGACY not in captured.out + captured.err


def test_creating_with_labels(server: Imitation, tmp_path: Path, capsys: Capture) -> None:
    assert connecting(server, tmp_path, "--create", "Cells", "--kind", "image", "--labels", "A, B") == 0
    config = server.items["projects"][1]["label_config"]
    assert '<Label value="A"/>' in config
    assert '<Label value="B"/>' in config
    assert "click the object" in capsys.readouterr().out


def test_address_and_token_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "LABEL_STUDIO_URL",
        "LABEL_STUDIO_HOST",
        "LABEL_STUDIO_API_KEY",
        "LABEL_STUDIO_ACCESS_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="LABEL_STUDIO_URL"):
        call("connect", "--project", "1")
