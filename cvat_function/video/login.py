"""Who asks, and of which server: from options and the environment, never from the command line's secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from edgetam_model import InputError

_EXAMPLE = "https://cvat.example.com"
_HOST = re.compile(r"[\w.:%-]+")  # names of other alphabets and IPv6 too
_PAGE = re.compile(r"/(tasks|jobs|projects|api|auth)(/|$)")  # what a browser shows, copied


@dataclass(frozen=True)
class Login:
    """How to reach a server. Secrets do not show when it is printed.

    Attributes:
        server: its address; None: the one of the saved profile of cvat-cli, else http://localhost.
        token: a personal access token; it goes before user and password.
        password: None: asked for where there is a terminal.
        organization: its short name; "" is the personal workspace, None says nothing.
        insecure: do not check the server's certificate.
    """

    server: str | None = None
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    organization: str | None = None
    insecure: bool = False


def login_of(
    environ: Mapping[str, str],
    *,
    server: str | None = None,
    user: str | None = None,
    organization: str | None = None,
    insecure: bool = False,
) -> Login:
    """Options, and where they are missing the environment.

    CVAT_HOST, CVAT_USERNAME, CVAT_PASSWORD (or PASS, as cvat-cli calls it), CVAT_ACCESS_TOKEN, CVAT_ORG.

    Raises:
        InputError: a password on the command line, where every user of the machine can read it, or in an
            address, which messages show; or no address of a server.
    """
    if user and ":" in user:
        raise InputError(
            "user", "expected a name alone: set CVAT_PASSWORD, or you are asked for the password"
        )
    address = server or environ.get("CVAT_HOST") or None
    if address:
        _check_address(address)
    return Login(
        server=address,
        token=None if user else environ.get("CVAT_ACCESS_TOKEN") or None,
        user=user or environ.get("CVAT_USERNAME") or None,
        password=environ.get("CVAT_PASSWORD") or environ.get("PASS") or None,
        organization=environ.get("CVAT_ORG") if organization is None else organization,
        insecure=insecure,
    )


def _check_address(address: str) -> None:
    """What the SDK would only fail on later, in its own words."""
    if "@" in address:
        raise InputError("server", "expected an address without a user: set CVAT_USERNAME and CVAT_PASSWORD")
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        whole = bool(parts.hostname and _HOST.fullmatch(parts.hostname)) and parts.port != 0
    except ValueError:  # no port, or a bracket too many
        whole = False
    if not whole or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise InputError("server", f"expected an address such as {_EXAMPLE}, got {address[:100]!r}")
    if _PAGE.search(parts.path):
        raise InputError("server", f"expected the server's address alone, such as {_EXAMPLE}, without a page")
