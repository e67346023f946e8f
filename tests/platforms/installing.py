"""Where the real platforms are installed, and what it means when that fails."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from backend.demo_programs import ProgramFailed

CACHE = Path(__file__).parents[2] / ".platforms"
Installed = TypeVar("Installed")


def required(install: Callable[[], Installed]) -> Installed:
    """What `install` returns; what cannot be installed fails in CI, and is a reason to skip elsewhere."""
    try:
        return install()
    except (OSError, subprocess.SubprocessError, ProgramFailed) as error:
        output = getattr(error, "output", None) or b""
        reason = f"{error}\n{output.decode(errors='replace')[-2000:]}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
