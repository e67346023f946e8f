"""Who is let in, how often, and by which name: the real application in the real server, over HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from backend.access import Access
from backend.app import create_app
from backend.commands.serve import _listen
from backend.gate import Asked, Gate, WrongHost
from backend.queue import JobQueue
from backend.queue_rates import RedisBuckets
from backend.rates import MemoryBuckets, TooManyRequests
from backend.services import Services
from backend.settings import Settings
from edgetam_model import InputError
from tests.backend.queue_fixtures import until
from tests.backend.server_fixtures import services_in

TOKEN = {"Authorization": "Bearer s3cret"}
WRONG = {"Authorization": "Bearer guess"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def problem(self) -> str:
        error = json.loads(self.text)["error"]
        assert error["field"] is None
        return str(error["problem"])


@dataclass(frozen=True)
class Server:
    port: int

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """From any of the machine's own addresses; all of 127.0.0.0/8 are."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60, source_address=(source, 0)
        )
        data = None if body is None else json.dumps(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, data, {**kind, **(headers or {})})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return Answer(answer.status, dict(answer.getheaders()), text)


@contextmanager
def served(services: Services) -> Iterator[Server]:
    server: Any = _listen(create_app(services), services.settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield Server(server.effective_port)
    finally:
        until(lambda: not server.active_channels)  # it closes a connection a little later than its client
        server.close()
        server.task_dispatcher.shutdown()
        thread.join(10)


def server_in(folder: Path, **variables: Any) -> Services:
    return services_in(folder, HOST="127.0.0.1", PORT="0", **variables)


def gate(**variables: str) -> Gate:
    settings = Settings.from_env(variables)
    return Gate.from_settings(settings, Access.from_settings(settings), MemoryBuckets())


def test_a_client_that_asks_too_often_waits_and_others_do_not(tmp_path: Path) -> None:
    with served(server_in(tmp_path, EDGETAM_RATE_LIMIT="1")) as server:  # the next in a minute
        assert server.ask("/versions").status == 200
        refused = server.ask("/setup", body={"project": "7.1", "schema": "<View/>"})
        assert refused.status == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.problem.startswith("more than 1 requests a minute of one client; try again in ")
        assert server.ask("/nowhere").status == 429
        for path in ("/health", "/ready"):
            assert [server.ask(path).status for _ in range(5)] == [200] * 5, path
        assert server.ask("/versions", source="127.0.0.2").status == 200
        numbers = server.ask("/metrics", source="127.0.0.3").text
    assert 'edgetam_rate_limited_total{limit="requests"} 2' in numbers
    assert 'edgetam_failures_total{kind="TooManyRequests"} 2' in numbers
    assert 'edgetam_rate_limited_total{limit="passwords"} 0' in numbers


def test_servers_of_one_queue_count_together(tmp_path: Path, queue: JobQueue) -> None:
    services = server_in(tmp_path, EDGETAM_RATE_LIMIT="1")
    shared = Gate.from_settings(services.settings, services.access, RedisBuckets(queue.store))
    services = replace(services, gate=shared)
    other = replace(services, gate=replace(shared, buckets=RedisBuckets(queue.store)))
    with served(services) as one, served(other) as two:
        assert [server.ask("/versions").status for server in (one, two, one)] == [200, 429, 429]
        assert [server.ask("/health").status for server in (one, two)] == [200, 200]


def test_no_limit_is_0(tmp_path: Path) -> None:
    with served(server_in(tmp_path, EDGETAM_RATE_LIMIT="0", EDGETAM_PASSWORD_LIMIT="0")) as server:
        assert {server.ask("/versions").status for _ in range(30)} == {200}


def test_label_studio_never_meets_the_default() -> None:
    """A quiet client may send 2,000 requests at once, and 200 a second from then on; see operations.md."""
    one = gate(EDGETAM_TOKEN="s3cret")
    for _ in range(2000):
        one.admit(Asked(authorization="Bearer s3cret", peer="10.0.0.9"))
    assert one.requests is not None
    assert one.requests.per_second == 200


def test_guessing_is_slowed_and_a_right_guess_is_not_told(tmp_path: Path) -> None:
    with served(server_in(tmp_path, EDGETAM_TOKEN="s3cret", EDGETAM_PASSWORD_LIMIT="1")) as server:
        for _ in range(20):
            assert server.ask("/versions").status == 401, "no password is no guess"
        assert [server.ask("/versions", WRONG).status for _ in range(3)] == [401, 429, 429]
        right = server.ask("/versions", TOKEN)
        assert (right.status, right.problem.partition(";")[0]) == (
            429,
            "too many wrong passwords came from this address",
        )
        assert 1 <= int(right.headers["Retry-After"]) <= 60
        assert server.ask("/health").status == 200
        assert server.ask("/versions", TOKEN, source="127.0.0.2").status == 200
        numbers = server.ask("/metrics", TOKEN, source="127.0.0.2").text
    assert 'edgetam_rate_limited_total{limit="passwords"} 3' in numbers


def test_right_passwords_are_never_counted_as_guesses() -> None:
    one = gate(EDGETAM_TOKEN="s3cret", EDGETAM_PASSWORD_LIMIT="1")
    for _ in range(50):
        assert one.admit(Asked(authorization="Bearer s3cret", peer="10.0.0.9")).who == "token"


@pytest.mark.parametrize(
    ("authorization", "who"),
    [("Bearer s3cret", "token"), ("token:s3cret", "token"), ("ls:pass", "ls")],
)
def test_who_it_is_is_known(authorization: str, who: str) -> None:
    one = gate(EDGETAM_TOKEN="s3cret", BASIC_AUTH_USER="ls", BASIC_AUTH_PASS="pass")
    if ":" in authorization:
        authorization = "Basic " + base64.b64encode(authorization.encode()).decode()
    client = one.admit(Asked(authorization=authorization, peer="10.0.0.9"))
    assert (client.who, client.address) == (who, "10.0.0.9")


def test_users_of_one_address_have_each_their_own_share() -> None:
    one = gate(EDGETAM_TOKEN="s3cret", BASIC_AUTH_USER="ls", BASIC_AUTH_PASS="pass", EDGETAM_RATE_LIMIT="1")
    basic = "Basic " + base64.b64encode(b"ls:pass").decode()
    one.admit(Asked(authorization="Bearer s3cret", peer="10.0.0.9"))
    one.admit(Asked(authorization=basic, peer="10.0.0.9"))
    with pytest.raises(TooManyRequests):
        one.admit(Asked(authorization=basic, peer="10.0.0.9"))


def test_what_a_client_says_of_itself_does_not_count(tmp_path: Path) -> None:
    with served(server_in(tmp_path, EDGETAM_RATE_LIMIT="1")) as server:
        answers = [server.ask("/versions", {"X-Forwarded-For": f"203.0.113.{n}"}).status for n in range(3)]
    assert answers == [200, 429, 429]


def test_a_trusted_proxy_says_who_asks(tmp_path: Path) -> None:
    variables = {"EDGETAM_RATE_LIMIT": "1", "EDGETAM_TRUSTED_PROXIES": "127.0.0.8/32"}
    with served(server_in(tmp_path, **variables)) as server:

        def ask(forwarded: str, source: str) -> int:
            return server.ask("/versions", {"X-Forwarded-For": forwarded}, source=source).status

        assert [ask(f"203.0.113.{n}", "127.0.0.8") for n in range(3)] == [200, 200, 200]
        assert ask("203.0.113.0", "127.0.0.8") == 429
        assert ask("6.6.6.6, 203.0.113.0", "127.0.0.8") == 429, "what stands before it is the client's word"
        assert [ask(f"198.51.100.{n}", "127.0.0.9") for n in range(2)] == [200, 429]


def test_an_open_server_refuses_a_website_s_name(tmp_path: Path) -> None:
    with served(server_in(tmp_path)) as server:
        for path in ("/versions", "/", "/api/jobs", "/metrics", "/nowhere"):
            assert server.ask(path, {"Host": "evil.example:9090"}).status == 421, path
        body = {"project": "7.1", "schema": "<View/>"}
        refused = server.ask("/setup", {"Host": "evil.example"}, body=body)
        assert (refused.status, "EDGETAM_HOST_NAMES" in refused.problem) == (421, True)
        assert "evil" not in refused.text
        assert server.ask("/health", {"Host": "evil.example"}).status == 200
        for host in ("localhost:9090", "127.0.0.1", "edgetam-server", "host.docker.internal:9090"):
            assert server.ask("/versions", {"Host": host}).status == 200, host


def test_names_can_be_given_and_a_password_needs_none() -> None:
    named = gate(EDGETAM_HOST_NAMES="labels.example, *.corp.example")
    for host in ("labels.example:9090", "gpu1.corp.example"):
        named.admit(Asked(host=host, peer="10.0.0.9"))
    with pytest.raises(WrongHost):
        named.admit(Asked(host="evil.example", peer="10.0.0.9"))
    known = Asked(host="anything.example", authorization="Bearer s3cret", peer="10.0.0.9")
    gate(EDGETAM_TOKEN="s3cret").admit(known)
    with pytest.raises(WrongHost):
        gate(EDGETAM_TOKEN="s3cret", EDGETAM_HOST_NAMES="labels.example").admit(known)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EDGETAM_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("EDGETAM_TRUSTED_PROXIES", "proxy.example"),
        ("EDGETAM_HOST_NAMES", "http://labels.example"),
        ("EDGETAM_RATE_LIMIT", "-1"),
        ("EDGETAM_PASSWORD_LIMIT", "often"),
        ("EDGETAM_PROJECT_SHARE", "7"),
    ],
)
def test_settings_that_cannot_be_used_are_named(variable: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        Settings.from_env({variable: value})
    assert caught.value.field == variable
    assert value not in caught.value.problem


def test_the_log_tells_who_was_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with served(server_in(tmp_path, EDGETAM_TOKEN="s3cret")) as server:
        server.ask("/versions", WRONG, source="127.0.0.7")
    (refused,) = [one for one in caplog.records if (one.name, one.levelname) == ("backend.app", "WARNING")]
    assert refused.fields == {"who": "", "address": "127.0.0.7"}  # type: ignore[attr-defined]
    assert "guess" not in caplog.text
