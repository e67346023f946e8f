"""Looks at a server's /health again and again, from its own process: `python -m tests.hostile.health URL`.

One line for each look: the seconds that it took. A fuzzer's own process would measure its own work as well.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.chaos.programs import ROOT

LOOK = 0.1  # seconds between two looks
FAILED = 100.0


@contextmanager
def watching(url: str) -> Iterator[list[float]]:
    """Look while the block runs; the list has the seconds of each look after it."""
    command = [sys.executable, "-m", "tests.hostile.health", url]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seconds = [float(process.stdout.readline())]  # it looks by now
    try:
        yield seconds
    finally:
        process.terminate()
        told, _ = process.communicate()
        seconds += [float(line) for line in told.splitlines()[:-1]]  # the last one may be cut


def look(host: str, port: int) -> float:
    """Seconds that one answer took."""
    begun = time.monotonic()
    try:
        connection = http.client.HTTPConnection(host, port, timeout=10)
        connection.request("GET", "/health")
        good = connection.getresponse().status == 200
        connection.close()
    except OSError:
        good = False
    return time.monotonic() - begun if good else FAILED


def main(url: str) -> None:
    parts = urlsplit(url)
    while True:
        sys.stdout.write(f"{look(parts.hostname or '', parts.port or 80):.4f}\n")
        sys.stdout.flush()
        time.sleep(LOOK)


if __name__ == "__main__":
    main(sys.argv[1])
