"""Who may use this server: anybody, or those who know its password or its token."""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Self

from pydantic import SecretStr

from backend.settings import Settings
from edgetam_model import EdgeTAMError

# Label Studio and browsers know users and passwords, no bearer tokens: this user's password is the token.
TOKEN_USER = "token"  # noqa: S105  a name


class Unauthorized(EdgeTAMError):  # noqa: N818  a state of a request
    """The request has no credentials, or wrong ones. Nothing says which part was wrong."""


@dataclass(frozen=True)
class Access:
    """What a request must know.

    Attributes:
        user, password: of HTTP basic authentication, as Label Studio sends them; both or neither.
        token: of a bearer token, which may come as the password of the user `token` as well. Where both ways
            are set, either is enough; where none is, all may enter.
    """

    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """What BASIC_AUTH_USER, BASIC_AUTH_PASS and EDGETAM_TOKEN say."""
        return cls(settings.basic_auth_user, settings.basic_auth_pass, settings.token)

    @property
    def is_open(self) -> bool:
        """Whether everybody may enter."""
        return self.user is None and self.token is None

    @property
    def challenge(self) -> str:
        """The WWW-Authenticate header of a refusal; a browser asks for user and password where it can."""
        return 'Basic realm="EdgeTAM", charset="UTF-8"'

    @property
    def pair(self) -> tuple[str, SecretStr] | None:
        """The user and password that Label Studio is to send; None: this server asks for none."""
        if self.user is not None and self.password is not None:
            return self.user, self.password
        return None if self.token is None else (TOKEN_USER, self.token)

    def check(self, authorization: str | None) -> str:
        """Let a request in by its Authorization header; takes as long for a wrong secret as for a right one.

        Returns:
            The user's name, `token`, or nothing where everybody may enter.

        Raises:
            Unauthorized: no credentials, or wrong ones.
        """
        if self.is_open:
            return ""
        scheme, _, given = (authorization or "").partition(" ")
        known = {"basic": self._of_password, "bearer": self._of_token}.get(scheme.lower())
        who = known(given.strip()) if known else ""
        if not who:
            raise Unauthorized("expected the user and password, or the token, that this server was given")
        return who

    def _of_password(self, given: str) -> str:
        """Whose password it is; empty: nobody's."""
        try:
            pair = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            return ""
        known = [(self.user, self.password), (TOKEN_USER, self.token)]
        # All are compared, so that the time tells nothing.
        fits = [
            user
            for user, secret in known
            if user is not None and secret is not None and hmac.compare_digest(pair, _joined(user, secret))
        ]
        return fits[0] if fits else ""

    def _of_token(self, given: str) -> str:
        if self.token is None:
            return ""
        is_it = hmac.compare_digest(
            given.encode("latin-1", "replace"), self.token.get_secret_value().encode()
        )
        return TOKEN_USER if is_it else ""


def basic_header(user: str, password: SecretStr) -> SecretStr:
    """The Authorization header of a user and a password."""
    return SecretStr(f"Basic {base64.b64encode(_joined(user, password)).decode()}")


def _joined(user: str, password: SecretStr) -> bytes:
    return f"{user}:{password.get_secret_value()}".encode()
