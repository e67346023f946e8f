"""States in Redis, for sites that do not want half a megabyte per object and frame to pass the browser.

They are lost with that Redis, and every replica has to reach it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cvat_function.engine import ModelNotReady
from cvat_function.tracker.state import ANEW
from edgetam_model import EdgeTAMError, InputError

if TYPE_CHECKING:
    import redis

PREFIX = "edgetam:state:"
KEPT = 8 * 3600  # seconds for which CVAT takes a state back
REPLACED = 600  # seconds for which a replaced one stays: CVAT gives a request 120, and then people try again
WAIT = 5.0  # seconds for Redis to answer
KEY_BYTES = 16


class StatesNotReady(ModelNotReady):
    """Redis does not answer: 503, since a later request may work."""


class RedisSettings(BaseModel):
    """Where Redis is, by the names that CVAT's own deploy scripts set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="localhost", validation_alias="CVAT_FUNCTIONS_REDIS_HOST")
    port: int = Field(default=6379, ge=1, le=65535, validation_alias="CVAT_FUNCTIONS_REDIS_PORT")
    password: str | None = Field(default=None, validation_alias="CVAT_FUNCTIONS_REDIS_PASSWORD", repr=False)


class RedisStates:
    """`States` whose text is a key. Every step writes a new one, so that a step can be asked for again.

    Args:
        client: of a Redis, with `decode_responses` off.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def put(self, blob: bytes) -> str:
        """A fresh key that nobody can guess.

        Raises:
            StatesNotReady: Redis does not answer.
        """
        key = secrets.token_hex(KEY_BYTES)
        with _answering():
            self._client.set(PREFIX + key, blob, ex=KEPT)
        return key

    def get(self, text: str) -> bytes:
        """The bytes.

        Raises:
            InputError: no key, or nothing is kept under it.
            StatesNotReady: Redis does not answer.
        """
        key = _checked(text)
        with _answering():
            blob = self._client.get(PREFIX + key)
        if not isinstance(blob, bytes):
            raise InputError("state", f"not kept any more: {ANEW}")
        return blob

    def replace(self, text: str) -> None:
        """Let it go soon.

        Raises:
            StatesNotReady: Redis does not answer.
        """
        key = _checked(text)
        with _answering():
            self._client.expire(PREFIX + key, REPLACED)


@contextmanager
def _answering() -> Iterator[None]:
    import redis

    try:
        yield
    except redis.RedisError as error:
        raise StatesNotReady(f"Redis does not keep the states: {error}") from error


def open_redis(environ: Mapping[str, str]) -> RedisStates:
    """`RedisStates` on the Redis that the environment names; it is connected to when it is needed.

    Raises:
        InputError: a variable with a wrong value.
        EdgeTAMError: the package `redis` is not installed.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise EdgeTAMError("states in Redis need its package: pip install redis") from error
    names = [str(field.validation_alias) for field in RedisSettings.model_fields.values()]
    given = {name: environ[name] for name in names if environ.get(name)}
    try:
        settings = RedisSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise InputError(str(first["loc"][0]), first["msg"]) from error
    client = redis.Redis(
        host=settings.host,
        port=settings.port,
        password=settings.password,
        socket_timeout=WAIT,
        socket_connect_timeout=WAIT,
        retry=Retry(NoBackoff(), 1),  # a connection that lay idle for too long; its own default takes 5 s
    )
    return RedisStates(client)


def _checked(text: str) -> str:
    if len(text) != 2 * KEY_BYTES or not set(text) <= set("0123456789abcdef"):
        raise InputError("state", f"expected the key of a state in Redis: {ANEW}")
    return text
