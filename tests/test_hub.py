"""Downloads against a real HTTP server on this machine, and what `weights.fetch` makes of them."""

from __future__ import annotations

import argparse
import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
import torch

from edgetam_model import hub, weights
from edgetam_model.commands.weights import register
from edgetam_model.config import CONFIGS
from edgetam_model.errors import WeightsError
from edgetam_model.hub import Patience, check_url, download, git_blob_hash, locked
from edgetam_model.model import EdgeTAM

CONTENT = bytes(range(256)) * 4000  # 1 MB, no two neighbouring bytes alike
ONCE = Patience(timeout_s=5, attempts=1)


@dataclass
class FileServer:
    """Serves one file under any path, as well or as badly as it is told to."""

    content: bytes = CONTENT
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which one answer each breaks off
    statuses: list[int] = field(default_factory=list)  # error statuses to give first
    redirect: str = ""
    pause_s: float = 0.0  # before every 64 KB
    asked: list[str | None] = field(default_factory=list)  # Range header of every request
    sent: int = 0
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        if self.statuses or self.redirect:
            handler.send_response(self.statuses.pop(0) if self.statuses else 302)
            handler.send_header("Location", self.redirect)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(self.content):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(self.content) - start))
        handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.end_headers()
        body = self.content[start:]
        source = BytesIO(body[: self.cuts.pop(0)] if self.cuts else body)
        for chunk in iter(lambda: source.read(2**16), b""):
            self.sent += len(chunk)  # before it goes: the client may be faster than the next line
            with suppress(ConnectionError):  # a client may have had enough
                handler.wfile.write(chunk)
            time.sleep(self.pause_s)
        handler.close_connection = True


@pytest.fixture
def server() -> Iterator[FileServer]:
    files = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        files.url = f"http://127.0.0.1:{http.server_address[1]}/edgetam.pt"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield files
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("EDGETAM_OFFLINE", "EDGETAM_WEIGHTS", "EDGETAM_WEIGHTS_URL", "EDGETAM_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGETAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "RETRY_WAIT_S", 0.0)
    return tmp_path / "cache"


def test_download_brings_the_whole_file_and_tells_how_far_it_is(server: FileServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    download(server.url, tmp_path / "part", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_cut_connection_is_taken_up_where_it_broke(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [300_000, 200_001]
    download(server.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=500001-"]
    assert server.sent == len(CONTENT)


def test_a_later_call_goes_on_from_the_partial_file(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [400_000]
    with pytest.raises(WeightsError, match="cut off after 400000 bytes"):
        download(server.url, tmp_path / "part", patience=ONCE)
    seen: list[tuple[int, int | None]] = []
    download(server.url, tmp_path / "part", lambda done, total: seen.append((done, total)), ONCE)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert server.sent == len(CONTENT)
    assert seen[0][0] > 400_000
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_server_without_ranges_starts_again(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "part").write_bytes(b"x" * 2_000_000)  # longer than the file: its tail must not survive
    download(server.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_partial_file_longer_than_the_file_starts_again(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"x" * (len(CONTENT) + 1))
    download(server.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_missing_file_is_final_and_a_busy_server_is_not(server: FileServer, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(WeightsError, match="HTTP 404"):
        download(server.url, tmp_path / "part")
    assert len(server.asked) == 1
    server.statuses = [503, 429]
    download(server.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_server_that_is_not_there_is_named(server: FileServer, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_address[1]
    with pytest.raises(WeightsError, match=f"127.0.0.1:{port}.*cannot be reached"):
        download(f"http://127.0.0.1:{port}/", tmp_path / "part")


def test_a_file_above_the_limit_is_refused(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="larger than the limit of 1000 bytes"):
        download(server.url, tmp_path / "part", limit=1000)


def test_a_slow_line_ends_with_the_budget_and_keeps_what_came(server: FileServer, tmp_path: Path) -> None:
    server.pause_s = 0.05
    started = time.monotonic()
    with pytest.raises(WeightsError, match="out of time"):
        download(server.url, tmp_path / "part", patience=Patience(budget_s=0.2, attempts=1))
    assert time.monotonic() - started < 2
    have = (tmp_path / "part").read_bytes()
    assert have
    assert CONTENT.startswith(have)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/edgetam.pt",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "https:///x",
        "https://[bad/x",
        "edgetam.pt",
        "http://127.0.0.1.example.com/",
    ],
)
def test_only_https_leaves_this_machine(url: str) -> None:
    with pytest.raises(WeightsError, match="https"):
        check_url(url)


@pytest.mark.parametrize("url", ["http://example.com/", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_is_held_to_the_same_rules(url: str, server: FileServer, tmp_path: Path) -> None:
    server.redirect = url
    with pytest.raises(WeightsError, match=r"expected an https URL|not allowed"):
        download(server.url, tmp_path / "part")
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("url", ["https://example.com/a", "http://localhost:1/a", "http://[::1]:80/a"])
def test_https_and_this_machine_are_allowed(url: str) -> None:
    check_url(url)


def test_a_lock_has_one_holder_and_is_free_afterwards(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock"),
        pytest.raises(WeightsError, match="another process"),
        locked(tmp_path / "lock", 0.1),
    ):
        pass
    with locked(tmp_path / "lock", 0.0):
        pass


@pytest.mark.parametrize(
    ("content", "git_says"),
    [
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
    ],
)
def test_blob_hash_is_gits(content: bytes, git_says: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert git_blob_hash(tmp_path / "file") == git_says


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert hub.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("EDGETAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert hub.cache_dir() == tmp_path / "xdg" / "edgetam"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.cache_dir() == tmp_path / ".cache" / "edgetam"


@pytest.fixture
def published(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """The server publishes a checkpoint of the tiny model, and the product expects exactly that one."""
    monkeypatch.setattr(weights, "CONFIGS", {"edgetam": CONFIGS["tiny"], "tiny": CONFIGS["tiny"]})
    torch.manual_seed(7)
    torch.save({"model": EdgeTAM(CONFIGS["tiny"]).state_dict()}, tmp_path / "published.pt")
    server.content = (tmp_path / "published.pt").read_bytes()
    blob = git_blob_hash(tmp_path / "published.pt")
    monkeypatch.setattr(hub, "PUBLISHED", replace(hub.PUBLISHED, url=server.url, git_blob=blob))
    return server


def test_fetch_converts_once_and_is_found_offline(
    published: FileServer, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights.fetch()
    assert path == own_cache / "weights" / "edgetam.safetensors"
    monkeypatch.setenv("EDGETAM_OFFLINE", "1")
    assert weights.fetch() == path
    info = weights.load_model("edgetam").weights_info
    assert isinstance(info, weights.WeightsInfo)
    assert (info.name, info.path, info.trained, info.licence) == ("edgetam", path, True, "Apache-2.0")
    assert len(published.asked) == 1
    assert list((own_cache / "downloads").glob("*.part")) == []


def test_fetch_survives_a_cut_and_the_end_of_the_process(published: FileServer) -> None:
    published.cuts = [10_000]
    with pytest.raises(WeightsError, match="cut off"):
        weights.fetch(patience=ONCE)
    assert weights.fetch().is_file()
    assert published.asked == [None, "bytes=10000-"]


def test_fetch_finishes_a_download_that_was_complete(published: FileServer, own_cache: Path) -> None:
    part = own_cache / "downloads" / f"{hub.PUBLISHED.git_blob}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(published.content)
    assert weights.fetch().is_file()
    assert published.asked == []


def test_another_content_is_refused_and_leaves_nothing(published: FileServer, own_cache: Path) -> None:
    published.content = published.content[:-1] + b"?"
    with pytest.raises(WeightsError, match=f"expected {hub.PUBLISHED.git_blob}"):
        weights.fetch()
    assert not (own_cache / "weights").exists()
    assert list((own_cache / "downloads").glob("*.part")) == []


def test_a_mirror_is_asked_and_offline_asks_nobody(
    published: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "PUBLISHED", replace(hub.PUBLISHED, url="https://nowhere.invalid/edgetam.pt"))
    monkeypatch.setenv("EDGETAM_WEIGHTS_URL", published.url)
    monkeypatch.setenv("EDGETAM_OFFLINE", "1")
    with pytest.raises(WeightsError, match="EDGETAM_OFFLINE"):
        weights.fetch()
    monkeypatch.setenv("EDGETAM_OFFLINE", "0")
    assert weights.fetch().is_file()
    assert weights.fetch(url=published.url, force=True).is_file()
    assert len(published.asked) == 2


def test_a_damaged_cache_is_fetched_again(published: FileServer) -> None:
    path = weights.fetch()
    path.write_bytes(path.read_bytes()[:-1])
    assert weights.load_model("edgetam").weights_info is not None
    assert len(published.asked) == 2


def test_two_at_once_download_once(published: FileServer) -> None:
    published.pause_s = 0.01
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: weights.fetch(), range(2))
    assert first == second
    assert len(published.asked) == 1


def test_auto_takes_the_published_ones_or_says_why_not(
    published: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    published.statuses = [404]
    with caplog.at_level(logging.INFO):
        info = weights.load_model("auto").weights_info
    assert isinstance(info, weights.WeightsInfo)
    assert (info.name, info.trained) == ("default", True)
    assert "edgetam weights fetch" in info.note
    assert "HTTP 404" in caplog.text
    info = weights.load_model("auto").weights_info
    assert isinstance(info, weights.WeightsInfo)
    assert (info.name, info.trained, info.note) == ("edgetam", True, "")


def test_a_cache_that_cannot_be_written_is_told_and_auto_goes_on(
    published: FileServer, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own_cache.touch()  # a file where the folder should be
    with pytest.raises(WeightsError, match=r"downloads: cannot be written"):
        weights.fetch()
    with caplog.at_level(logging.INFO):
        info = weights.load_model("auto").weights_info
    assert isinstance(info, weights.WeightsInfo)
    assert (info.name, info.trained) == ("default", True)
    assert "cannot be written" in caplog.text


def test_the_verb_fetch_reports_what_it_brought(
    published: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    args = parser.parse_args(["weights", "fetch", "--json"])
    assert args.run(args) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["name"] == "edgetam"
    assert Path(document["path"]).is_file()
