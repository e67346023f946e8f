"""Who asks, as far as a network tells: addresses behind proxies, and the names that a browser asked for."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from edgetam_model import InputError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
UNKNOWN = "unknown"  # of a peer without an address, such as a local socket
ONE_SITE = 64  # leading bits of an IPv6 address that one customer of a provider has for itself
LONGEST_CHAIN = 20  # proxies that are walked through
# Names that nobody on the internet can have: RFC 2606, 6761, 6762, 8375, and what ICANN keeps for inner use.
PRIVATE_NAMES = ("localhost", "local", "internal", "home.arpa", "test")
NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?")


def parse_network(text: str) -> Network:
    """An address, or a network such as 10.0.0.0/8.

    Raises:
        InputError: neither.
    """
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InputError("network", "expected an address or a network such as 10.0.0.0/8") from error


def client_address(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address that a request comes from.

    Every proxy appends whom it saw to X-Forwarded-For, so the header is read from its end, and only as far as
    those who wrote it are trusted: what a client puts there itself stands before that and is never reached.

    Args:
        peer: who has opened the connection.
        forwarded: the values of X-Forwarded-For, in their order.
        trusted: whose word counts.

    Returns:
        An address in its shortest form; of IPv6 the network of one site, since its owner has all of it.
    """
    here = _address(peer or "")
    if here is None:
        return UNKNOWN
    seen = [part.strip() for value in forwarded for part in value.split(",")]
    for step in reversed(seen[-LONGEST_CHAIN:]):
        if not any(here in network for network in trusted):
            break
        further = _address(step)
        if further is None:  # the last one who is known
            break
        here = further
    return _shown(here)


def _address(text: str) -> Address | None:
    """Of `1.2.3.4`, `1.2.3.4:80`, `::1` or `[::1]:80`; an IPv4 address in IPv6's clothes is itself again."""
    plain = text.strip().partition("%")[0]  # a zone says which cable, not who
    if plain.startswith("["):
        plain = plain[1:].partition("]")[0]
    elif plain.count(":") == 1:
        plain = plain.partition(":")[0]
    try:
        found = ipaddress.ip_address(plain)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def _shown(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback:
        return str(address)
    return str(ipaddress.ip_network((address, ONE_SITE), strict=False))


def parse_host_name(text: str) -> str:
    """A name that a server may be asked by: `labels.example`, `*.example`, or an address; in lower case.

    Raises:
        InputError: none of them; a port does not belong there.
    """
    lower = text.lower().rstrip(".")
    if NAME.fullmatch(lower) or _is_address(lower):
        return lower
    raise InputError("host", "expected a name without a port, *.name or an address")


def is_known_host(header: str | None, names: Sequence[str]) -> bool:
    """Whether a request's Host header names this server.

    A website can point its own name at an address of this network once its page is loaded; its scripts then
    ask this server under that name, and the browser lets them read the answers.

    Addresses, names without a dot and private ones are always known: no website can have them.

    Args:
        header: as it came; None: there was none, so that it came from no browser.
        names: others that this server has, from `parse_host_name`.
    """
    if header is None:
        return True
    host = _host_of(header)
    if _is_address(host) or any(_fits(host, name) for name in names):
        return True
    if NAME.fullmatch(host) is None:
        return False
    return "." not in host or any(_fits(host, f"*.{name}") for name in PRIVATE_NAMES)


def _host_of(header: str) -> str:
    """The name of `name:port` in lower case, without the brackets of an address; empty: it is no name."""
    text = header.strip().lower()
    if text.startswith("["):
        inner, _, rest = text[1:].partition("]")
        return inner if rest[:1] in ("", ":") else ""
    return text.partition(":")[0].rstrip(".")


def _fits(host: str, name: str) -> bool:
    return host.endswith(name[1:]) and len(host) > len(name) - 1 if name.startswith("*.") else host == name


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
