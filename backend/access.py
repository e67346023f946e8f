"""Who may use this server: anybody, or those who know its password, its token, or that of one project."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from pydantic import SecretStr

from backend.settings import Settings
from edgetam_model import EdgeTAMError

# Label Studio and browsers know users and passwords, no bearer tokens: this user's password is the token.
TOKEN_USER = "token"  # noqa: S105  a name
PROJECT_USER = "project-"  # and the project's number: this user's password is the project's token


class Unauthorized(EdgeTAMError):  # noqa: N818  a state of a request
    """The request has no credentials, or wrong ones. Nothing says which part was wrong."""


class Forbidden(EdgeTAMError):  # noqa: N818  a state of a request
    """Whoever asks is known, but may not have this."""


@dataclass(frozen=True)
class Visitor:
    """Who was let in.

    Attributes:
        who: the user, `token`, `project-7`, or empty where nobody is asked.
        project: Label Studio's number of the only project that this one may touch; empty: all of them.
    """

    who: str = ""
    project: str = ""


@dataclass(frozen=True)
class Access:
    """What a request must know.

    Attributes:
        user, password: of HTTP basic authentication, as Label Studio sends them; both or neither.
        token: of a bearer token, which may come as the password of the user `token` as well. Where both ways
            are set, either is enough; where none is, all may enter.
        projects: tokens by the numbers of the projects that they are for, as bearer token or as the password
            of the user `project-NUMBER`.
    """

    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    projects: Mapping[str, SecretStr] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """What BASIC_AUTH_USER, BASIC_AUTH_PASS, EDGETAM_TOKEN and EDGETAM_PROJECT_TOKENS say."""
        return cls(
            settings.basic_auth_user, settings.basic_auth_pass, settings.token, settings.project_tokens
        )

    @property
    def is_open(self) -> bool:
        """Whether everybody may enter."""
        return self.user is None and self.token is None and not self.projects

    @property
    def challenge(self) -> str:
        """The WWW-Authenticate header of a refusal; a browser asks for user and password where it can."""
        return 'Basic realm="EdgeTAM", charset="UTF-8"'

    def pair(self, project: int | None = None) -> tuple[str, SecretStr] | None:
        """The user and password that Label Studio is to send; None: this server asks for none.

        Args:
            project: whose; one that has a token of its own gets no other.
        """
        own = self.projects.get(str(project))
        if own is not None:
            return f"{PROJECT_USER}{project}", own
        if self.user is not None and self.password is not None:
            return self.user, self.password
        return None if self.token is None else (TOKEN_USER, self.token)

    def check(self, authorization: str | None) -> Visitor:
        """Let a request in by its Authorization header; takes as long for a wrong secret as for a right one.

        Raises:
            Unauthorized: no credentials, or wrong ones.
        """
        if self.is_open:
            return Visitor()
        scheme, _, given = (authorization or "").partition(" ")
        known = {"basic": self._of_password, "bearer": self._of_token}.get(scheme.lower())
        visitor = known(given.strip()) if known else None
        if visitor is None:
            raise Unauthorized("expected the user and password, or the token, that this server was given")
        return visitor

    def _of_password(self, given: str) -> Visitor | None:
        """Whose password it is; None: nobody's."""
        try:
            pair = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            return None
        known = [(Visitor(self.user or ""), self.password), *self._tokens()]
        return _first_that_fits(
            pair, [(who, _joined(who.who, secret)) for who, secret in known if secret is not None]
        )

    def _of_token(self, given: str) -> Visitor | None:
        known = [(who, secret.get_secret_value().encode()) for who, secret in self._tokens()]
        return _first_that_fits(given.encode("latin-1", "replace"), known)

    def _tokens(self) -> list[tuple[Visitor, SecretStr]]:
        whole = [] if self.token is None else [(Visitor(TOKEN_USER), self.token)]
        own = [(Visitor(f"{PROJECT_USER}{number}", number), token) for number, token in self.projects.items()]
        return whole + own


def basic_header(user: str, password: SecretStr) -> SecretStr:
    """The Authorization header of a user and a password."""
    return SecretStr(f"Basic {base64.b64encode(_joined(user, password)).decode()}")


def _first_that_fits(given: bytes, known: list[tuple[Visitor, bytes]]) -> Visitor | None:
    """All are compared, so that the time tells nothing."""
    fits = [who for who, secret in known if hmac.compare_digest(given, secret)]
    return fits[0] if fits else None


def _joined(user: str, password: SecretStr) -> bytes:
    return f"{user}:{password.get_secret_value()}".encode()
