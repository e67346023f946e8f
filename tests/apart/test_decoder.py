"""A decoder that crashes, hangs, takes too much or lies is told as the file's fault, and is no more."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edgetam_model.apart import decoder
from edgetam_model.apart.canvas import Canvas
from edgetam_model.apart.images import ImageDecoders
from edgetam_model.apart.options import ApartOptions
from edgetam_model.apart.source import ApartSource
from edgetam_model.errors import MediaError
from edgetam_model.video import open_source
from tests.apart.kernel import needs_fences
from tests.video_fixtures import Recipe, constant, write_video

BROKEN = Path(__file__).with_name("broken.py")
ROOT = Path(__file__).parents[2]
Named = Callable[[str], Path]
OPTIONS = ApartOptions(memory_bytes=1 << 30)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="memfd and limits are Linux's")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pts, base = constant(5, 25)
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", Recipe(pts, base))


@pytest.fixture
def named(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Named:
    """The clip under a name that tells the decoder what to do."""
    monkeypatch.setattr(decoder, "PROGRAM", BROKEN)

    def make(name: str) -> Path:
        return Path(shutil.copy(good, tmp_path / f"{name}.mp4"))

    return make


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("crash", "the decoder stopped (signal 11, SIGSEGV)"),
        ("abort", "the decoder stopped (signal 6, SIGABRT)"),
        ("kill", "the decoder stopped (signal 9, SIGKILL)"),
        ("leave", "the decoder stopped (exit status 3)"),
        ("exhaust", "needs more than 1,073,741,824 bytes of memory to decode"),
    ],
)
def test_what_breaks_the_decoder_is_refused(name: str, problem: str, named: Named) -> None:
    with open_source(named(name), apart=OPTIONS) as source:
        assert isinstance(source, ApartSource)
        process = psutil.Process(source._decoder.pid)
        source.read(0)
        with pytest.raises(MediaError) as caught:
            list(source.frames(0, 4))
        assert str(caught.value) == f"{name}.mp4: {problem}"
        assert not process.is_running()
        with pytest.raises(MediaError, match="the decoder is closed"):
            source.read(0)


def test_time_is_bounded(named: Named) -> None:
    with open_source(named("spin"), apart=ApartOptions(seconds=60)) as source:
        assert isinstance(source, ApartSource)
        source.read(0)
        source._options = ApartOptions(seconds=0.5)  # from here on: starting may take long on a busy machine
        with pytest.raises(MediaError, match=r"took more than 0\.5 s to decode"):
            source.read(1)
        assert not source._decoder.alive


@needs_linux
def test_processor_time_is_bounded_where_nobody_looks_at_the_clock(named: Named) -> None:
    """Its owner is paused, say: the kernel ends it."""
    with open_source(named("spin"), apart=OPTIONS) as source:
        assert isinstance(source, ApartSource)
        source._decoder._channel.send({"do": "read", "frame": 1, "seconds": 0.1})
        assert source._decoder._process.wait(60) == -signal.SIGXCPU


@pytest.mark.parametrize(
    "name", ["wide", "words", "negative", "backward", "timeless", "more", "markup", "odd"]
)
def test_lies_are_not_believed(name: str, named: Named) -> None:
    with pytest.raises(MediaError) as caught:
        open_source(named(name), apart=OPTIONS)
    expected = "more than the limit" if name == "wide" else decoder.NONSENSE
    assert expected in str(caught.value)


@needs_fences
def test_it_can_do_nothing_but_read_its_file(named: Named) -> None:
    path = named("probe")
    (path.parent / "secret.txt").write_text("secret")
    os.environ["EDGETAM_SECRET"] = "secret"
    try:
        with open_source(path, apart=OPTIONS) as source:
            source.read(0)
            assert source.warnings == ("read the file",)
    finally:
        del os.environ["EDGETAM_SECRET"]
    assert not (path.parent / "made.txt").exists()


@needs_linux
def test_it_ends_with_its_owner_even_inside_a_loop(named: Named) -> None:
    """kill -9 of the owner; no process and no memory with a name is left."""
    before = set(Path("/dev/shm").iterdir())
    script = f"""
import sys
from pathlib import Path
from edgetam_model.apart import decoder
from edgetam_model.apart.options import ApartOptions
from edgetam_model.video import open_source
decoder.PROGRAM = Path({str(BROKEN)!r})
source = open_source({str(named("spin"))!r}, apart=ApartOptions())
print(source._decoder.pid, flush=True)
source.read(1)
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}
    )
    assert owner.stdout is not None
    child = psutil.Process(int(owner.stdout.readline()))
    time.sleep(0.3)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    end = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.02)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE  # the container's init reaps
    assert set(Path("/dev/shm").iterdir()) - before == set()


@needs_linux
def test_nobody_can_shrink_the_canvas() -> None:
    canvas = Canvas.make()
    assert canvas is not None
    canvas.grow(10_000)
    canvas.grow(5_000)
    assert canvas.size == 10_000
    with pytest.raises(PermissionError):
        os.ftruncate(canvas.descriptor, 9_999)
    canvas.close()


def test_an_image_that_breaks_a_decoder_costs_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "PROGRAM", BROKEN)
    decoders = ImageDecoders(OPTIONS)
    try:
        for content, problem in (
            (b"crash", "SIGSEGV"),
            (b"exhaust", "needs more than"),
            (b"neither", "not an image"),
            (b"abort", "SIGABRT"),
        ):
            with pytest.raises(MediaError, match=problem):
                decoders.read(content)
    finally:
        decoders.close()
