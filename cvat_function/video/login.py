"""Who asks, and of which server: from options and the environment, never from the command line's secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgetam_model import InputError


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
        InputError: a password on the command line, where every user of the machine can read it.
    """
    if user and ":" in user:
        raise InputError(
            "user", "expected a name alone: set CVAT_PASSWORD, or you are asked for the password"
        )
    if server and "@" in server:
        raise InputError("server", "expected an address without a user: set CVAT_USERNAME and CVAT_PASSWORD")
    return Login(
        server=server or environ.get("CVAT_HOST") or None,
        token=None if user else environ.get("CVAT_ACCESS_TOKEN") or None,
        user=user or environ.get("CVAT_USERNAME") or None,
        password=environ.get("CVAT_PASSWORD") or environ.get("PASS") or None,
        organization=environ.get("CVAT_ORG") if organization is None else organization,
        insecure=insecure,
    )
