"""Which machine this is, and what it can do at most."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

SIDE = 2048  # of the matrices whose product is timed
PRODUCTS = 6  # of which the fastest counts: nothing computes faster than undisturbed


@dataclass(frozen=True)
class Machine:
    """Facts for the foot of a table.

    Attributes:
        processor, system: names.
        cores: that this process may use.
        threads: that it does use.
        peak_fp32, peak_bf16: GFLOP/s of large matrix products in PyTorch.
        torch: its version.
    """

    processor: str
    system: str
    cores: int
    threads: int
    peak_fp32: float
    peak_bf16: float
    torch: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def this_machine() -> Machine:
    """Ask, and measure; takes a second."""
    return Machine(
        processor=_processor(),
        system=f"{platform.system()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        peak_fp32=_peak(torch.float32),
        peak_bf16=_peak(torch.bfloat16),
        torch=torch.__version__,
    )


def peak_memory() -> float:
    """MiB that this process held at most so far."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / 2**20 if sys.platform == "darwin" else held / 2**10


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _peak(kind: torch.dtype) -> float:
    left, right = (torch.rand(SIDE, SIDE).to(kind) for _ in range(2))
    best = float("inf")
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best / 1e9
