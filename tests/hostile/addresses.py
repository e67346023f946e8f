"""Addresses that lead where nobody may go, or to servers that misbehave; and why each is refused."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.backend.web_fixtures import Answer, Route, WebServer

# Which limit ends a slow server first depends on how busy this machine is.
SLOW = "took more than|gave no answer in time|timed out|stalled"

LOOPBACK, PRIVATE, LOCAL = "a loopback address", "a private address", "a link-local address"
CARRYING, RESERVED = "an IPv4-carrying address", "a reserved address"
FORM = "IPv4 address in its usual form"
SCHEME = "addresses are not supported|no such file below|expected http or https"
PLAIN = "without user name, backslash or percent sign"
NO_URL = "not a URL|expected a host name|not an IPv6 address|not a host name|expected http or https"
REDIRECT = "redirects to what is no plain http or https URL"
PUBLIC = "1.1.1.1"  # any: nobody there answers on a port of ours


@dataclass(frozen=True)
class Address:
    """A task's value, and the regular expression that its refusal must match."""

    value: str
    why: str


def names() -> dict[str, Sequence[Sequence[str]]]:
    """Names whose owners mean no good, by the answers of `hooked`."""
    return {
        "metadata.test": [["169.254.169.254"]],
        "inside.test": [["127.0.0.1"]],
        "six.test": [["::1"]],
        "mapped.test": [["::ffff:127.0.0.1"]],
        "mixed.test": [["10.0.0.1", "127.0.0.1"]],
        "rebind.test": [[PUBLIC], ["127.0.0.1"]],
        "rebind-at-once.test": [["127.0.0.1"], [PUBLIC]],
        "nowhere.test": [[]],
    }


def addresses(web: WebServer, studio: WebServer, canary: WebServer, secret: Path) -> list[Address]:
    """Every address.

    Args:
        web: a server that may be asked.
        studio: Label Studio's, which gets the token.
        canary: a server of this machine that nobody may ask.
        secret: a file that nobody may read.
    """
    port = canary.port
    found = [
        *_forms(port),
        *_schemes(port, secret),
        *_confusing(web, port),
        *_redirects(web, studio, canary, secret),
        *_misbehaving(web),
        *_label_studio(studio),
        *_places(secret),
    ]
    return [Address(value, why) for value, why in found]


def _forms(port: int) -> list[tuple[str, str]]:
    """One address of this machine or network, written in every way."""
    hosts = {
        **dict.fromkeys(
            ("127.0.0.1", "localhost", "127.0.0.1.", "127.9.9.9", "[::1]", "LOCALHOST"), LOOPBACK
        ),
        **dict.fromkeys(("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]"), CARRYING),
        **dict.fromkeys(("[2002:7f00:1::]", "[::ffff:a9fe:a9fe]"), CARRYING),
        **dict.fromkeys(
            ("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "0x7f.1", "017700000001"), FORM
        ),
        **dict.fromkeys(("①②⑦.⓪.⓪.①", "127。0。0。1"), LOOPBACK),
        **dict.fromkeys(
            ("10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "198.18.0.1", "[fc00::1]"), PRIVATE
        ),
        **dict.fromkeys(("169.254.169.254", "[fe80::1]"), LOCAL),
        **dict.fromkeys(("0.0.0.0", "[::]"), "an unspecified address"),
        **dict.fromkeys(("224.0.0.1", "[ff02::1]"), "a multicast address"),
        **dict.fromkeys(("255.255.255.255", "192.0.2.1", "[2001:db8::1]", "[2001::1]", "[100::1]"), RESERVED),
        "metadata.test": LOCAL,
        "inside.test": LOOPBACK,
        "six.test": LOOPBACK,
        "mapped.test": CARRYING,
        "mixed.test": PRIVATE,
        "rebind.test": "cannot be reached|gave no answer",
        "rebind-at-once.test": f"{LOOPBACK}|cannot be reached|gave no answer",  # each door asks once
        "nowhere.test": "cannot be found",
    }
    return [(f"http://{host}:{port}/clip.mp4", why) for host, why in hosts.items()]


def _schemes(port: int, secret: Path) -> list[tuple[str, str]]:
    values = [
        *(f"file://{secret}", f"file:{secret}", f"FILE://{secret}", f"file://localhost{secret}"),
        *(f"gopher://127.0.0.1:{port}/_GET", f"ftp://127.0.0.1:{port}/a", f"dict://127.0.0.1:{port}/x"),
        *(f"rtsp://127.0.0.1:{port}/a", f"rtmp://127.0.0.1:{port}/a", f"tcp://127.0.0.1:{port}"),
        *(f"concat:{secret}", f"subfile,,start,0,end,9,,:{secret}", "pipe:0", f"cache:{secret}"),
        *(f"jar:http://127.0.0.1:{port}/a!/b", f"crypto:{secret}", "lavfi:testsrc", f"unix:{secret}"),
    ]
    data = [
        ("data:text/html,<script>", "is a web page"),
        ("data:video/mp4;base64,AAAAIGZ0eXBpc29t", "videos inside a data URI"),
        ("data:image/png;base64,!!", "not a data URI that can be decoded"),
        (
            "data:image/png;base64," + "A" * (6 << 20),
            "expected an image|is neither|bytes are more|not a data URI",
        ),
    ]
    return [(value, SCHEME) for value in values] + data


def _confusing(web: WebServer, port: int) -> list[tuple[str, str]]:
    """What two parsers read differently."""
    good, bad = f"127.0.0.1:{web.port}", f"127.0.0.1:{port}"
    return [
        (f"http://user:secret@{good}/ok.png", PLAIN),
        (f"http://{good}@{bad}/clip.mp4", PLAIN),
        (f"http://{good}\\@{bad}/clip.mp4", PLAIN),
        (f"http://{good}%40{bad}/clip.mp4", f"{PLAIN}|not a URL"),
        (f"http://{bad}%00.example.org/", f"{PLAIN}|not a URL"),
        ("http://[fe80::1%25eth0]/a", PLAIN),
        (f"http://{good}#@{bad}/clip.mp4", r"is not there \(404\)"),
        (f"http://{good}/clip.mp4\r\nHost: {bad}", "control characters"),
        (f"http://{good}/\0", "control characters|expected the address"),
        *(
            (url, NO_URL)
            for url in (
                "http:///clip.mp4",
                "http://",
                "http://[::1",
                "http://a b/c",
                "http://-/",
                "http://*/",
            )
        ),
        *(
            (url, NO_URL)
            for url in ("http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "http://127.0.0.1:a/")
        ),
        (f"http:{bad}/clip.mp4", NO_URL),
        (f"https://{good}/clip.mp4", "speaks no TLS"),
        (f"http://{'a' * 300}.test/", "cannot be found|not a host name|expected a host name"),
        (f"http://{good}/{'a' * 70_000}", "gave no answer|answered 4|is not there"),
    ]


def _redirects(web: WebServer, studio: WebServer, canary: WebServer, secret: Path) -> list[tuple[str, str]]:
    there = f"{canary.url}/clip.mp4"
    targets: dict[str, tuple[str, str]] = {
        **{f"/to-{status}": (there, LOOPBACK) for status in (301, 302, 303, 307, 308)},
        "/to-metadata": ("http://169.254.169.254/latest/meta-data/", LOCAL),
        "/to-name": (f"http://inside.test:{canary.port}/clip.mp4", LOOPBACK),
        "/to-relative": (f"//127.0.0.1:{canary.port}/clip.mp4", LOOPBACK),
        "/to-file": (f"file://{secret}", REDIRECT),
        "/to-gopher": (f"gopher://127.0.0.1:{canary.port}/_x", REDIRECT),
        "/to-decimal": (f"http://2130706433:{canary.port}/", REDIRECT),
        "/to-user": (f"http://a:b@127.0.0.1:{canary.port}/", REDIRECT),
        "/to-nothing": ("http://[", REDIRECT),
        "/to-itself": ("/to-itself", "redirects more than 5 times"),
        "/to-chain": ("/to-302", LOOPBACK),
    }
    for path, (target, _) in targets.items():
        status = int(path[4:]) if path[4:].isdigit() else 302
        web.routes[path] = Answer(status=status, headers={"Location": target})
    studio.routes["/data/upload/1/to-canary.mp4"] = Answer(status=302, headers={"Location": there})
    studio.routes["/data/upload/1/to-web.mp4"] = Answer(
        status=302, headers={"Location": f"{web.url}/nothing"}
    )
    return [
        *((web.url + path, why) for path, (_, why) in targets.items()),
        ("/data/upload/1/to-canary.mp4", LOOPBACK),
        (f"{studio.url}/data/upload/1/to-canary.mp4?again", LOOPBACK),
        ("/data/upload/1/to-web.mp4", r"is not there \(404\)"),
    ]


def _misbehaving(web: WebServer) -> list[tuple[str, str]]:
    """Servers that may be asked, and answer as they should not."""
    body = b"\0\0\0\x20ftypisom" + bytes(5000)
    routes: dict[str, tuple[Route, str]] = {
        "/huge": (Answer(body, declared=10 * 2**30), "more than the limit of"),
        "/endless": (Answer(body * 2000, declared=-1), "more than the limit of"),
        "/drip": (Answer(body * 3, pause_s=0.6), SLOW),
        "/stall": (Answer(body, pause_s=30), SLOW),
        "/silent": (_sleeping, SLOW),
        "/cut": (Answer(body, cut=100), "was cut off|bytes are missing"),
        "/long": (Answer(body, declared=len(body) + 9), "was cut off|bytes are missing"),
        "/gzip": (Answer(body, headers={"Content-Encoding": "gzip"}), "comes compressed"),
        "/page": (Answer(b"<!doctype html><title>Sign in</title>"), "is a web page"),
        "/nothing-in-it": (Answer(b""), r"is empty \(0 bytes\)|the file is empty"),
        "/playlist.mp4": (Answer(b"#EXTM3U\n"), "is neither an image nor a video"),
        **{f"/{n}": (Answer(b"no", n), f"answered {n}") for n in (204, 206, 304, 418, 500, 503)},
        **{f"/{n}": (Answer(b"no", n), rf"may not be read \({n}\)") for n in (401, 403)},
        "/404": (Answer(b"no", 404), r"is not there \(404\)"),
        "/no-target": (Answer(status=302), "answered 302"),
    }
    web.routes.update({path: route for path, (route, _) in routes.items()})
    return [(web.url + path, why) for path, (_, why) in routes.items()]


def _sleeping(_asked: object) -> Answer:
    time.sleep(5)
    return Answer(b"late")


def _label_studio(studio: WebServer) -> list[tuple[str, str]]:
    """Paths of Label Studio that are none of media, and ways out of its folders."""
    return [
        ("/api/current-user/token", "no such file below"),
        ("/data/../api/users", "no such file below"),
        ("/data/local-files/?d=../../../../etc/passwd", r"is not there \(404\)"),
        ("/data/upload/../../api/users", r"is not there \(404\)|no such file below"),
        ("/tasks/1/delete/?x", "no such file below"),
        (f"{studio.url}/api/users", r"is not there \(404\)"),
        ("s3://bucket/clip.mp4", r"is not there \(404\)"),
    ]


def _places(secret: Path) -> list[tuple[str, str]]:
    """Names of files outside the roots, by themselves or through links that lie in them."""
    nothing = "no such file below EDGETAM_MEDIA_ROOTS"
    values = [
        *(str(secret), f"../{secret.parent.name}/{secret.name}", "link.mp4", "folder/clip.mp4", "loop.mp4"),
        *("pipe.mp4", "zero.mp4", "socket.mp4", ".", "..", "dangling.mp4", "a" * 5000, "/etc/passwd"),
        *(
            "/proc/self/environ",
            "/dev/zero",
            "//etc/passwd",
            "C:\\Windows\\win.ini",
            "~/clip.mp4",
            "%2e%2e/clip.mp4",
        ),
        *("folder", "\\\\host\\share\\clip.mp4", "clip\n.mp4"),
    ]
    return [(value, nothing) for value in values]


def sent_tokens(servers: Mapping[str, WebServer]) -> list[str]:
    """Requests that carried credentials, by server."""
    return [
        f"{name} {asked.path}"
        for name, server in servers.items()
        for asked in server.asked
        if "Authorization" in asked.headers
    ]
