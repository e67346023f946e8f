"""`edgetam` with names of our own: `python -m tests.hostile.hooked serve …`.

The hook sits where the system would be asked (`socket.getaddrinfo`): everything above it is the product's.
HOSTILE_NAMES holds JSON: name → the addresses of its first answer, of its second, …; the last one stays.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgetam_model import cli

NAMES = "HOSTILE_NAMES"


def hook(names: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Answer for these names, and let the system answer for all others."""
    asked: Counter[str] = Counter()
    system: Any = socket.getaddrinfo

    def answer(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host not in names:
            return system(host, port, *args, **more)
        turns = names[host]
        addresses = turns[min(asked[host], len(turns) - 1)]
        asked[host] += 1
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [entry for address in addresses for entry in system(address, port, *args, **more)]

    socket.getaddrinfo = answer


if __name__ == "__main__":
    hook(json.loads(os.environ.get(NAMES, "{}")))
    sys.exit(cli.main(sys.argv[1:]))
