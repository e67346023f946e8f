"""Images that lie, are cut off, or would fill the memory."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile.items import READ, Item, picture

DAMAGED = "damaged"
TOO_LARGE = r"pixels are more than the limit|more pixels than can be held|too large"
EMPTY = "has no pixels|damaged|not an image of a known format"
UNKNOWN = "not an image of a known format"
BROKEN = f"{DAMAGED}|{UNKNOWN}"
SIDE = 50_000


def encoded(name: str, side: int = 40, mode: str = "RGB", **options: Any) -> bytes:
    """A real image in a format."""
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, name, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    checked = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checked)


def png(
    width: int = 8,
    height: int = 8,
    depth: int = 8,
    colour: int = 2,
    before: bytes = b"",
    body: bytes | None = None,
    interlace: int = 0,
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    rows = zlib.compress(bytes(25 * 8)) if body is None else body
    data = chunk(b"IDAT", rows) if rows else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + data + chunk(b"IEND", b"")


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def jpeg_of_size(width: int, height: int) -> bytes:
    data = encoded("JPEG")
    at = data.index(b"\xff\xc0") + 5
    return patched(data, at, struct.pack(">HH", height, width))


def gif_of_size(width: int, height: int) -> bytes:
    return patched(encoded("GIF"), 6, struct.pack("<HH", width, height))


def bmp_of_size(width: int, height: int) -> bytes:
    return patched(encoded("BMP"), 18, struct.pack("<ii", width, height))


def webp_canvas(width: int, height: int) -> bytes:
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(*tags: tuple[int, int, int, int], following: int = 0) -> bytes:
    """Little-endian, one directory of (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following)


def grey_tiff(width: int, height: int, compression: int = 1, offset: int = 8, bits: int = 8) -> bytes:
    strip = ((273, 4, 1, offset), (278, 4, 1, height), (279, 4, 1, width * height % 2**32))
    facts = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, compression))
    return tiff(*facts, (262, 3, 1, 1), *strip)


def float_tiff() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((40, 40), np.nan, np.float32)).save(file, "TIFF")
    return file.getvalue()


def cut(name: str, keep: float, **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        data = encoded(name, 120, **options)
        return data[: max(1, int(len(data) * keep))]

    return make


def holed(name: str) -> Callable[[], bytes]:
    """Zeros over the middle half."""

    def make() -> bytes:
        data = encoded(name, 120)
        quarter = len(data) // 4
        return data[:quarter] + bytes(2 * quarter) + data[3 * quarter :]

    return make


def images() -> list[Item]:
    """Every hostile image."""
    sizes: list[tuple[str, Callable[[], bytes], str]] = [
        ("png of 50,000²", lambda: png(SIDE, SIDE), TOO_LARGE),
        ("png of 2³¹-1 columns", lambda: png(2**31 - 1, 2**31 - 1), TOO_LARGE),
        ("png of 2³² columns", lambda: png(2**32 - 1, 1), f"{TOO_LARGE}|{BROKEN}"),
        ("png of no columns", lambda: png(0, 8), EMPTY),
        ("jpeg of 65,500²", lambda: jpeg_of_size(65_500, 65_500), TOO_LARGE),
        ("jpeg of no rows", lambda: jpeg_of_size(40, 0), EMPTY),
        ("gif of 65,535²", lambda: gif_of_size(65_535, 65_535), TOO_LARGE),
        ("gif whose frame has no rows", lambda: patched(encoded("GIF"), 787, bytes(2)), f"{EMPTY}|^$"),
        ("bmp of 40,000²", lambda: bmp_of_size(40_000, 40_000), TOO_LARGE),
        ("bmp of minus one column", lambda: bmp_of_size(-1, 40), f"{EMPTY}|{TOO_LARGE}"),
        ("webp canvas of 16,384²", lambda: webp_canvas(16_384, 16_384), f"{TOO_LARGE}|{BROKEN}"),
        ("ppm of a billion columns", lambda: b"P6 1000000000 1000000000 255\n" + bytes(99), TOO_LARGE),
        ("ppm of no columns", lambda: b"P6 0 0 255\n", EMPTY),
        ("pgm of 10³⁰ columns", lambda: b"P5 " + b"9" * 30 + b" 9 255\n", f"{TOO_LARGE}|{BROKEN}"),
        ("tiff of 50,000²", lambda: grey_tiff(SIDE, SIDE), TOO_LARGE),
        ("tiff of 2³² columns", lambda: grey_tiff(2**32 - 1, 2), f"{TOO_LARGE}|{BROKEN}"),
        ("png of more pixels than this server takes", lambda: encoded("PNG", 1100), TOO_LARGE),
    ]
    lies: list[tuple[str, Callable[[], bytes], str]] = [
        ("png that promises more rows", lambda: png(100, 900), DAMAGED),
        ("png without data", lambda: png(body=b""), BROKEN),
        ("png whose data is no deflate", lambda: png(body=b"not zlib at all"), BROKEN),
        ("png with a wrong sum", lambda: patched(encoded("PNG"), 29, b"\0\0\0\0"), BROKEN),
        ("png of depth 7", lambda: png(depth=7), BROKEN),
        ("png of colour type 9", lambda: png(colour=9), BROKEN),
        ("png with a chunk of 2³¹ bytes", lambda: png(before=b"\x7f\xff\xff\xfftEXtk\0"), BROKEN),
        ("png with 100 MB of text", lambda: png(before=chunk(b"zTXt", b"k\0\0" + bomb())), BROKEN),
        ("png with 100 MB of profile", lambda: png(before=chunk(b"iCCP", b"k\0\0" + bomb())), f"{BROKEN}|^$"),
        ("png of signature alone", lambda: b"\x89PNG\r\n\x1a\n", BROKEN),
        ("jpeg of start alone", lambda: b"\xff\xd8\xff", BROKEN),
        ("jpeg without tables", lambda: encoded("JPEG").replace(b"\xff\xdb", b"\xff\xfe"), BROKEN),
        ("jpeg with a segment of 64 kB that is not there", lambda: b"\xff\xd8\xff\xe0\xff\xff", BROKEN),
        ("jpeg of 5 components", lambda: _components(5), BROKEN),
        ("gif of header alone", lambda: b"GIF89a", BROKEN),
        ("gif without frames", lambda: encoded("GIF")[:13] + b";", BROKEN),
        ("gif whose codes are noise", lambda: encoded("GIF")[:820] + b"\xff" * 400 + b"\0;", BROKEN),
        ("bmp of header alone", lambda: b"BM" + bytes(10), BROKEN),
        (
            "bmp whose data lies behind its end",
            lambda: patched(encoded("BMP"), 10, b"\xff\xff\xff\x7f"),
            BROKEN,
        ),
        ("bmp of 3 bits", lambda: patched(encoded("BMP"), 28, b"\3\0"), BROKEN),
        ("tiff of header alone", lambda: b"II*\0", BROKEN),
        ("tiff whose directory is itself", lambda: tiff((256, 4, 1, 8), following=8), BROKEN),
        ("tiff whose directory lies behind its end", lambda: b"MM\0*\x7f\xff\xff\xff", BROKEN),
        ("tiff with a tag of 2³² values", lambda: tiff((256, 4, 2**32 - 1, 8)), BROKEN),
        ("tiff whose strip lies behind its end", lambda: grey_tiff(40, 40, offset=2**31), BROKEN),
        ("tiff of unknown compression", lambda: grey_tiff(40, 40, compression=60_000), BROKEN),
        ("tiff of 7 bits", lambda: grey_tiff(40, 40, bits=7), BROKEN),
        ("webp of header alone", lambda: b"RIFF\x04\0\0\0WEBP", BROKEN),
        (
            "webp that says it is longer",
            lambda: patched(encoded("WEBP"), 4, b"\xff\xff\xff\x7f"),
            f"{BROKEN}|^$",
        ),
        ("webp whose frame is noise", lambda: encoded("WEBP")[:30] + b"\xff" * 200, BROKEN),
        ("ppm of letters", lambda: b"P6 many rows 255\n", BROKEN),
        ("ppm of maximum 0", lambda: b"P6 4 4 0\n" + bytes(48), BROKEN),
        ("ppm of maximum 10⁹", lambda: b"P6 4 4 1000000000\n" + bytes(96), BROKEN),
        ("ppm with too few samples", lambda: b"P6 40 40 255\n" + bytes(9), BROKEN),
        ("pbm of one endless number", lambda: b"P1 " + b"1" * 100_000, BROKEN),
    ]
    torn = [
        picture(f"{name} cut off after {keep:.0%}", cut(name, keep), BROKEN)
        for name in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
        for keep in (0.02, 0.6)
    ]
    torn += [picture(f"{name} with a hole", holed(name), BROKEN) for name in ("PNG",)]
    found = [picture(*entry) for entry in sizes + lies] + torn
    return [*found, picture("tiff of numbers that are none", float_tiff, "floating-point", cvat=READ)]


def bomb(megabytes: int = 100) -> bytes:
    """Zeros that pack into a thousandth."""
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    return b"".join(packer.compress(block) for _ in range(megabytes)) + packer.flush()


def _components(count: int) -> bytes:
    data = encoded("JPEG")
    return patched(data, data.index(b"\xff\xc0") + 9, bytes([count]))
