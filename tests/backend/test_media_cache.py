"""The media cache under threads, processes, failures and crashes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import pytest

from backend.media_cache import Incoming, MediaBusyError, MediaCache
from edgetam_model import MediaError

ROOT = Path(__file__).parents[2]


class Origin:
    """A source of files that counts who asks and who fetches."""

    def __init__(self, content: bytes = b"content", version: str = "1", pause_s: float = 0.0) -> None:
        self.content, self.version, self.pause_s = content, version, pause_s
        self.asked = self.written = 0
        self.fails: Exception | None = None

    @contextmanager
    def __call__(self) -> Iterator[Incoming]:
        self.asked += 1
        yield Incoming(self.version, self.write)

    def write(self, file: BinaryIO) -> None:
        self.written += 1
        file.write(self.content[:3])
        file.flush()
        time.sleep(self.pause_s)
        if self.fails:
            raise self.fails
        file.write(self.content[3:])


@pytest.fixture
def cache(tmp_path: Path) -> MediaCache:
    return MediaCache(tmp_path, max_bytes=100, wait_s=5)


def parts(folder: Path) -> list[Path]:
    return list((folder / "parts").iterdir())


def test_a_file_is_fetched_once_and_asked_for_every_time(cache: MediaCache, tmp_path: Path) -> None:
    origin = Origin()
    for _ in range(3):
        with cache.hold("a", origin) as path:
            assert path.read_bytes() == b"content"
    assert (origin.asked, origin.written) == (3, 1)
    assert not parts(tmp_path)


def test_another_version_or_source_is_another_file(cache: MediaCache) -> None:
    with cache.hold("a", Origin()) as old, cache.hold("a", Origin(b"newer", "2")) as new:
        assert (old.read_bytes(), new.read_bytes()) == (b"content", b"newer")
        with cache.hold("b", Origin(b"other")) as other:
            assert other.read_bytes() == b"other"


def test_peek_holds_what_is_there_and_asks_nobody(cache: MediaCache) -> None:
    assert cache.peek("a", "1") is None
    with cache.hold("a", Origin()):
        pass
    held = cache.peek("a", "1")
    assert held
    with held as path:
        assert path.read_bytes() == b"content"
    assert cache.peek("a", "2") is None


@pytest.mark.parametrize("error", [MediaError("media", "was cut off"), KeyboardInterrupt()])
def test_half_a_file_is_never_kept(cache: MediaCache, tmp_path: Path, error: Exception) -> None:
    origin = Origin()
    origin.fails = error
    with pytest.raises(type(error)), cache.hold("a", origin):
        pass
    assert not parts(tmp_path)
    assert cache.size() == 0
    origin.fails = None
    with cache.hold("a", origin) as path:
        assert path.read_bytes() == b"content"


def test_a_failing_question_leaves_nothing(cache: MediaCache, tmp_path: Path) -> None:
    def refuse() -> AbstractContextManager[Incoming]:
        raise MediaError("media", "404")

    with pytest.raises(MediaError), cache.hold("a", refuse):
        pass
    assert not parts(tmp_path)


def test_ten_threads_fetch_once(cache: MediaCache) -> None:
    origin = Origin(pause_s=0.1)
    together = threading.Barrier(10)

    def read(_: int) -> bytes:
        together.wait()
        with cache.hold("a", origin) as path:
            return path.read_bytes()

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(read, range(10))) == {b"content"}
    assert origin.written == 1


@pytest.fixture
def in_thread() -> Iterator[Callable[[MediaCache, Origin], Future[bytes]]]:
    """Holds a source in another thread, and comes back once that one is fetching."""
    with ThreadPoolExecutor(1) as pool:

        def hold(cache: MediaCache, origin: Origin) -> bytes:
            with cache.hold("a", origin) as path:
                return path.read_bytes()

        def start(cache: MediaCache, origin: Origin) -> Future[bytes]:
            future = pool.submit(hold, cache, origin)
            while not origin.written:
                time.sleep(0.01)
            return future

        yield start


def test_after_a_failure_the_next_in_line_tries(
    cache: MediaCache, in_thread: Callable[[MediaCache, Origin], Future[bytes]]
) -> None:
    bad, good = Origin(pause_s=0.1), Origin()
    bad.fails = MediaError("media", "was cut off")
    failing = in_thread(cache, bad)
    with cache.hold("a", good) as path:
        assert path.read_bytes() == b"content"
    assert isinstance(failing.exception(), MediaError)
    assert good.written == 1


def test_waiting_ends(tmp_path: Path, in_thread: Callable[[MediaCache, Origin], Future[bytes]]) -> None:
    cache = MediaCache(tmp_path, 100, wait_s=0.1)
    fetching = in_thread(cache, Origin(pause_s=0.5))
    with pytest.raises(MediaBusyError, match="has been fetching"), cache.hold("a", Origin()):
        pass
    assert fetching.result() == b"content"


def fill(cache: MediaCache, *names: str) -> None:
    for name in names:
        with cache.hold(name, Origin(b"x" * 40)):
            pass


def kept(cache: MediaCache, *names: str) -> list[bool]:
    found = []
    for name in names:
        held = cache.peek(name, "1")
        found.append(held is not None)
        if held:
            with held:
                pass
    return found


def test_the_least_recently_used_go_first(cache: MediaCache) -> None:
    fill(cache, "a", "b", "a", "c")
    assert cache.size() == 80
    assert kept(cache, "a", "b", "c") == [True, False, True]


def test_what_is_read_stays_and_counts(cache: MediaCache) -> None:
    with cache.hold("a", Origin(b"x" * 40)) as path:
        fill(cache, "b", "c", "d")
        assert path.read_bytes() == b"x" * 40
        assert kept(cache, "a", "b", "c", "d") == [True, False, False, True]
    fill(cache, "e")
    assert kept(cache, "a", "d", "e") == [False, True, True]


def test_a_file_larger_than_the_cache_stays_while_it_is_read(cache: MediaCache) -> None:
    with cache.hold("a", Origin(b"x" * 500)) as path:
        assert path.stat().st_size == 500
    assert cache.size() == 0


def test_a_cache_of_no_size_still_serves(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, 0)
    origin = Origin()
    for _ in range(2):
        with cache.hold("a", origin) as path:
            assert path.read_bytes() == b"content"
    assert (origin.written, cache.size()) == (2, 0)


def test_many_threads_in_a_cache_that_is_too_small(tmp_path: Path) -> None:
    """Trimming races with reading and fetching; nobody may ever see a wrong or missing file."""
    cache = MediaCache(tmp_path, 100)

    def work(seed: int) -> None:
        for step in range(25):
            name = f"{(seed * 7 + step * 3) % 6}"
            with cache.hold(name, Origin(name.encode() * 40)) as path:
                assert path.read_bytes() == name.encode() * 40

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    cache.trim()
    assert cache.size() <= 100
    assert not parts(tmp_path)


def test_a_file_that_is_trimmed_while_it_is_being_taken_is_not_given(
    cache: MediaCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cache.hold("a", Origin()) as path:
        pass
    lock = fcntl.flock

    def lock_late(descriptor: int, kind: int) -> None:
        path.unlink(missing_ok=True)
        lock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    assert cache.peek("a", "1") is None


CHILD = """
import sys, time
from contextlib import nullcontext
from pathlib import Path
from backend.media_cache import Incoming, MediaCache
folder, pause = Path(sys.argv[1]), float(sys.argv[2])
def write(file):
    file.write(b"half"); file.flush()
    print("fetching", flush=True)
    time.sleep(pause)
    file.write(b" and half")
with MediaCache(folder, 1000, wait_s=20).hold("a", lambda: nullcontext(Incoming("1", write))) as path:
    print(path.read_text(), flush=True)
    if sys.argv[3:]: time.sleep(60)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CHILD, str(tmp_path), *arguments]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_two_processes_fetch_once(child: Callable[..., subprocess.Popen[str]]) -> None:
    outputs = [process.communicate(timeout=30)[0] for process in (child("0.5"), child("0.5"))]
    assert sorted("".join(outputs).split("\n")) == ["", "fetching", "half and half", "half and half"]


def test_a_killed_process_leaves_nothing_that_counts(
    tmp_path: Path, child: Callable[..., subprocess.Popen[str]]
) -> None:
    process = child("60")
    assert process.stdout
    assert process.stdout.readline() == "fetching\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert parts(tmp_path)
    cache = MediaCache(tmp_path, 1000, wait_s=5)
    with cache.hold("a", Origin(b"new")) as path:  # shorter than what was left
        assert path.read_bytes() == b"new"
    assert not parts(tmp_path)


def test_what_a_crash_left_is_removed_by_the_next_fetch_of_anything(
    tmp_path: Path, cache: MediaCache
) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "left").write_bytes(b"half")
    fill(cache, "a")
    assert not parts(tmp_path)


def test_another_process_that_reads_keeps_its_file(
    tmp_path: Path, child: Callable[..., subprocess.Popen[str]]
) -> None:
    process = child("0", "stay")
    assert process.stdout
    assert [process.stdout.readline(), process.stdout.readline()] == ["fetching\n", "half and half\n"]
    cache = MediaCache(tmp_path, 0)
    cache.trim()
    assert cache.size() == 13
    process.kill()
    process.wait()
    cache.trim()
    assert cache.size() == 0


def test_a_folder_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MediaError) as caught, MediaCache(tmp_path / "file", 1).hold("a", Origin()):
        pass
    assert caught.value.field == "EDGETAM_CACHE"


def test_sources_with_any_letters_make_plain_file_names(tmp_path: Path, cache: MediaCache) -> None:
    incoming = Incoming("../../\x00", lambda file: file.write(b"x"))
    with cache.hold("../../etc/\x00\ud800", lambda: nullcontext(incoming)) as path:
        assert path.parent == tmp_path / "entries"
