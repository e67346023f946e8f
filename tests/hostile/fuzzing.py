"""What the fuzzers share: how many examples, damaged JSON, and a client that holds answers to the rules."""

from __future__ import annotations

import copy
import http.client
import json
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.cvat_function.tracker.test_fuzz import mutate, places

EXAMPLES = int(os.environ.get("EDGETAM_FUZZ", "500"))  # requests of a door
REFUSALS = frozenset({400, 404, 405, 409, 413, 415})
many = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    derandomize=EXAMPLES <= 500,  # the short run is always the same, the long one never
    suppress_health_check=list(HealthCheck),
)


@st.composite
def damaged(draw: st.DrawFn, *documents: Any, most: int = 4) -> Any:
    """One of the documents with up to `most` changes: values gone, doubled, moved, odd, of other types."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    rng = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(0, most))):
        if places(document):
            mutate(rng, document)
    return document


def text_of(document: Any) -> bytes:
    """As a client writes it, lone surrogates and NaN included."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


@dataclass
class Client:
    """Asks a server over one connection. `statuses`: of the answers so far."""

    host: str
    port: int
    statuses: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection(self.host, self.port, timeout=60)  # opened when used

    def ask(
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """Status and body; asserts what holds for every answer."""
        self._connection.request(method, path, body, {"Content-Type": content_type})
        answer = self._connection.getresponse()
        status, data = answer.status, answer.read()
        self.statuses[status] += 1
        assert b"Traceback" not in data, data
        assert status in (200, 201) or status in REFUSALS, (status, data)
        if status in REFUSALS:
            problem = json.loads(data)["error"]["problem"]
            assert problem, data
            assert len(problem) < 1000, data
        return status, data

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
