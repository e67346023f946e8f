"""Files that are not what they are called: scripts, playlists and formats that name other files."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable

from tests.hostile.items import NEITHER, NO_PICTURE, Item

PAGE = "is a web page"
EMPTY = r"is empty \(0 bytes\)|the file is empty"


def disguises(secret: str, canary: str) -> list[Item]:
    """Every file that is no media.

    Args:
        secret: path of a file that nobody may read: a playlist's way out.
        canary: address that nobody may ask.
    """
    playlists = {
        "ffconcat that names a file": f"ffconcat version 1.0\nfile '{secret}'\n",
        "ffconcat with an unsafe name": f"ffconcat version 1.0\nfile 'file:{secret}'\nduration 1\n",
        "ffconcat that names an address": f"ffconcat version 1.0\nfile '{canary}/clip.mp4'\n",
        "ffconcat behind a blank line": f"\nffconcat version 1.0\nfile '{secret}'\n",
        "m3u8 that names a file": f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "m3u8 that names an address": f"#EXTM3U\n#EXTINF:1,\n{canary}/a.ts\n#EXT-X-ENDLIST\n",
        "m3u8 with a key to fetch": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{canary}/k"\n#EXTINF:1,\nx\n',
        "m3u8 with a concat protocol": f"#EXTM3U\n#EXTINF:1,\nconcat:{canary}/a|file://{secret}\n",
        "m3u8 with subfile": f"#EXTM3U\n#EXTINF:1,\nsubfile,,start,0,end,64,,:{secret}\n",
        "pls": f"[playlist]\nFile1={canary}/a.mp4\nNumberOfEntries=1\n",
        "session description": f"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n{canary}",
        "image pattern": f"{secret}%03d.png",
        "mvg": f"push graphic-context\nimage over 0,0 0,0 '{canary}/x.png'\npop graphic-context\n",
        "postscript": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n",
        "pdf": f"%PDF-1.7\n1 0 obj <</S /URI /URI ({canary})>> endobj\n",
        "shell script": f"#!/bin/sh\ncat {secret}\n",
        "sami": f"\n{secret}\n",
        "json": f'{{"image": "{secret}"}}',
        "a path": secret,
        "an address": f"{canary}/clip.mp4",
        "rtf": f"{{\\rtf1 {{\\field{{\\*\\fldinst INCLUDEPICTURE {canary}}}}}}}",
    }
    pages = {
        "svg that names a file": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{secret}"/></svg>',
        "svg with an entity": f'<!DOCTYPE s [<!ENTITY x SYSTEM "file://{secret}">]><svg>&x;</svg>',
        "svg with a billion laughs": "<!DOCTYPE s [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]><svg>&b;</svg>",
        "web page": f'<html><img src="{canary}/x.png"></html>',
        "dash manifest": f'<?xml version="1.0"?><MPD><BaseURL>{canary}/</BaseURL></MPD>',
        "xspf": f"<playlist><track><location>file://{secret}</location></track></playlist>",
        "imf": f'<?xml version="1.0"?><CompositionPlaylist><Uri>{secret}</Uri></CompositionPlaylist>',
    }
    found = [Item(name, _text(text)) for name, text in playlists.items()]
    found += [Item(name, _text(text), PAGE, PAGE) for name, text in pages.items()]
    found += [Item(name, _bytes(data)) for name, data in FORMATS.items()]
    found += [
        Item("phone image of Apple", _bytes(b"\0\0\0\x18ftypheic" + bytes(99)), "HEIC", "HEIC", NO_PICTURE)
    ]
    found += [Item("avif", _bytes(b"\0\0\0\x18ftypavif" + bytes(99)), "AVIF", "AVIF", NO_PICTURE)]
    found += [Item("no byte at all", _bytes(b""), EMPTY, EMPTY, "expected base64|empty")]
    archives = {"zip": _zip, "tar": _tar, "gzip": _gzip, "pickle": _pickle}
    return found + [Item(name, make, NEITHER, NEITHER, NO_PICTURE) for name, make in archives.items()]


FORMATS: dict[str, bytes] = {
    "one byte": b"G",
    "a megabyte of zeros": bytes(2**20),
    "a megabyte of ones": b"\xff" * 2**20,
    "program": b"\x7fELF\x02\x01\x01" + bytes(99),
    "program of Windows": b"MZ" + bytes(99),
    "photoshop": b"8BPS\0\1" + bytes(99),
    "icon": b"\0\0\1\0\1\0" + bytes(99),
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(99),
    "mp3": b"ID3\x04" + bytes(99),
    "ogg": b"OggS" + bytes(99),
    "flv": b"FLV\1\5" + bytes(99),
    "asf": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(99),
    "mpeg program stream": b"\0\0\1\xba" + bytes(99),
    "raw h264": b"\0\0\0\1\x67\x42" + bytes(99),
    "yuv4mpeg": b"YUV4MPEG2 W9 H9 F25:1\nFRAME\n" + bytes(121),
    "nut": b"nut/multimedia container\0" + bytes(99),
    "text of UTF-16": "ffconcat version 1.0".encode("utf-16"),
    "one packet that may be transport": b"G" + bytes(187),
}


def _text(text: str) -> Callable[[], bytes]:
    return text.encode


def _bytes(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../clip.mp4", bytes(10**7))
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        link = tarfile.TarInfo("clip.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return file.getvalue()


def _gzip() -> bytes:
    return gzip.compress(bytes(10**7))


def _pickle() -> bytes:
    return pickle.dumps({"clip": bytes(99)})
