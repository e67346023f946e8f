"""Videos that lie, are cut off, or never end. Made from real ones by changing a few bytes of their boxes."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.hostile.items import READ, Item, film
from tests.video_fixtures import Recipe, constant, write_video

OPENED = "cannot be opened as a video"
NO_VIDEO = "has no video stream that can be decoded"
NO_FRAMES = "has no readable video frames"
FIRST = "the first frame is damaged or has more than"
BROKEN = f"{OPENED}|{NO_VIDEO}|{NO_FRAMES}|{FIRST}"
TOO_LARGE = f"pixels are more than the limit|{FIRST}"


@cache
def clip(suffix: str = "mp4", count: int = 10, **options: Any) -> bytes:
    """A real video of numbered frames."""
    pts, base = constant(count, 25)
    with tempfile.TemporaryDirectory() as folder:
        return write_video(Path(folder) / f"clip.{suffix}", Recipe(pts, base, **options)).read_bytes()


def sound() -> bytes:
    """An mp4 without pictures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.mp4"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("aac", rate=48000, layout="mono")
            block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            block.sample_rate = 48000
            out.mux(stream.encode(block))
            out.mux(stream.encode(None))
        return path.read_bytes()


def long_pause() -> bytes:
    """Two frames, eleven hours apart."""
    with tempfile.TemporaryDirectory() as folder:
        return write_video(Path(folder) / "a.mp4", Recipe([0, 40_000], Fraction(1))).read_bytes()


def box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2mp41")


def nested(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = box(b"moov", body) if len(body) < 2**20 else body
    return FTYP + body


def changed(kind: bytes, offset: int, new: bytes, suffix: str = "mp4") -> Callable[[], bytes]:
    """Bytes put over a box's body, counted from behind its name, wherever the name occurs."""

    def make() -> bytes:
        data, at = bytearray(clip(suffix)), -1
        assert kind in data, kind
        while (at := data.find(kind, at + 1)) >= 0:
            data[at + len(kind) + offset : at + len(kind) + offset + len(new)] = new
        return bytes(data)

    return make


def external(name: str) -> Callable[[], bytes]:
    """An mp4 whose samples lie in another file, as an alias of QuickTime names it."""

    def make() -> bytes:
        data = clip()
        at = data.index(b"url ") - 4
        path = name.encode()
        volume, leaf = bytes([4]) + b"disk".ljust(27, b"\0"), bytes([4]) + b"clip".ljust(63, b"\0")
        record = bytes(6) + bytes(4) + volume + bytes(12) + leaf + bytes(16) + bytes(4) + bytes(16)
        record += struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">Hh", 0, -1)
        alias = box(b"alis", bytes(4) + record.ljust(160, b"\0"))
        grown = bytearray(data[:at] + alias + data[at + 12 :])
        for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
            place = grown.index(kind) - 4
            size = struct.unpack_from(">I", grown, place)[0]
            struct.pack_into(">I", grown, place, size + len(alias) - 12)
        return bytes(grown)

    return make


def ebml(*elements: bytes) -> bytes:
    return b"\x1aE\xdf\xa3\x84\x42\x82\x81m" + b"".join(elements)


def cut(keep: float, suffix: str = "mp4", **options: Any) -> Callable[[], bytes]:
    return lambda: clip(suffix, **options)[: max(9, int(len(clip(suffix, **options)) * keep))]


def holed(suffix: str) -> Callable[[], bytes]:
    """A container whose frames are noise, behind a header that is right."""

    def make() -> bytes:
        data = clip(suffix)
        start = data.index(b"mdat") + 4 if suffix == "mp4" else len(data) // 4
        size = struct.unpack(">I", data[start - 8 : start - 4])[0] - 8 if suffix == "mp4" else len(data) // 2
        noise = np.random.default_rng(0).bytes(size)
        return data[:start] + noise + data[start + size :]

    return make


def videos(secret: str) -> list[Item]:
    """Every hostile video."""
    huge = struct.pack(">HH", 65_535, 65_535)
    return [
        film("mp4 of brand alone", lambda: FTYP, BROKEN),
        film("mp4 without movie box", lambda: FTYP + box(b"mdat", bytes(999)), BROKEN),
        film("mp4 of an empty movie", lambda: FTYP + box(b"moov"), BROKEN),
        film("mp4 whose movie box is endless", lambda: FTYP + b"\xff\xff\xff\xffmoov" + bytes(99), BROKEN),
        film("mp4 whose box is smaller than itself", lambda: FTYP + b"\0\0\0\4moov" + bytes(99), BROKEN),
        film("mp4 of 10,000 nested boxes", lambda: nested(10_000), BROKEN),
        film("mp4 of sound alone", sound, BROKEN),
        film("mp4 cut off in its first box", cut(0.002), BROKEN),
        film("mp4 cut off before its index", cut(0.5), BROKEN),
        film("mp4 whose index is cut off", lambda: clip()[:-400], BROKEN),
        film("mp4 of noise", holed("mp4"), BROKEN),
        film("mp4 of an unknown codec", lambda: clip().replace(b"avc1", b"xyz1"), BROKEN),
        film("mp4 of 65,535²", changed(b"avc1", 24, huge), READ),
        film("mp4 of 2³² samples", changed(b"stsz", 8, b"\xff\xff\xff\xff"), BROKEN),
        film("mp4 of 2³² times", changed(b"stts", 4, b"\xff\xff\xff\xff"), BROKEN),
        film("mp4 of 2³² chunks", changed(b"stco", 4, b"\xff\xff\xff\xff"), READ),
        film("mp4 whose chunks lie behind its end", changed(b"stco", 8, b"\x7f\xff\xff\xff"), BROKEN),
        film("mp4 whose chunks are all the first", changed(b"stsc", 4, b"\xff\xff\xff\xff"), BROKEN),
        film("mp4 of a clock that does not tick", changed(b"mdhd", 12, bytes(4)), BROKEN),
        film("mp4 without track header", lambda: clip().replace(b"tkhd", b"free"), READ),
        film("mp4 without sample descriptions", lambda: clip().replace(b"stsd", b"free"), BROKEN),
        film("mp4 whose samples are another file's", external(secret), BROKEN),
        film("mp4 that is a film of 11 hours", long_pause, "are more than the limit of"),
        film("mp4 of too many frames", lambda: clip(count=260, size=(32, 32)), "more frames than the limit"),
        film("mp4 of too large frames", lambda: clip(count=2, size=(1200, 1000)), TOO_LARGE),
        Item(
            "file of more bytes than this server takes",
            lambda: FTYP + bytes(5 * 2**20),
            *3 * ("bytes are more",),
        ),
        film("matroska of header alone", ebml, BROKEN),
        film("matroska of an endless segment", lambda: ebml(b"\x18\x53\x80\x67\x01" + b"\xff" * 7), BROKEN),
        film("matroska of a petabyte", lambda: ebml(b"\x18\x53\x80\x67\x01\0\4\0\0\0\0\0"), BROKEN),
        film("matroska of nested clusters", lambda: ebml(b"\x1f\x43\xb6\x75\x88" * 9999), BROKEN),
        film("matroska cut off in its tracks", cut(0.05, "mkv"), BROKEN),
        film(
            "matroska of an unknown codec",
            lambda: clip("mkv").replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/XXX"),
            BROKEN,
        ),
        film("webm of noise", holed("mkv"), BROKEN),
        film("avi of header alone", lambda: b"RIFF\xff\xff\xff\x7fAVI LIST", BROKEN),
        film("avi without frames", cut(0.1, "avi", codec="mpeg4"), BROKEN),
        film("avi of an unknown codec", lambda: clip("avi", codec="mpeg4").replace(b"FMP4", b"XYZ9"), BROKEN),
        film("avi of 2³¹ columns", changed(b"strf", 8, b"\xff\xff\xff\x7f\xff\xff\xff\x7f", "avi"), READ),
        film("transport stream of padding", lambda: (b"G\x1f\xff\x10" + b"\xff" * 184) * 500, BROKEN),
        film("transport stream of noise", _noisy_transport, BROKEN),
        film("transport stream whose clock jumps back", lambda: clip("ts", 100) * 2, "clock jumps back"),
        Item("transport stream cut off in its tables", cut(0.01, "ts")),
        film("quicktime that is a reference", _reference_movie(secret), BROKEN),
        film("jpeg in an mp4's clothes", lambda: box(b"free") + b"\xff\xd8\xff" + bytes(99), BROKEN),
        film(
            "ffconcat in an mp4's clothes",
            lambda: _clothed(f"ffconcat version 1.0\nfile '{secret}'\n"),
            BROKEN,
        ),
        film("m3u8 in an mp4's clothes", lambda: _clothed(f"#EXTM3U\n#EXTINF:1,\n{secret}\n"), BROKEN),
        film("m3u8 in a matroska's clothes", lambda: b"\x1aE\xdf\xa3\n#EXTM3U\n" + secret.encode(), BROKEN),
    ]


def _noisy_transport() -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (400, 188), dtype=np.uint8)
    noise[:, 0] = 0x47
    return noise.tobytes()


def _reference_movie(name: str) -> Callable[[], bytes]:
    """QuickTime's movies may say: my content is over there."""
    address = f"file://{name}".encode()
    data = box(b"rdrf", b"\0\0\0\0url " + struct.pack(">I", len(address)) + address)
    return lambda: box(b"ftyp", b"qt  \0\0\2\0qt  ") + box(b"moov", box(b"rmra", box(b"rmda", data)))


def _clothed(text: str) -> bytes:
    """A playlist behind eight bytes that look like a box."""
    return b"\0\0\0\x08ftyp" + text.encode()
