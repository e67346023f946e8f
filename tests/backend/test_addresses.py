"""Which hosts may be reached: every way of writing an address, the special ranges, and the allow list."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.addresses import AddressPolicy, AllowedHost, Origin, parse_url, plain_host, special_range
from edgetam_model import InputError, MediaError

PUBLIC4, PUBLIC6 = "93.184.216.34", "2606:2800:220:1::1"
octet = st.integers(0, 255)
ipv4 = st.builds(ipaddress.IPv4Address, st.integers(0, 2**32 - 1))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://Example.ORG", "http://example.org/"),
        ("https://example.org:443/a b?x=1#part", "https://example.org/a%20b"),
        ("http://example.org:8080/ä%20b", "http://example.org:8080/%C3%A4%20b"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("http://label_studio:8080/", "http://label_studio:8080/"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://example.org./", "http://example.org/"),
    ],
)
def test_urls_are_read_as_browsers_do(text: str, shown: str) -> None:
    assert str(parse_url(text)) == shown


def test_the_query_is_kept_and_not_shown() -> None:
    address = parse_url("https://s3.test/clip.mp4?X-Signature=hunter2&p=a b")
    assert address.target == "/clip.mp4?X-Signature=hunter2&p=a%20b"
    assert "hunter2" not in str(address) + repr(address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "clip.mp4",
        "//example.org/x",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "http://",
        "http:///x",
        "http://user@example.org/",
        "http://user:secret@example.org/",
        "http://example.org\\@127.0.0.1/",
        "http://example.org\r\nHost: x/",
        "http://exa\tmple.org/",
        "http://%31%32%37.0.0.1/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://example.org:99999/",
        "http://example.org:port/",
        "http://a..b/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.0.0.08/",
        "http://0/",
        "http://1.2.3.4.5/",
        "http://example.0x7f/",
        "http://127.0.0.1 .example.org/",
        "http://\ud800.org/",
        "http://example.org/\ud800",
    ],
)
def test_what_is_no_plain_web_address_is_refused(text: str) -> None:
    with pytest.raises(MediaError):
        parse_url(text)


FORMS: list[Callable[[int], str]] = [
    str,
    hex,
    lambda n: f"0{n:o}",
    lambda n: f"{n >> 24}.{n & 0xFFFFFF}",
    lambda n: f"{n >> 24}.{n >> 16 & 255}.{n & 0xFFFF}",
    lambda n: f"0x{n >> 24:x}.{n >> 16 & 255}.0{n >> 8 & 255:o}.{n & 255}",
]


@given(st.integers(0, 2**32 - 1), st.sampled_from(FORMS), st.sampled_from(["", "."]))
def test_no_other_spelling_of_an_ipv4_address_passes(
    number: int, form: Callable[[int], str], dot: str
) -> None:
    with pytest.raises(MediaError):
        plain_host(form(number) + dot)


@given(ipv4, st.sampled_from(["0123456789.", "０１２３４５６７８９．", "⓪①②③④⑤⑥⑦⑧⑨。", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗｡"]))
def test_digits_of_other_scripts_are_seen_as_what_they_become(
    address: ipaddress.IPv4Address, digits: str
) -> None:
    disguised = str(address).translate(str.maketrans("0123456789.", digits))
    assert plain_host(disguised) == str(address)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "127.8.8.8",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
        ),
        *("0.0.0.0", "0.1.2.3", "100.64.0.1", "100.127.255.255", "224.0.0.1", "239.255.255.255"),
        *(
            "240.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.9",
        ),
        *("::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1"),
        *(
            "::ffff:93.184.216.34",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
        ),
        *("2001:db8::1", "3fff::1", "5f00::1", "100::1", "4000::1"),
    ],
)
def test_special_addresses_are_refused(address: str) -> None:
    assert special_range(ipaddress.ip_address(address))
    with pytest.raises(MediaError, match="may not reach"):
        AddressPolicy(resolve=lambda host, port: [address]).addresses(Origin("http", "name.test", 80))


@pytest.mark.parametrize("address", [PUBLIC4, PUBLIC6, "1.1.1.1", "172.32.0.1", "100.128.0.1", "2a00::1"])
def test_public_addresses_pass(address: str) -> None:
    assert AddressPolicy().addresses(Origin("http", address, 80)) == (address,)


@given(st.integers(0, 2**128 - 1))
def test_an_ipv6_address_that_python_calls_special_never_passes(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        assert special_range(address)


@given(ipv4)
def test_an_ipv4_address_that_python_calls_special_never_passes(address: ipaddress.IPv4Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert special_range(address)


def test_of_several_addresses_only_the_public_ones_are_used() -> None:
    policy = AddressPolicy(resolve=lambda host, port: ["10.0.0.1", PUBLIC4, "::1", PUBLIC6])
    assert policy.addresses(Origin("https", "mixed.test", 443)) == (PUBLIC4, PUBLIC6)


def unknown(host: str, port: int) -> list[str]:
    raise OSError("no such host")


@pytest.mark.parametrize("resolve", [unknown, lambda host, port: [], lambda host, port: ["what"]])
def test_a_host_that_leads_nowhere_is_an_error(resolve: Callable[[str, int], list[str]]) -> None:
    with pytest.raises(MediaError):
        AddressPolicy(resolve=resolve).addresses(Origin("http", "nowhere.test", 80))


@pytest.mark.parametrize(
    ("entry", "host", "port", "covered"),
    [
        ("minio.lan", "minio.lan", 9000, True),
        ("minio.lan", "xminio.lan", 9000, False),
        ("minio.lan", "minio.lan.evil.test", 9000, False),
        ("MINIO.lan:9000", "minio.lan", 9000, True),
        ("minio.lan:9000", "minio.lan", 6379, False),
        ("*.corp.test", "a.b.corp.test", 80, True),
        ("*.corp.test", "corp.test", 80, False),
        ("*.corp.test", "evilcorp.test", 80, False),
        ("*.corp.test:81", "a.corp.test", 80, False),
        ("10.0.0.7", "10.0.0.7", 80, True),
        ("[::1]:8080", "::1", 8080, True),
    ],
)
def test_the_allow_list_compares_whole_hosts_and_ports(
    entry: str, host: str, port: int, covered: bool
) -> None:
    assert AllowedHost.parse(entry).covers(Origin("http", host, port)) is covered


def test_an_allowed_host_may_be_anywhere() -> None:
    policy = AddressPolicy([AllowedHost("minio.lan")], lambda host, port: ["10.0.0.1"])
    assert policy.addresses(Origin("http", "minio.lan", 9000)) == ("10.0.0.1",)


@pytest.mark.parametrize(
    "entry",
    ["", "http://x.test", "x.test/path", "a b", "*", "*.", "x:port", "u@x.test", "127.1", "x?", "x#y"],
)
def test_an_allow_list_entry_that_is_no_host_is_refused(entry: str) -> None:
    with pytest.raises(InputError) as caught:
        AllowedHost.parse(entry)
    assert caught.value.field == "EDGETAM_ALLOWED_HOSTS"


@given(st.text())
def test_any_text_is_an_address_or_a_media_error(text: str) -> None:
    for candidate in (text, f"http://{text}", f"http://x.test/{text}"):
        try:
            address = parse_url(candidate)
        except MediaError:
            continue
        assert address.url.isascii()
        assert parse_url(address.url) == address
