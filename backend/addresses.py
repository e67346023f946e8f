"""Which addresses of the web may be reached: what a URL names, where that leads, and what is refused.

A task's data is written by others. Whatever it names is fetched from inside our network, so an address
that only this network can reach is refused unless somebody has put its host on the allow list.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self
from urllib.parse import SplitResult, quote, urlsplit

from edgetam_model import InputError, MediaError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Iterable[str]]
"""(host, port) → the addresses it has; raises OSError where it has none."""

DEFAULT_PORTS: Mapping[str, int] = MappingProxyType({"http": 80, "https": 443})
# Delimiters that RFC 3986 allows in paths and queries, and % so that escapes stay as they are.
TARGET_SAFE = "/?:@!$&'()*+,;=~%-._[]"
HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?")
NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")

# Sources: the registries of special-purpose addresses, RFC 6890 and what came after it. Own tables, since
# what `ipaddress` calls global has changed between patch releases of Python.
SPECIAL_IPV4 = tuple(
    (ipaddress.IPv4Network(network), name)
    for network, name in (
        ("0.0.0.0/8", "an unspecified"),
        ("10.0.0.0/8", "a private"),
        ("100.64.0.0/10", "a private"),  # carriers' own networks
        ("127.0.0.0/8", "a loopback"),
        ("169.254.0.0/16", "a link-local"),
        ("172.16.0.0/12", "a private"),
        ("192.0.0.0/24", "a reserved"),
        ("192.0.2.0/24", "a reserved"),
        ("192.88.99.0/24", "a reserved"),  # 6to4 relays
        ("192.168.0.0/16", "a private"),
        ("198.18.0.0/15", "a private"),  # benchmarks
        ("198.51.100.0/24", "a reserved"),
        ("203.0.113.0/24", "a reserved"),
        ("224.0.0.0/4", "a multicast"),
        ("240.0.0.0/4", "a reserved"),
    )
)
GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")  # everything else is special, IPv4-mapped and NAT64 included
SPECIAL_IPV6 = tuple(
    (ipaddress.IPv6Network(network), name)
    for network, name in (
        ("2001::/23", "a reserved"),  # Teredo and other protocols
        ("2001:db8::/32", "a reserved"),
        ("2002::/16", "an IPv4-carrying"),  # 6to4
        ("3fff::/20", "a reserved"),
        ("::/128", "an unspecified"),
        ("::1/128", "a loopback"),
        ("::ffff:0:0/96", "an IPv4-carrying"),
        ("64:ff9b::/96", "an IPv4-carrying"),
        ("64:ff9b:1::/48", "an IPv4-carrying"),
        ("fc00::/7", "a private"),
        ("fe80::/10", "a link-local"),
        ("ff00::/8", "a multicast"),
    )
)


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port: what a token belongs to. The host is in lower case and ASCII."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of a Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True)
class WebAddress:
    """A URL that has been taken apart. Its query may hold signatures and is not printed.

    Attributes:
        origin: whom to ask.
        path: percent-encoded, begins with a slash.
        query: percent-encoded, without the question mark.
    """

    origin: Origin
    path: str
    query: str = field(default="", repr=False)

    @property
    def target(self) -> str:
        """What stands in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def url(self) -> str:
        """The whole URL, secrets in its query included."""
        return f"{self.origin}{self.target}"

    def __str__(self) -> str:
        return f"{self.origin}{self.path}"


def parse_url(text: str) -> WebAddress:
    """Take an http or https URL apart, strictly where parsers are known to disagree.

    Spaces and letters outside ASCII in path and query are percent-encoded as browsers do; the fragment
    is dropped.

    Raises:
        MediaError: another scheme, no host, credentials in it, or a host in a form that hides an address.
    """
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise MediaError("url", "expected a URL without control characters")
    try:
        parts = urlsplit(text.strip(" "))
        port = parts.port
    except ValueError as error:
        raise MediaError("url", f"not a URL: {error}") from error
    if parts.scheme not in DEFAULT_PORTS:
        raise MediaError("url", f"expected http or https, got {parts.scheme[:20] or 'no scheme'}")
    if any(letter in parts.netloc for letter in "@\\%"):
        raise MediaError("url", "expected a plain host, without user name, backslash or percent sign")
    origin = Origin(
        parts.scheme, plain_host(parts.hostname or ""), DEFAULT_PORTS[parts.scheme] if port is None else port
    )
    return WebAddress(origin, *_target(parts))


def _target(parts: SplitResult) -> tuple[str, str]:
    try:
        return quote(parts.path or "/", safe=TARGET_SAFE), quote(parts.query, safe=TARGET_SAFE)
    except UnicodeError as error:
        raise MediaError("url", "has letters that cannot be encoded") from error


def plain_host(host: str) -> str:
    """A host name or address in its one canonical form.

    Raises:
        MediaError: none, or an address written in decimal, octal, hexadecimal or short form.
    """
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError as error:
            raise MediaError("url", "not an IPv6 address") from error
    try:
        name = host.encode("idna").decode("ascii").lower().rstrip(".")
    except UnicodeError as error:
        raise MediaError("url", "not a host name") from error
    if not HOST_NAME.fullmatch(name):
        raise MediaError("url", "expected a host name")
    if NUMBER.fullmatch(name.rpartition(".")[2]) and literal_address(name) is None:
        raise MediaError("url", "expected a host name, or an IPv4 address in its usual form")
    return name


def literal_address(host: str) -> IPAddress | None:
    """The address that a host is, None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def special_range(address: IPAddress) -> str | None:
    """What kind of address this is, with its article ("a loopback"), None for one of the public internet."""
    table = SPECIAL_IPV4 if isinstance(address, ipaddress.IPv4Address) else SPECIAL_IPV6
    for network, name in table:
        if address in network:
            return name
    return None if address.version == 4 or address in GLOBAL_IPV6 else "a reserved"


@dataclass(frozen=True)
class AllowedHost:
    """A host that may be reached though its address is not public.

    Attributes:
        host: a name or an address; `*.example.org` stands for every name below example.org.
        port: the only port, None for all.
    """

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name`, `name:port`, `*.name`, `10.0.0.7`, `[::1]:8080`.

        Raises:
            InputError: something else.
        """
        prefix = "*." if text.startswith("*.") else ""
        try:
            parts = urlsplit(f"//{text.removeprefix('*.')}")
            if parts.netloc != text.removeprefix("*.") or "@" in text:
                raise InputError("EDGETAM_ALLOWED_HOSTS", f"expected a host, or host:port, got {text!r}")
            return cls(prefix + plain_host(parts.hostname or ""), parts.port)
        except (ValueError, MediaError) as error:
            raise InputError(
                "EDGETAM_ALLOWED_HOSTS", f"expected a host, or host:port, got {text!r}"
            ) from error

    def covers(self, origin: Origin) -> bool:
        """Whether this entry names the origin's host and port."""
        if self.port not in (None, origin.port):
            return False
        if self.host.startswith("*."):
            return origin.host.endswith(self.host[1:])
        return origin.host == self.host


def system_resolver(host: str, port: int) -> list[str]:
    """Addresses of a host as the operating system knows them, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


class AddressPolicy:
    """Decides once per connection where a host leads; the connection goes to the address given here.

    Args:
        allowed: hosts that may be anywhere.
        resolve: where names lead.
    """

    def __init__(self, allowed: Iterable[AllowedHost] = (), resolve: Resolver = system_resolver) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve

    def is_allowed(self, origin: Origin) -> bool:
        """Whether the origin is on the allow list."""
        return any(entry.covers(origin) for entry in self._allowed)

    def addresses(self, origin: Origin) -> tuple[str, ...]:
        """The addresses to try, best first.

        Raises:
            MediaError: the host is unknown, or leads nowhere but to refused addresses.
        """
        literal = literal_address(origin.host)
        try:
            found = (literal,) if literal else self._resolved(origin)
        except (OSError, UnicodeError, ValueError) as error:
            raise MediaError("url", f"the host {origin.host} cannot be found") from error
        if self.is_allowed(origin):
            return tuple(str(address) for address in found)
        usable = tuple(str(address) for address in found if special_range(address) is None)
        if not usable:
            kind = special_range(found[0]) if found else "no"
            raise MediaError(
                "url",
                f"{origin.authority} leads to {kind} address, which tasks may not reach; "
                "EDGETAM_ALLOWED_HOSTS can allow it",
            )
        return usable

    def _resolved(self, origin: Origin) -> tuple[IPAddress, ...]:
        return tuple(ipaddress.ip_address(text) for text in self._resolve(origin.host, origin.port))
