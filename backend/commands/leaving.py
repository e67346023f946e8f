"""How a process ends whose threads still compute."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn


def leave() -> NoReturn:
    """End here and now, all else being closed: an interpreter that ends while a thread computes aborts, or
    takes files away from it."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
