"""The parts in PyTorch: eager, which is the reference, or compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import runtime_parts
from edgetam_model.runtime.graphs import Graph, kept_single

BATCHES = (16, 8, 4, 2, 1)  # powers of two, so that at most five graphs of a part are ever compiled


class TorchBackend:
    """Runs the parts where the model is.

    Args:
        model: fused, in eval mode, float32.
        compiled: by TorchInductor; on a GPU with CUDA graphs. Each graph compiles when it is first run.
        bf16: matrix products in bfloat16 but for the parts of `kept_single`.
    """

    def __init__(self, model: EdgeTAM, *, compiled: bool = False, bf16: bool = False) -> None:
        self.device, self.compiled, self.bf16 = model.device, compiled, bf16
        self._single = kept_single(model.config)
        self._parts: dict[str, Callable[..., Any]] = dict(runtime_parts(model))
        if compiled:
            mode = "reduce-overhead" if self.device.type == "cuda" else None
            self._parts = {
                name: torch.compile(part, mode=mode, dynamic=False) for name, part in self._parts.items()
            }

    @property
    def name(self) -> str:
        """See `Backend`."""
        kind = "compiled PyTorch" if self.compiled else "PyTorch parts"
        return f"{kind}, {'bf16' if self.bf16 else 'fp32'}, {self.device}"

    @property
    def batches(self) -> tuple[int, ...]:
        """See `Backend`."""
        return BATCHES

    @property
    def own_threads(self) -> bool:
        """See `Backend`."""
        return False

    def run(self, graph: Graph, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `Backend`."""
        half = self.bf16 and graph.part not in self._single
        if self.compiled and self.device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            outputs = self._parts[graph.part](*inputs)
        # A CUDA graph writes its next answer over this one.
        return [out.float().clone() if self.compiled else out.float() for out in outputs]
