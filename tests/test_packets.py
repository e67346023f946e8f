"""Hostile and lying files: refused in one clear line, and nothing else gets opened."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import av.error
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetam_model.errors import MediaError
from edgetam_model.packets import Container
from edgetam_model.video import MediaLimits, open_source
from tests.video_fixtures import Recipe, constant, write_video


@dataclass
class Trap:
    """A named pipe beside the hostile file, and a web server: both notice whoever opens them."""

    folder: Path
    port: int = 0
    requests: list[str] = field(default_factory=list)
    opened: threading.Event = field(default_factory=threading.Event)

    @property
    def secret(self) -> Path:
        return self.folder / "secret.ts"

    @property
    def untouched(self) -> bool:
        return not self.opened.wait(0.05) and not self.requests


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    trap = Trap(tmp_path)
    os.mkfifo(trap.secret)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            trap.requests.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    def feed() -> None:
        with trap.secret.open("wb"):  # waits until somebody opens the pipe for reading
            trap.opened.set()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    trap.port = server.server_port
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)), threading.Thread(target=feed)]
    for thread in threads:
        thread.start()
    yield trap
    server.shutdown()
    server.server_close()
    os.close(os.open(trap.secret, os.O_RDONLY | os.O_NONBLOCK))  # lets the feeding thread end
    for thread in threads:
        thread.join()


SCRIPTS = {
    "ffconcat.mp4": "ffconcat version 1.0\nfile secret.ts\n",
    "ffconcat_absolute.mp4": "ffconcat version 1.0\nfile '{secret}'\n",
    "ffconcat_remote.mp4": "ffconcat version 1.0\nfile http://127.0.0.1:{port}/a.ts\n",
    "ffconcat_behind_a_box.mp4": "\0\0\0\x18ftypisom\nffconcat version 1.0\nfile secret.ts\n",
    "playlist.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{secret}\n#EXT-X-ENDLIST\n",
    "playlist.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.ts\n#EXT-X-ENDLIST\n",
    "playlist_remote.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:{port}/x.ts\n",
    "dash.mp4": '<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:{port}/</BaseURL></MPD>',
    "vector.png": '<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1:{port}/x"/></svg>',
    "postscript.png": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({secret}) run\n",
    "text.mp4": "just words\n" * 500,
    "text.jpg": "just words\n" * 500,
    "empty.mp4": "",
    "empty.png": "",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_refused_and_nothing_else_is_opened(name: str, trap: Trap) -> None:
    path = trap.folder / name
    path.write_text(SCRIPTS[name].format(secret=trap.secret, port=trap.port))
    with pytest.raises(MediaError) as caught:
        open_source(path)
    assert trap.untouched
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    assert str(trap.folder) not in message  # a server's paths are nobody's business


@pytest.mark.parametrize("name", [name for name in SCRIPTS if "ffconcat" in name or "playlist" in name])
def test_demuxers_refuse_scripts_even_unrecognised(name: str, trap: Trap) -> None:
    """The second wall: what would happen if a script passed for a video by its first bytes."""
    path = trap.folder / name
    path.write_text(SCRIPTS[name].format(secret=trap.secret, port=trap.port))
    with pytest.raises(MediaError, match="cannot be opened as a video"):
        Container(path, MediaLimits())
    assert trap.untouched


def test_the_trap_notices_an_unguarded_reader(trap: Trap) -> None:
    """What the guard is for: PyAV alone follows the script to the other file."""
    path = trap.folder / "ffconcat.mp4"
    path.write_text(SCRIPTS["ffconcat.mp4"])
    with pytest.raises(av.error.FFmpegError):
        av.open(str(path))
    assert trap.opened.wait(5)


@pytest.mark.parametrize(
    "source", ["http://127.0.0.1:{port}/v.mp4", "file:///etc/hostname", "rtsp://127.0.0.1:{port}/"]
)
def test_urls_are_refused(source: str, trap: Trap) -> None:
    with pytest.raises(MediaError, match="got a URL"):
        open_source(source.format(port=trap.port))
    assert trap.untouched


def test_what_is_no_file_is_refused(trap: Trap) -> None:
    """A pipe would block and a device never end."""
    refused: list[tuple[str | Path, str]] = [
        (trap.secret, "secret.ts is neither a file nor a folder"),
        ("/dev/zero", "zero is neither a file nor a folder"),
        (trap.folder / "missing.mp4", "missing.mp4 cannot be found"),
        ("concat:a.mp4|b.mp4", "cannot be found"),
        ("", "expected the path"),
        ("a\0b", "expected the path"),
    ]
    for source, problem in refused:
        with pytest.raises(MediaError, match=problem):
            open_source(source)
    assert trap.untouched


def motion_jpeg(folder: Path, *, lying_frames: slice, side: int) -> Path:
    """Five frames of 160 × 96 pixels, some of which claim to be squares in their own headers."""
    pts, base = constant(5, 25)
    path = write_video(folder / "m.mov", Recipe(pts, base, codec="mjpeg", pixel_format="yuvj420p"))
    data = bytearray(path.read_bytes())
    marks = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xc0"]
    assert len(marks) == 5
    for mark in marks[lying_frames]:
        data[mark + 5 : mark + 9] = struct.pack(">HH", side, side)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("side", [4_000, 65_000])
def test_frames_larger_than_the_header_says_cost_no_memory(side: int, tmp_path: Path) -> None:
    limits = MediaLimits(max_pixels=100_000)
    before = psutil.Process().memory_info().rss
    with pytest.raises(MediaError, match=r"more than (the limit of )?100,000"):
        open_source(motion_jpeg(tmp_path, lying_frames=slice(0, 5), side=side), limits)
    with open_source(motion_jpeg(tmp_path, lying_frames=slice(2, 3), side=side), limits) as source:
        assert [index for index, _ in source.frames(0, 4)] == [0, 1]
        assert source.warnings == ("frame 2 of 5 cannot be decoded",)
    assert psutil.Process().memory_info().rss - before < 64 * 1024**2


def patched_sample_entry(path: Path, width: int, height: int) -> Path:
    """Write other numbers into the visual sample entry of the track (ISO 14496-12, 12.1.3)."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"avc1", data.index(b"stsd"))
    data[entry + 28 : entry + 32] = struct.pack(">HH", width, height)
    path.write_bytes(data)
    return path


def test_the_limit_holds_for_what_is_decoded_not_for_what_the_header_says(tmp_path: Path) -> None:
    pts, base = constant(5, 25)
    big = write_video(tmp_path / "big.mp4", Recipe(pts, base, size=(800, 480)))
    with pytest.raises(MediaError, match="800×480 pixels are more than the limit"):
        open_source(patched_sample_entry(big, 160, 96), MediaLimits(max_pixels=200_000))
    small = write_video(tmp_path / "small.mp4", Recipe(pts, base))
    with open_source(patched_sample_entry(small, 60000, 60000)) as source:
        assert (source.info.width, source.info.height) == (160, 96)


def png(width: int, height: int) -> bytes:
    """A valid header for any size, with next to no pixels behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(("side", "problem"), [(40_000, "more pixels"), (9_500, "more"), (100, "cut off")])
def test_gigapixel_and_lying_images_cost_no_memory(side: int, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(png(side, side))
    before = psutil.Process().memory_info().rss
    with pytest.raises(MediaError, match=problem):
        open_source(path)
    assert psutil.Process().memory_info().rss - before < 32 * 1024**2


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("samples")
    pts, base = constant(6, 25)
    return {
        suffix: write_video(folder / f"s.{suffix}", Recipe(pts, base, codec=codec)).read_bytes()
        for suffix, codec in [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("ts", "libx264")]
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(["mp4", "mkv", "avi", "ts"]),
    hits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), max_size=8
    ),
    keep=st.floats(0, 1),
)
def test_no_damage_does_anything_but_refuse_or_read(
    suffix: str, hits: list[tuple[float, bytes]], keep: float, samples: dict[str, bytes], tmp_path: Path
) -> None:
    data = bytearray(samples[suffix])
    for place, noise in hits:
        start = int(place * len(data))
        data[start : start + len(noise)] = noise
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(data[: int(len(data) * keep)])
    try:
        source = open_source(path, MediaLimits(max_pixels=1_000_000, max_frames=1000))
    except MediaError:
        return
    with source:
        read = [index for index, frame in source.frames(0, len(source) - 1) if frame.ndim == 3]
        assert read == list(range(len(read)))
        assert len(read) == len(source) or source.warnings
