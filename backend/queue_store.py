"""One Redis as the queue sees it: the connection, the keys, the scripts, and its errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from redis import ConnectionPool, Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.commands.core import Script
from redis.exceptions import RedisError
from redis.retry import Retry

from backend.jobs import QueueUnavailable
from edgetam_model import InputError

NAMESPACE = "edgetam"
LONGEST_PAUSE = 0.5  # seconds between two tries to reach Redis
T = TypeVar("T")


def connect(url: str, patience: float = 1.0) -> Redis:
    """A client that makes its connections when they are needed, and makes them anew.

    Args:
        url: redis://, rediss:// (TLS) or unix://; may hold a password, which no message repeats.
        patience: about how many seconds a command waits for a Redis that is away.

    Raises:
        InputError: not such an address.
    """
    tries = 4 + round(patience / LONGEST_PAUSE)  # the first four pauses together last 0.6 s
    retry = Retry(ExponentialBackoff(cap=LONGEST_PAUSE, base=0.02), tries)
    try:
        # A lost reply may mean a repeated command: every script gives the same answer when asked again.
        return Redis.from_url(url, retry=retry, socket_timeout=10, socket_connect_timeout=2)
    except ValueError as error:
        raise InputError(
            "REDIS_URL", "expected redis://, rediss:// or unix://, as in redis://host:6379/0"
        ) from error


def impatient(redis: Redis, seconds: float) -> Redis:
    """Another client of the same Redis, which gives up after so many seconds and tries nothing twice."""
    pool = redis.connection_pool
    haste = {"retry": Retry(NoBackoff(), 0), "socket_timeout": seconds, "socket_connect_timeout": seconds}
    return Redis(connection_pool=ConnectionPool(pool.connection_class, **{**pool.connection_kwargs, **haste}))


@contextmanager
def reaching_redis() -> Iterator[None]:
    """Turn what the client raises into `QueueUnavailable`, without the address (it may hold a password)."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise QueueUnavailable(f"Redis cannot be reached or refuses ({type(error).__name__})") from error


class Store:
    """The keys and scripts of one queue in one Redis.

    Args:
        redis: from `connect`. A single server or a primary with replicas; not a Redis cluster.
        namespace: what every key begins with, so that several services can share a Redis.
    """

    def __init__(self, redis: Redis, namespace: str = NAMESPACE) -> None:
        self.redis = redis
        self.namespace = namespace
        self._scripts: dict[str, Script] = {}

    def key(self, *parts: str) -> str:
        """`key("job", id)` → `edgetam:job:ID`."""
        return ":".join((self.namespace, *parts))

    def run(self, script: str, *args: str | bytes | float) -> Any:
        """Run one of `queue_scripts`; Redis learns it again by itself after a restart.

        Half of a surrogate pair, which JSON may hold and UTF-8 may not, is written as `\\udcff`.

        Raises:
            QueueUnavailable: as everywhere here, when Redis cannot be reached.
        """
        known = self._scripts.get(script) or self._scripts.setdefault(
            script, self.redis.register_script(script)
        )
        plain = [arg.encode("utf-8", "backslashreplace") if isinstance(arg, str) else arg for arg in args]
        with reaching_redis():
            return known(keys=[self.namespace], args=plain)

    def ask(self, answer: object, kind: type[T]) -> T:
        """The client's answer with its type: its own types also allow for an asynchronous client."""
        if not isinstance(answer, kind):
            raise QueueUnavailable(f"Redis answered with {type(answer).__name__}, expected {kind.__name__}")
        return answer
