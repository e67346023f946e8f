"""Fetching from servers that lie, stall, redirect and break off; and who gets to see the token."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import cast

import pytest

from backend.addresses import AddressPolicy, AllowedHost, Origin, parse_url
from backend.fetching import Credentials, Fetcher, FetchError, FetchLimits, Request
from backend.settings import Settings
from edgetam_model import MediaError
from tests.backend.web_fixtures import Answer, Asked, WebServer, local_fetcher, serving

CONTENT = bytes(range(256)) * 40  # 10 kB, no two neighbouring bytes alike
TOKEN = "Token hunter2"


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@pytest.fixture
def other() -> Iterator[WebServer]:
    with serving() as server:
        yield server


def fetch(fetcher: Fetcher, url: str, credentials: Credentials | None = None) -> bytes:
    file = io.BytesIO()
    request = Request(parse_url(url), credentials=credentials)
    with fetcher.open(request) as response:
        assert response.status == 200
        fetcher.save(request, response, file)
    return file.getvalue()


def credentials(web: WebServer) -> Credentials:
    return Credentials(parse_url(web.url).origin, TOKEN)


def redirect(to: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"Location": to})


def test_a_file_arrives_as_it_is(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # would refuse the connection
    web.routes["/a b.mp4"] = Answer(CONTENT)  # as the path is written in the request
    web.routes["/a%20b.mp4"] = Answer(CONTENT)
    assert fetch(local_fetcher(web), f"{web.url}/a b.mp4?x=1") == CONTENT
    assert web.paths() == ["/a%20b.mp4?x=1"]
    assert web.asked[0].headers["Host"] == f"127.0.0.1:{web.port}"
    assert "Authorization" not in web.asked[0].headers


def test_the_connection_goes_to_the_address_that_was_checked(web: WebServer) -> None:
    """Rebinding: the name leads elsewhere the second time it is looked up, so there is no second time."""
    answers = iter([["127.0.0.1"], ["192.0.2.1"]])
    policy = AddressPolicy([AllowedHost("rebind.test", web.port)], lambda host, port: next(answers))
    web.routes["/x"] = Answer(CONTENT)
    assert fetch(Fetcher(policy), f"http://rebind.test:{web.port}/x") == CONTENT
    assert web.asked[0].headers["Host"] == f"rebind.test:{web.port}"
    assert list(answers) == [["192.0.2.1"]]


def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(web: WebServer) -> None:
    fetcher = Fetcher(AddressPolicy(resolve=lambda host, port: ["127.0.0.1"]))
    with pytest.raises(FetchError, match="loopback"):
        fetch(fetcher, f"http://public.test:{web.port}/x")
    assert not web.asked


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_inside_is_refused(web: WebServer, other: WebServer, status: int) -> None:
    web.routes["/x"] = redirect(f"{other.url}/secret", status)
    other.routes["/secret"] = Answer(b"secret")
    with pytest.raises(FetchError, match="loopback"):
        fetch(local_fetcher(web), f"{web.url}/x")
    assert not other.asked


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.org/x", "http://2130706433/", "http://["]
)
def test_a_redirect_to_what_is_no_plain_url_is_refused(web: WebServer, target: str) -> None:
    web.routes["/x"] = redirect(target)
    with pytest.raises(FetchError, match="redirects to"):
        fetch(local_fetcher(web), f"{web.url}/x")


def test_a_chain_of_five_redirects_is_followed_and_no_more(web: WebServer) -> None:
    for step in range(6):
        web.routes[f"/{step}"] = redirect(f"/{step + 1}")
    web.routes["/6"] = Answer(CONTENT)
    assert fetch(local_fetcher(web), f"{web.url}/1") == CONTENT
    with pytest.raises(FetchError, match="more than 5"):
        fetch(local_fetcher(web), f"{web.url}/0")


def test_the_token_goes_to_its_origin_only(web: WebServer, other: WebServer) -> None:
    web.routes["/x"] = redirect("/y")
    web.routes["/y"] = redirect(f"{other.url}/z")
    other.routes["/z"] = redirect(f"{web.url}/back")
    web.routes["/back"] = Answer(CONTENT)
    assert fetch(local_fetcher(web, other), f"{web.url}/x", credentials(web)) == CONTENT
    sent = [(asked.path, asked.headers.get("Authorization")) for asked in web.asked + other.asked]
    assert sent == [("/x", TOKEN), ("/y", TOKEN), ("/back", None), ("/z", None)]


def test_another_port_of_the_same_host_is_another_origin(web: WebServer, other: WebServer) -> None:
    other.routes["/x"] = Answer(CONTENT)
    fetch(local_fetcher(web, other), f"{other.url}/x", credentials(web))
    assert "Authorization" not in other.asked[0].headers


def test_credentials_and_signatures_are_not_printed(web: WebServer) -> None:
    request = Request(
        parse_url(f"{web.url}/x?signature=hunter2"), body=b"hunter2", credentials=credentials(web)
    )
    assert "hunter2" not in repr(request)
    with pytest.raises(FetchError) as caught, local_fetcher().open(request):
        pass
    assert "hunter2" not in str(caught.value)


def test_a_post_is_not_redirected(web: WebServer) -> None:
    web.routes["/x"] = redirect("/y", 307)
    with local_fetcher(web).open(Request(parse_url(f"{web.url}/x"), "POST", body=b"{}")) as response:
        assert response.status == 307
    assert web.paths() == ["/x"]


@pytest.mark.parametrize("declared", [None, -1])
def test_a_file_over_the_limit_is_refused(web: WebServer, declared: int | None) -> None:
    web.routes["/x"] = Answer(CONTENT, declared=declared)
    with pytest.raises(FetchError, match="more than the limit of 9,999 bytes"):
        fetch(local_fetcher(web, limits=FetchLimits(9_999)), f"{web.url}/x")
    assert fetch(local_fetcher(web, limits=FetchLimits(len(CONTENT))), f"{web.url}/x") == CONTENT


def test_a_length_that_promises_too_much_is_a_cut(web: WebServer) -> None:
    web.routes["/x"] = Answer(CONTENT, declared=len(CONTENT) + 1)
    with pytest.raises(FetchError, match="1 bytes are missing") as caught:
        fetch(local_fetcher(web), f"{web.url}/x")
    assert caught.value.cut_off


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_a_compressed_body_is_refused(web: WebServer, encoding: str) -> None:
    web.routes["/x"] = Answer(CONTENT, headers={"Content-Encoding": encoding})
    with pytest.raises(FetchError, match="compressed"):
        fetch(local_fetcher(web), f"{web.url}/x")
    assert web.asked[0].headers["Accept-Encoding"] == "identity"


def cut_once(tags: tuple[str, str], part: int | None = None) -> Iterator[Answer]:
    yield Answer(CONTENT, headers={"ETag": tags[0]}, cut=3000)
    while True:
        yield Answer(CONTENT, headers={"ETag": tags[1]}, ranges=True, part=part)


@pytest.mark.parametrize("part", [None, 1000])
def test_a_cut_connection_is_taken_up_where_the_server_gives_ranges(web: WebServer, part: int | None) -> None:
    answers = cut_once(('W/"1"', 'W/"1"'), part)
    web.routes["/x"] = lambda asked: next(answers)
    assert fetch(local_fetcher(web), f"{web.url}/x", credentials(web)) == CONTENT
    assert web.asked[1].headers["Range"] == "bytes=3000-"
    assert len(web.asked) == (2 if part is None else 9)
    assert all(asked.headers["Authorization"] == TOKEN for asked in web.asked)


def test_a_file_that_changed_meanwhile_is_not_patched_together(web: WebServer) -> None:
    answers = cut_once(('"1"', '"2"'))
    web.routes["/x"] = lambda asked: next(answers)
    with pytest.raises(FetchError, match="cannot be continued"):
        fetch(local_fetcher(web), f"{web.url}/x")


def test_a_part_that_is_too_long_is_refused(web: WebServer) -> None:
    headers = {"ETag": '"1"', "Content-Range": f"bytes 3000-{len(CONTENT) - 1}/{len(CONTENT)}"}
    answers = iter([Answer(CONTENT, headers={"ETag": '"1"'}, cut=3000), Answer(CONTENT, 206, headers)])
    web.routes["/x"] = lambda asked: next(answers)
    with pytest.raises(FetchError, match="more than the 10,240 bytes it announced"):
        fetch(local_fetcher(web), f"{web.url}/x")


def test_without_ranges_or_version_a_cut_is_final(web: WebServer) -> None:
    web.routes["/plain"] = Answer(CONTENT, cut=3000)
    web.routes["/tagged"] = Answer(CONTENT, cut=3000, headers={"ETag": '"1"'})
    for name, requests in (("plain", 1), ("tagged", 2)):
        web.asked.clear()
        with pytest.raises(FetchError) as caught:
            fetch(local_fetcher(web), f"{web.url}/{name}")
        assert caught.value.cut_off
        assert len(web.asked) == requests


def test_a_body_that_stalls_is_given_up(web: WebServer) -> None:
    web.routes["/x"] = Answer(CONTENT, pause_s=1.0)
    with pytest.raises(FetchError, match="stalled"):
        fetch(local_fetcher(web, limits=FetchLimits(2**20, 5, stall_s=0.1)), f"{web.url}/x")


def test_a_body_that_drips_is_given_up(web: WebServer) -> None:
    """Every piece comes before the stall limit; the total must end it."""
    web.routes["/x"] = Answer(CONTENT, pause_s=0.1)
    start = time.monotonic()
    with pytest.raises(FetchError, match="took more than"):
        fetch(local_fetcher(web, limits=FetchLimits(2**20, total_s=0.35, stall_s=5)), f"{web.url}/x")
    assert time.monotonic() - start < 0.9  # the whole body would take 1.1 s


@pytest.fixture
def raw_port() -> Iterator[tuple[int, list[bytes]]]:
    """A socket that sends the given pieces to its one visitor, one every 0.1 s, and then waits."""
    pieces: list[bytes] = []
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                visitor, _ = listener.accept()
                with visitor:
                    for piece in pieces:
                        visitor.sendall(piece)
                        done.wait(0.1)
                    done.wait(5)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], pieces
        done.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("pieces", "problem"),
    [
        ([b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 30], "in time"),  # headers that drip
        ([], "in time"),
        ([b"SSH-2.0-OpenSSH\r\n"], "BadStatusLine"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"], "HTTPException"),
    ],
)
def test_what_is_no_answer_ends_in_time(
    raw_port: tuple[int, list[bytes]], pieces: list[bytes], problem: str
) -> None:
    port, sent = raw_port
    sent += pieces
    fetcher = Fetcher(AddressPolicy([AllowedHost("127.0.0.1")]), FetchLimits(2**20, total_s=0.5, stall_s=0.3))
    start = time.monotonic()
    with (
        pytest.raises(FetchError, match=problem),
        fetcher.open(Request(parse_url(f"http://127.0.0.1:{port}/"))),
    ):
        pass
    assert time.monotonic() - start < 1.5


def test_silence_ends_with_the_total_time(raw_port: tuple[int, list[bytes]]) -> None:
    fetcher = Fetcher(AddressPolicy([AllowedHost("127.0.0.1")]), FetchLimits(2**20, total_s=0.2, stall_s=5))
    start = time.monotonic()
    with pytest.raises(FetchError, match="in time"):
        fetch(fetcher, f"http://127.0.0.1:{raw_port[0]}/")
    assert time.monotonic() - start < 1


def test_a_closed_port_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fetcher = Fetcher(AddressPolicy([AllowedHost("127.0.0.1")]))
    with pytest.raises(FetchError, match="cannot be reached"):
        fetch(fetcher, f"http://127.0.0.1:{port}/")


def test_the_next_address_is_tried_where_the_first_is_dead(web: WebServer) -> None:
    web.routes["/x"] = Answer(CONTENT)
    resolve = lambda host, port: ["::1", "127.0.0.1"]  # noqa: E731
    fetcher = Fetcher(AddressPolicy([AllowedHost("two.test")], resolve))
    assert fetch(fetcher, f"http://two.test:{web.port}/x") == CONTENT


class WatchedTLS(ssl.SSLContext):
    """Notes which name is to be verified, and goes no further."""

    seen: str | bytes | None = None

    def wrap_socket(self, sock: socket.socket, *args: object, **kwargs: object) -> ssl.SSLSocket:
        name = kwargs["server_hostname"]
        self.seen = name if isinstance(name, str) else None
        error = ssl.SSLCertVerificationError("stop here")
        error.verify_message = "stop here"
        raise error


def test_tls_verifies_the_name_and_not_the_address(web: WebServer) -> None:
    tls = WatchedTLS(ssl.PROTOCOL_TLS_CLIENT)
    fetcher = Fetcher(AddressPolicy([AllowedHost("ls.test")], lambda host, port: ["127.0.0.1"]), tls=tls)
    with pytest.raises(FetchError, match="certificate"):
        fetch(fetcher, f"https://ls.test:{web.port}/x")
    assert tls.seen == "ls.test"


class NoTLS(ssl.SSLContext):
    """Says that the plain connection is encrypted."""

    def wrap_socket(self, sock: socket.socket, *args: object, **kwargs: object) -> ssl.SSLSocket:
        return cast(ssl.SSLSocket, sock)


def test_a_redirect_never_gives_up_encryption(web: WebServer) -> None:
    fetcher = Fetcher(AddressPolicy([AllowedHost("127.0.0.1")]), tls=NoTLS(ssl.PROTOCOL_TLS_CLIENT))
    web.routes["/up"] = redirect(f"https://127.0.0.1:{web.port}/x")
    web.routes["/down"] = redirect(f"http://127.0.0.1:{web.port}/x")
    web.routes["/x"] = Answer(CONTENT)
    assert fetch(fetcher, f"{web.url}/up", credentials(web)) == CONTENT
    assert "Authorization" not in web.asked[-1].headers  # another scheme is another origin
    with pytest.raises(FetchError, match="from https to http"):
        fetch(fetcher, f"https://127.0.0.1:{web.port}/down")


def test_tls_with_a_server_that_has_none_is_told_in_words(web: WebServer) -> None:
    with pytest.raises(FetchError, match="TLS"):
        fetch(local_fetcher(web), f"https://127.0.0.1:{web.port}/x")


def test_settings_allow_label_studio_on_its_own_port_only() -> None:
    settings = Settings(label_studio_url="http://127.0.0.1:8080", allowed_hosts=("minio.lan",))
    policy = Fetcher.from_settings(settings).policy
    assert policy.addresses(Origin("http", "127.0.0.1", 8080)) == ("127.0.0.1",)
    assert policy.is_allowed(Origin("http", "minio.lan", 1))
    with pytest.raises(MediaError):
        policy.addresses(Origin("http", "127.0.0.1", 6379))


def test_a_reader_that_stops_early_ends_the_connection(web: WebServer) -> None:
    web.routes["/x"] = lambda asked: Answer(b"x" * 2**20)

    def peek(asked: Asked) -> Answer:
        return Answer(b"ok")

    web.routes["/y"] = peek
    fetcher = local_fetcher(web)
    with fetcher.open(Request(parse_url(f"{web.url}/x"))) as response:
        assert response.length == 2**20
    assert fetch(fetcher, f"{web.url}/y") == b"ok"
