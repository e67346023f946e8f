"""Where a request comes from, and which names are this server's."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.clients import (
    UNKNOWN,
    client_address,
    is_known_host,
    parse_host_name,
    parse_network,
)
from edgetam_model import InputError

PROXIES = [parse_network(text) for text in ("10.0.0.0/8", "::1", "fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),  # no proxy of ours: what it says does not count
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),  # the client's own lie stands before it
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("::1", ["[2001:db8:1:2:3:4:5:6]:443"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", [], "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("::1", [], "::1"),
        ("", ["198.51.100.1"], UNKNOWN),
        (None, [], UNKNOWN),
    ],
)
def test_addresses_behind_proxies(peer: str | None, forwarded: list[str], expected: str) -> None:
    assert client_address(peer, forwarded, PROXIES) == expected


@given(st.ip_addresses(), st.lists(st.text(max_size=60), max_size=4))
def test_without_trusted_proxies_no_header_counts(
    peer: ipaddress.IPv4Address | ipaddress.IPv6Address, headers: list[str]
) -> None:
    assert client_address(str(peer), headers, []) == client_address(str(peer), [], [])


@given(st.text(max_size=40) | st.none(), st.lists(st.text(max_size=60), max_size=4))
def test_any_header_gives_an_address_or_none(peer: str | None, headers: list[str]) -> None:
    found = client_address(peer, headers, [parse_network("0.0.0.0/0"), parse_network("::/0")])
    assert found == UNKNOWN or ipaddress.ip_network(found)


@given(st.lists(st.ip_addresses(v=4), max_size=5), st.ip_addresses(v=4))
def test_a_client_cannot_choose_its_address(
    lies: list[ipaddress.IPv4Address], real: ipaddress.IPv4Address
) -> None:
    """Whatever it writes, the trusted proxy has appended whom it saw."""
    header = ", ".join([*map(str, lies), str(real)])
    trusted = [parse_network("10.0.0.1")]
    found = client_address("10.0.0.1", [header], trusted)
    assert found == str(real) or real == ipaddress.ip_address("10.0.0.1")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:9090", "localhost", "LOCALHOST:9090", "[::1]:9090", "192.168.1.7", "8.8.8.8:80"),
        *(
            "server:9090",
            "label-studio",
            "host.docker.internal:9090",
            "gpu1.local",
            "edgetam.ml.svc.cluster.local",
        ),
        *("a.localhost", "box.home.arpa", "gpu1.localhost."),
        None,
    ],
)
def test_names_that_no_website_can_have(host: str | None) -> None:
    assert is_known_host(host, [])


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.com.",
        ),
        *("local.evil.com", "evil-local.com", "", ":9090", "a b", "local host", "evil.com/127.0.0.1"),
        *("[::1].evil.com:80", "evil.com@localhost.com", "2130706433.com", ".local", "xn--e1afmkfd.com"),
    ],
)
def test_names_of_websites(host: str) -> None:
    assert not is_known_host(host, ["labels.example"])


def test_names_that_were_given() -> None:
    names = [parse_host_name("Labels.Example."), parse_host_name("*.corp.example")]
    for host in ("labels.example", "LABELS.example:443", "gpu1.corp.example", "a.b.corp.example:9090"):
        assert is_known_host(host, names), host
    for host in ("corp.example", "evilcorp.example", "x.labels.example", "labels.example.evil.com"):
        assert not is_known_host(host, names), host


@given(st.text(max_size=80))
def test_any_host_header_is_known_or_not(host: str) -> None:
    if is_known_host(host, []) and "." in host.partition(":")[0].strip().rstrip("."):
        name = host.strip().lower()
        plain = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0].rstrip(".")
        private = ("localhost", "local", "internal", "home.arpa", "test")
        assert plain.endswith(tuple(f".{end}" for end in private)) or ipaddress.ip_address(plain)


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "proxy.example", "10.0.0", "::g"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected an address"):
        parse_network(text)


@pytest.mark.parametrize("text", ["", "http://a", "a:80", "a b", "*", "*.", "a.*.b", "-a.example/"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected a name"):
        parse_host_name(text)
