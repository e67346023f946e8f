"""The server's gate: which name it is asked by, who asks, and how often; before any route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from backend.access import Access, Forbidden, Unauthorized, Visitor
from backend.clients import Network, client_address, is_known_host, parse_network
from backend.rates import Buckets, Rate, TooManyRequests
from backend.settings import Settings
from edgetam_model import EdgeTAMError

BURST_SECONDS = 10.0  # of its share that a quiet client may use at once
PASSWORD_BURST = 10.0  # wrong passwords in a row, as of a person who tries the old ones


class WrongHost(EdgeTAMError):  # noqa: N818  a state of a request
    """The request was made to another name than this server's."""


@dataclass(frozen=True)
class Asked:
    """What a request says of itself before its body.

    Attributes:
        host: its Host header.
        authorization: its Authorization header.
        peer: who has opened the connection.
        forwarded: its X-Forwarded-For headers.
    """

    host: str | None = None
    authorization: str | None = None
    peer: str | None = None
    forwarded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Client:
    """Who asks.

    Attributes:
        who: the user, `token`, `project-7`, or empty where nobody is asked.
        address: where from.
        project: the only one that this client may touch; empty: all of them.
    """

    who: str
    address: str
    project: str = ""

    def require(self, project: str = "") -> None:
        """Let pass what concerns this project; empty: all of them, or nobody knows which.

        Raises:
            Forbidden: the client may touch another one alone.
        """
        if self.project and project != self.project:
            raise Forbidden(f"this token is for project {self.project} alone")

    def __str__(self) -> str:
        return f"{self.who or 'somebody'} at {self.address}"


@dataclass(frozen=True)
class Gate:
    """Lets requests in; may be shared between threads.

    Attributes:
        access: who may enter.
        buckets: where requests are counted.
        requests: how many of one client; None: any number.
        passwords: how many wrong ones from one address; None: any number.
        proxies: whose X-Forwarded-For is believed.
        hosts: names that this server has. Where none are given, only an open server looks: a foreign page's
            browser knows no password of it.
    """

    access: Access
    buckets: Buckets
    requests: Rate | None = None
    passwords: Rate | None = None
    proxies: Sequence[Network] = ()
    hosts: Sequence[str] = ()

    @classmethod
    def from_settings(cls, settings: Settings, access: Access, buckets: Buckets) -> Self:
        """As configured."""
        often, wrong = settings.rate_limit, settings.password_limit
        return cls(
            access,
            buckets,
            Rate(often, max(1.0, often / 60 * BURST_SECONDS)) if often else None,
            Rate(wrong, max(1.0, min(PASSWORD_BURST, wrong))) if wrong else None,
            tuple(parse_network(proxy) for proxy in settings.trusted_proxies),
            settings.host_names,
        )

    def client(self, asked: Asked) -> Client:
        """Where a request comes from, before it is known who asks."""
        return Client("", client_address(asked.peer, asked.forwarded, self.proxies))

    def admit(self, asked: Asked) -> Client:
        """Let a request in.

        Raises:
            WrongHost: another name was asked.
            TooManyRequests: too many, or too many wrong passwords; a right one does not help then, or else
                guessing would go on.
            Unauthorized: no credentials, or wrong ones.
        """
        if (self.hosts or self.access.is_open) and not is_known_host(asked.host, self.hosts):
            raise WrongHost(
                "this server is asked by a name that it does not know; its operator can add it to "
                "EDGETAM_HOST_NAMES"
            )
        address = self.client(asked).address
        try:
            found = self._known(asked.authorization, address)
        except Unauthorized:
            self._count(address)
            raise
        self._count(f"{found.who}@{address}" if found.who else address)
        return Client(found.who, address, found.project)

    def _known(self, authorization: str | None, address: str) -> Visitor:
        """Who it is; a wrong password is counted, no password is none."""
        guesses = self.passwords if authorization and not self.access.is_open else None
        if guesses and (wait := self.buckets.ask("look", f"passwords:{address}", guesses)):
            raise TooManyRequests("passwords", "too many wrong passwords came from this address", wait)
        try:
            return self.access.check(authorization)
        except Unauthorized:
            if guesses:
                self.buckets.ask("charge", f"passwords:{address}", guesses)
            raise

    def _count(self, name: str) -> None:
        if self.requests and (wait := self.buckets.ask("take", f"requests:{name}", self.requests)):
            limit = f"{self.requests.per_minute:,.0f}"
            raise TooManyRequests("requests", f"more than {limit} requests a minute of one client", wait)
