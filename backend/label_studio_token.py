"""Label Studio's tokens: legacy ones are sent as they are, personal access tokens are exchanged.

A personal access token is a JSON web token of the type "refresh"; the access tokens it is exchanged for live
some minutes. Only its claims are read, to know the kind and the end: nothing is decided by them.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

RENEW_BEFORE_S = 30.0
UNKNOWN_LIFE_S = 240.0  # of an access token that does not say; Label Studio's live 5 minutes


class Token:
    """One token of either kind, as the header that Label Studio wants at this moment.

    Args:
        secret: legacy token, personal access token, or access token.
        exchange: turns a personal access token into an access token.
    """

    def __init__(self, secret: SecretStr, exchange: Callable[[str], str]) -> None:
        self._secret = secret
        self._exchange = exchange
        self._lock = threading.Lock()
        self._access = ""
        self._expires = 0.0  # time.time()

    def header(self, spent: str | None = None) -> str:
        """The Authorization header.

        Args:
            spent: a header that was refused: it is exchanged anew, unless that has happened meanwhile.
        """
        secret = self._secret.get_secret_value()
        kind = _jwt_claims(secret)
        if kind is None:
            return f"Token {secret}"
        if kind.get("token_type") == "access":
            return f"Bearer {secret}"
        with self._lock:
            if time.time() > self._expires - RENEW_BEFORE_S or spent == f"Bearer {self._access}":
                self._access = self._exchange(secret)
                expires = (_jwt_claims(self._access) or {}).get("exp")
                if not isinstance(expires, int | float):
                    expires = time.time() + UNKNOWN_LIFE_S
                self._expires = expires
            return f"Bearer {self._access}"


def _jwt_claims(token: str) -> dict[str, Any] | None:
    """The claims inside a JSON web token, not verified; None for any other text."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None
