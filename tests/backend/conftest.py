"""A Redis for each file of tests, and in it an empty queue for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.embedded_redis import EmbeddedRedis
from backend.queue import JobQueue
from tests.backend.queue_fixtures import new_queue


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis.url


@pytest.fixture
def queue(url: str) -> JobQueue:
    return new_queue(url)
