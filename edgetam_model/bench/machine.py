"""Which machine this is, and what it can do at most."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgetam_model.runtime.choosing import has_openvino

SIDE = 2048  # of the matrices whose product is timed
PRODUCTS = 6  # of which the fastest counts: nothing computes faster than undisturbed


@dataclass(frozen=True)
class Machine:
    """Facts for the foot of a table.

    Attributes:
        processor, system: names.
        cores: that this process may use.
        threads: that it does use.
        peak_fp32, peak_bf16: GFLOP/s of large matrix products, by PyTorch or OpenVINO, whichever is faster.
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
    """Ask, and measure; takes a second or two."""
    threads = torch.get_num_threads()
    return Machine(
        processor=_processor(),
        system=f"{platform.system()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=threads,
        peak_fp32=max(_torch_peak(torch.float32), _openvino_peak("f32", threads)),
        peak_bf16=max(_torch_peak(torch.bfloat16), _openvino_peak("bf16", threads)),
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


def _torch_peak(kind: torch.dtype) -> float:
    left, right = (torch.rand(SIDE, SIDE).to(kind) for _ in range(2))
    return _rate(lambda: left @ right)


def _openvino_peak(kind: str, threads: int) -> float:
    """0 without OpenVINO."""
    if not has_openvino():
        return 0.0
    import openvino
    from openvino import opset13 as operations

    left = operations.parameter([SIDE, SIDE], np.float32)
    right = operations.constant(np.random.default_rng(0).random((SIDE, SIDE), np.float32))
    # The sum keeps the answer small: handing it out is no part of the product.
    product = operations.reduce_sum(operations.matmul(left, right, False, False), np.array([1]))
    options = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": threads}
    made = openvino.Core().compile_model(openvino.Model([product], [left]), "CPU", options)
    request, given = made.create_infer_request(), np.ones((SIDE, SIDE), np.float32)
    return _rate(lambda: request.infer([given], share_inputs=True))


def _rate(product: Callable[[], object]) -> float:
    """GFLOP/s of the fastest; the first one prepares."""
    product()
    best = float("inf")
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best / 1e9
